//! The handshake of a session: rustls speaks, this carries it to and from the socket.
//!
//! Records are given to rustls one at a time, so that it never sees one that belongs to what
//! follows the handshake.

use std::io;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CommonState, Error, ExtractedSecrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::record;
use super::traffic::{Schedule, Traffic};
use super::transport::Transport;

/// What a handshake ends with.
pub(super) struct Done {
    pub(super) traffic: Traffic,
    /// The certificates that the peer has shown, now or in the session that was resumed: its leaf first.
    pub(super) peer: Arc<[CertificateDer<'static>]>,
    /// What the peer sent right after it.
    pub(super) read: Vec<u8>,
}

/// Completes the handshake of `session`.
///
/// # Errors
/// When the socket fails, rustls refuses the peer, which is told so, or `h2` is not agreed on.
pub(super) async fn complete<S: Session>(
    transport: &mut Transport,
    mut session: S,
) -> io::Result<Done> {
    let mut read = Vec::new();
    let mut offered = 0;
    let mut written = Vec::new();
    loop {
        let (step, discard) = step(&mut session, &mut read[..offered], &mut written);
        read.drain(..discard);
        offered -= discard;
        match step {
            Step::Again => {}
            Step::Receive => offered += next_record(transport, &mut read, offered).await?,
            Step::Send => {
                transport.write_all(&written).await?;
                written.clear();
            }
            Step::Done if offered == 0 => break,
            Step::Done => return Err(invalid(Error::HandshakeNotComplete)),
            Step::Failed(error) => {
                // The alert that explains it; the error is what counts. rustls gives what it has to
                // say before it looks at anything again.
                while session.common().wants_write() {
                    self::step(&mut session, &mut read[..offered], &mut written);
                }
                transport.write_now(&written);
                return Err(invalid(error));
            }
        }
    }
    let common = session.common();
    if common.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the TLS peer did not negotiate ALPN h2",
        ));
    }
    let peer = common.peer_certificates().unwrap_or_default().into();
    let (secrets, schedule) = session.into_secrets().map_err(invalid)?;
    let traffic = Traffic::new(&secrets, schedule).map_err(invalid)?;
    Ok(Done {
        traffic,
        peer,
        read,
    })
}

enum Step {
    Again,
    Receive,
    Send,
    Done,
    Failed(Error),
}

/// Lets rustls act. Gives what is next and how much of `offered` is done with.
fn step<S: Session>(session: &mut S, offered: &mut [u8], written: &mut Vec<u8>) -> (Step, usize) {
    let UnbufferedStatus { discard, state, .. } = session.process(offered);
    let step = match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => match encode(&mut data, written) {
            Ok(()) => Step::Again,
            Err(error) => Step::Failed(error),
        },
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Step::Send
        }
        Ok(ConnectionState::BlockedHandshake) => Step::Receive,
        Ok(ConnectionState::WriteTraffic(_)) => Step::Done,
        // The peer left, or sent data before the handshake was over.
        Ok(_) => Step::Failed(Error::HandshakeNotComplete),
        Err(error) => Step::Failed(error),
    };
    (step, discard)
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, written: &mut Vec<u8>) -> Result<(), Error> {
    let start = written.len();
    let mut room = 0;
    loop {
        written.resize(start + room, 0);
        match data.encode(&mut written[start..]) {
            Ok(length) => {
                written.truncate(start + length);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => room = needed.required_size,
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
}

/// The length of the record that begins after the first `offered` bytes; reads until it is there.
/// What begins like no record is not waited for: rustls says what is wrong with it.
async fn next_record(
    transport: &mut Transport,
    read: &mut Vec<u8>,
    offered: usize,
) -> io::Result<usize> {
    loop {
        let rest = &read[offered..];
        match record::length_in_handshake(rest) {
            Some(Some(length)) if length <= rest.len() => return Ok(length),
            None => return Ok(rest.len()),
            _ => {}
        }
        if transport.read_buf(read).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer left during the TLS handshake",
            ));
        }
    }
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Either side of a handshake.
pub(super) trait Session {
    type Data;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn common(&self) -> &CommonState;

    fn into_secrets(self) -> Result<(ExtractedSecrets, Schedule), Error>;
}

impl Session for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_secrets(self) -> Result<(ExtractedSecrets, Schedule), Error> {
        let (secrets, schedule): (_, KernelConnection<_>) =
            self.dangerous_into_kernel_connection()?;
        Ok((secrets, Schedule::Client(schedule)))
    }
}

impl Session for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_secrets(self) -> Result<(ExtractedSecrets, Schedule), Error> {
        let (secrets, schedule): (_, KernelConnection<_>) =
            self.dangerous_into_kernel_connection()?;
        Ok((secrets, Schedule::Server(schedule)))
    }
}
