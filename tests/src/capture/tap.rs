//! A capture of a lab's link, while something happens there.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};

use super::HEADER;
use crate::harness::{Lab, program};

/// How long late frames are waited for.
const LATE: Duration = Duration::from_millis(200);

/// A capture that runs.
#[derive(Debug)]
pub struct Tap {
    process: Child,
    reader: JoinHandle<std::io::Result<Vec<u8>>>,
}

impl Tap {
    /// Starts to listen on the link of `node/NAME` or `machine/NAME`; returns when it does.
    ///
    /// # Errors
    /// It cannot be listened to.
    pub fn start(lab: &Lab, target: &str) -> anyhow::Result<Self> {
        let lab_program = program("lab");
        let mut command = Command::new(&lab_program);
        command
            .args(["--name", lab.name(), "exec", target, "--"])
            .arg(&lab_program)
            .args(["__capture", "eth0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = command.spawn().context("cannot listen on the wire")?;
        let mut out = process.stdout.take().context("standard output is piped")?;
        let mut header = [0; HEADER.len()];
        out.read_exact(&mut header)
            .context("cannot listen on the wire")?;
        let reader = std::thread::spawn(move || {
            let mut file = header.to_vec();
            out.read_to_end(&mut file).map(|_| file)
        });
        Ok(Self { process, reader })
    }

    /// Ends the capture and returns its file.
    ///
    /// # Errors
    /// It has failed.
    pub fn stop(mut self) -> anyhow::Result<Vec<u8>> {
        // Connections are closed by now, but their last frames may still be on their way.
        std::thread::sleep(LATE);
        self.process.kill()?;
        self.process.wait()?;
        match self.reader.join() {
            Ok(file) => Ok(file?),
            Err(_) => bail!("the reader of the capture panicked"),
        }
    }
}
