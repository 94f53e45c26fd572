//! Shows log files, which are readable from outside the lab.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use super::client::ask;
use crate::protocol::Request;
use crate::state::StateDir;

const PAUSE: Duration = Duration::from_millis(100);

/// Prints the log of `target`, and goes on with it when asked to.
pub(super) fn logs(
    state: &StateDir,
    target: String,
    namespace: String,
    container: Option<String>,
    follow: bool,
) -> anyhow::Result<ExitCode> {
    let path = if target == "lab" {
        state.logs().join("lab.log")
    } else {
        let answer = ask(
            state,
            &Request::LogFile {
                target,
                namespace,
                container,
            },
        )?;
        if let Some(problem) = answer.problems.first() {
            bail!("{problem}");
        }
        answer.file.context("the lab did not name a log")?
    };
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound && !follow => {
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        match io::stdout()
            .write_all(&buffer[..length])
            .and_then(|()| io::stdout().flush())
        {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            result => result?,
        }
        if length == 0 {
            if !follow || !state.root().exists() {
                return Ok(ExitCode::SUCCESS);
            }
            std::thread::sleep(PAUSE);
        }
    }
}
