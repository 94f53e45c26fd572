//! One plain TCP conversation: standard input goes out, what comes back is printed.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use anyhow::Context as _;

use super::options::Tcp;
use super::target;

pub(super) fn run(arguments: &Tcp) -> anyhow::Result<()> {
    let resolved = target::resolve(&arguments.address, arguments.family, arguments.timeout)?;
    let mut stream = connect(resolved.addresses(), arguments)?;
    stream.set_read_timeout(Some(arguments.timeout))?;
    let sender = stream.try_clone()?;
    let (text, keep_open) = (arguments.send.clone(), arguments.keep_open);
    // Not joined: the server may end the conversation while we wait for input.
    std::thread::spawn(move || {
        // What went wrong while sending shows in what is received.
        let _ = send(sender, text, keep_open);
    });
    let mut out = io::stdout().lock();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                out.write_all(&buffer[..read])?;
                out.flush()?;
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

fn send(mut stream: TcpStream, text: Option<String>, keep_open: bool) -> io::Result<()> {
    match text {
        Some(text) => stream.write_all(text.as_bytes())?,
        None => drop(io::copy(&mut io::stdin().lock(), &mut stream)?),
    }
    if keep_open {
        Ok(())
    } else {
        stream.shutdown(Shutdown::Write)
    }
}
