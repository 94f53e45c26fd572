//! The end of an agent that could not learn whether its installation is gone, because the API server did not say.
//!
//! The plugin stays then: no pod is to start outside the mesh while the next agent is on its way. When none comes for
//! long the installation is taken for gone, and the plugin steps aside: otherwise no pod of the node could ever start.
//! How long is counted since the machine started: a wall clock that is set must not let pods start outside the mesh.

use std::io;
use std::path::{Path, PathBuf};

use nix::time::{ClockId, clock_gettime};

/// Seconds. An agent that is replaced is there long before.
const LONG: i64 = 600;

/// Notes that an agent ends in doubt; `socket` is where plugins ask it. A reboot forgets it, as it does the socket.
pub(super) fn note(socket: &Path) -> io::Result<()> {
    note_at(socket, now()?)
}

/// Notes it as of `at`, in seconds since the machine started. A note that was cut off is none that ever ends: it is the next
/// agent that clears it.
pub(super) fn note_at(socket: &Path, at: i64) -> io::Result<()> {
    std::fs::write(file(socket), at.to_string())
}

/// An agent is there again, or knew what to do.
pub(super) fn clear(socket: &Path) -> io::Result<()> {
    match std::fs::remove_file(file(socket)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether the agent that was there is taken for uninstalled.
pub(super) fn is_over(socket: &Path) -> bool {
    now().is_ok_and(|now| is_over_at(socket, now))
}

fn is_over_at(socket: &Path, now: i64) -> bool {
    let noted = std::fs::read_to_string(file(socket)).ok();
    let noted: Option<i64> = noted.and_then(|text| text.parse().ok());
    noted.is_some_and(|noted| now.saturating_sub(noted) >= LONG)
}

/// Seconds since the machine started, suspended or not.
pub(super) fn now() -> io::Result<i64> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.tv_sec())
}

fn file(socket: &Path) -> PathBuf {
    socket.with_extension("undecided")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_long_and_an_agent_that_comes_ends_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("cni.sock");
        assert!(!is_over_at(&socket, 10_000), "no agent was in doubt");
        clear(&socket).expect("nothing to clear");
        note_at(&socket, 100).expect("noted");
        for (now, over) in [(100, false), (600, false), (700, true), (0, false)] {
            assert_eq!(is_over_at(&socket, now), over, "{now}");
        }
        note(&socket).expect("noted");
        assert!(!is_over(&socket), "just now");
        std::fs::write(file(&socket), "long ago").expect("written");
        assert!(!is_over(&socket), "nobody knows since when");
        clear(&socket).expect("cleared");
        assert!(!is_over_at(&socket, 10_000));
    }
}
