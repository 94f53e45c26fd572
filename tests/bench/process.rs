//! What /proc says of the proxies: CPU time and memory.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// The running processes of one program file.
///
/// They are found by the file's device and inode, which hold in every mount and process namespace. Every lab starts a copy
/// of its own, so that two labs with the same proxy are told apart.
#[derive(Debug, Clone)]
pub(crate) struct Processes {
    program: PathBuf,
}

impl Processes {
    pub(crate) fn of(program: PathBuf) -> Self {
        Self { program }
    }

    /// Their folders in /proc.
    pub(crate) fn folders(&self) -> anyhow::Result<Vec<PathBuf>> {
        let wanted =
            fs::metadata(&self.program).with_context(|| format!("{}", self.program.display()))?;
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let folder = entry?.path();
            // Processes come and go, and those of other users cannot be seen; neither is one of ours.
            let Ok(program) = fs::metadata(folder.join("exe")) else {
                continue;
            };
            let is_thread_group = folder
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
            if is_thread_group && (program.dev(), program.ino()) == (wanted.dev(), wanted.ino()) {
                found.push(folder);
            }
        }
        if found.is_empty() {
            bail!("no process runs {}", self.program.display());
        }
        Ok(found)
    }

    /// CPU time of all of them so far, user and system.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let ticks_per_second =
            nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
        let mut ticks = 0;
        for folder in self.folders()? {
            let stat = read(&folder.join("stat"))?;
            ticks +=
                parse_ticks(&stat).with_context(|| format!("{}: {stat:?}", folder.display()))?;
        }
        Ok(Duration::from_secs_f64(ticks as f64 / ticks_per_second))
    }

    /// Resident memory of each, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<Vec<u64>> {
        self.folders()?
            .iter()
            .map(|folder| {
                let status = read(&folder.join("status"))?;
                parse_resident(&status).with_context(|| format!("{}: no VmRSS", folder.display()))
            })
            .collect()
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// utime and stime of /proc/PID/stat, fields 14 and 15; the name in field 2 may hold spaces and parentheses (proc(5)).
fn parse_ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 1 0 0 0 120 34 0 0 20 0 4 0 100 1 2";
        assert_eq!(parse_ticks(stat), Some(154));
        assert_eq!(parse_ticks("42 (a"), None);
        assert_eq!(parse_resident("Name:\tz\nVmRSS:\t   12 kB\n"), Some(12_288));
        assert_eq!(parse_resident("Name:\tz\n"), None);
    }

    #[test]
    fn this_process_is_found() {
        let own = Processes::of(std::env::current_exe().expect("a path"));
        assert!(own.memory().expect("memory").iter().all(|bytes| *bytes > 0));
        own.cpu().expect("cpu");
    }
}
