//! One plain TCP conversation: standard input goes out, what comes back is printed. It ends as it is told to: with our end,
//! with the server's, with ours after the server's, or with a reset.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use socket2::SockRef;

use super::options::Tcp;
use super::target;

pub(super) fn run(arguments: &Tcp) -> anyhow::Result<()> {
    let resolved = target::resolve(&arguments.address, arguments.family, arguments.timeout)?;
    let mut stream = connect(resolved.addresses(), arguments)?;
    stream.set_read_timeout(Some(arguments.timeout))?;
    let sender = Arc::new(Sender {
        stream: stream.try_clone()?,
        failure: Mutex::new(None),
    });
    let (text, keep_open) = (arguments.send.clone(), arguments.keep_open);
    let sending = sender.clone();
    // Not joined: the server may end the conversation while we wait for input.
    std::thread::spawn(move || sending.run(text, keep_open));
    let mut out = io::stdout().lock();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => {
                if let Some(text) = &arguments.send_after {
                    sender.send_and_end(text);
                }
                return match sender.failure.lock().take() {
                    Some(error) => Err(error).context(format!("sending to {}", arguments.address)),
                    None if arguments.reset => {
                        anyhow::bail!("{} ended before it could be reset", arguments.address)
                    }
                    None => Ok(()),
                };
            }
            Ok(read) => {
                out.write_all(&buffer[..read])?;
                out.flush()?;
                if arguments.reset {
                    // The kernel resets what is closed and may not linger.
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                anyhow::bail!(
                    "{} sent nothing for {:?}",
                    arguments.address,
                    arguments.timeout
                )
            }
            Err(error) => {
                return Err(error).context(format!("receiving from {}", arguments.address));
            }
        }
    }
}

fn connect(addresses: &[std::net::SocketAddr], arguments: &Tcp) -> anyhow::Result<TcpStream> {
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(address, arguments.timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some((address, error)),
        }
    }
    let (address, error) = last.context("no address to connect to")?;
    Err(error).with_context(|| format!("connecting to {} ({address})", arguments.address))
}

/// The sending half. The kernel reports a reset to one of the halves only, so the receiving one must be able to ask.
struct Sender {
    stream: TcpStream,
    /// Locked while a call into the kernel is under way, so that its outcome is known once the lock is free.
    failure: Mutex<Option<io::Error>>,
}

impl Sender {
    fn run(&self, text: Option<String>, keep_open: bool) {
        let sent = match text {
            Some(text) => self.call(|mut stream| stream.write_all(text.as_bytes())),
            None => self.copy_input(),
        };
        if sent && !keep_open {
            self.call(|stream| stream.shutdown(Shutdown::Write));
        }
    }

    fn send_and_end(&self, text: &str) {
        if self.call(|mut stream| stream.write_all(text.as_bytes())) {
            self.call(|stream| stream.shutdown(Shutdown::Write));
        }
    }

    fn copy_input(&self) -> bool {
        let mut input = io::stdin().lock();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match input.read(&mut buffer) {
                Ok(0) | Err(_) => return true,
                Ok(read) => {
                    if !self.call(|mut stream| stream.write_all(&buffer[..read])) {
                        return false;
                    }
                }
            }
        }
    }

    fn call(&self, action: impl FnOnce(&TcpStream) -> io::Result<()>) -> bool {
        let mut failure = self.failure.lock();
        match action(&self.stream) {
            Ok(()) => true,
            Err(error) => {
                *failure = Some(error);
                false
            }
        }
    }
}
