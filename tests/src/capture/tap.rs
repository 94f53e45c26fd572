//! A capture of a lab's link, while something happens there.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use parking_lot::Mutex;

use super::{HEADER, contains};
use crate::harness::{Lab, program};

/// How long late frames are waited for.
const LATE: Duration = Duration::from_millis(200);

/// How much is read of it at once.
const PIECE: usize = 1 << 16;

/// A capture that runs, until it is dropped.
#[derive(Debug)]
pub struct Tap {
    process: Child,
    file: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<std::io::Result<()>>>,
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
        let file = Arc::new(Mutex::new(header.to_vec()));
        let seen = file.clone();
        let reader = std::thread::spawn(move || {
            let mut piece = vec![0; PIECE];
            loop {
                match out.read(&mut piece)? {
                    0 => return Ok(()),
                    length => seen.lock().extend_from_slice(&piece[..length]),
                }
            }
        });
        Ok(Self {
            process,
            file,
            reader: Some(reader),
        })
    }

    /// Whether these octets have been seen so far.
    #[must_use]
    pub fn has_seen(&self, octets: &[u8]) -> bool {
        contains(&self.file.lock(), octets)
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
        match self.reader.take().map(JoinHandle::join) {
            Some(Ok(read)) => read?,
            _ => bail!("the reader of the capture panicked"),
        }
        Ok(std::mem::take(&mut *self.file.lock()))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // It may have ended with its lab, or been stopped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
