//! An established session without its socket: records in, records out.
//!
//! rustls has made the handshake and keeps the secrets' schedule; this protects the records. rustls
//! alone copies every byte twice on its way in and allocates for every record.

use std::io::IoSlice;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, Error, ExtractedSecrets, HandshakeType,
    InvalidMessage, PeerMisbehaved,
};

use super::buffer::Output;
use super::record::{Content, FRAGMENT, HEADER, OVERHEAD, Protection};

/// Records without data that a peer may send in a row.
const QUIET: u8 = 32;
/// The longest message after the handshake; a ticket is the longest that makes sense.
const MESSAGE: usize = 1 << 16;
const ALERT_WARNING: u8 = 1;
const ALERT_FATAL: u8 = 2;
const KEY_UPDATE: u8 = 24;

/// The schedule of a session's secrets.
pub(super) enum Schedule {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

/// What is to be sent, taken from the front.
pub(super) struct Plaintext<'a> {
    front: &'a [u8],
    later: &'a [IoSlice<'a>],
    left: usize,
}

impl<'a> Plaintext<'a> {
    pub(super) fn new(parts: &'a [IoSlice<'a>]) -> Self {
        let mut plaintext = Self {
            front: &[],
            later: parts,
            left: parts.iter().map(|part| part.len()).sum(),
        };
        plaintext.settle();
        plaintext
    }

    /// How much is left.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// At most `n` bytes that lie together, and at least one while any are left.
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.front.split_at(n.min(self.front.len()));
        self.front = rest;
        self.left -= taken.len();
        self.settle();
        taken
    }

    fn settle(&mut self) {
        while self.front.is_empty()
            && let [next, later @ ..] = self.later
        {
            self.front = next;
            self.later = later;
        }
    }
}

/// Both directions of an established session.
pub(super) struct Traffic {
    pub(super) seal: Protection,
    open: Protection,
    pub(super) schedule: Schedule,
    /// The beginning of a handshake message whose end is in a later record.
    message: Vec<u8>,
    quiet: u8,
    /// The peer wants us to seal with new keys before we send more data.
    renewal_due: bool,
    ended: bool,
    told_end: bool,
}

impl Traffic {
    /// A session that goes on with these secrets.
    ///
    /// # Errors
    /// When they are not those of AES-GCM.
    pub(super) fn new(secrets: &ExtractedSecrets, schedule: Schedule) -> Result<Self, Error> {
        Ok(Self {
            seal: Protection::new(secrets.tx.0, &secrets.tx.1)?,
            open: Protection::new(secrets.rx.0, &secrets.rx.1)?,
            schedule,
            message: Vec::new(),
            quiet: 0,
            renewal_due: false,
            ended: false,
            told_end: false,
        })
    }

    /// Whether the peer has said that nothing follows.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Seals one record of what is left of `plaintext`.
    ///
    /// # Errors
    /// When the cipher fails.
    pub(super) fn send(
        &mut self,
        plaintext: &mut Plaintext<'_>,
        output: &mut Output,
    ) -> Result<(), Error> {
        if self.renewal_due || self.seal.is_worn() {
            self.renew(output)?;
        }
        let length = plaintext.left.min(FRAGMENT);
        let record = output.extend(length + OVERHEAD);
        if plaintext.front.len() >= length {
            let front = plaintext.take(length);
            return self.seal.seal(Content::Data, front, record);
        }
        let mut place = &mut record[HEADER..HEADER + length];
        while !place.is_empty() {
            let part = plaintext.take(place.len());
            let (now, later) = place.split_at_mut(part.len());
            now.copy_from_slice(part);
            place = later;
        }
        self.seal.seal_in_place(Content::Data, record)
    }

    /// Opens a whole record where it is. Gives the length of its data, right after the header.
    ///
    /// # Errors
    /// When the peer does what it must not; [`Traffic::fail`] tells it.
    pub(super) fn receive(&mut self, record: &mut [u8]) -> Result<usize, Error> {
        let (content, length) = self.open.open(record)?;
        self.opened(content, &record[HEADER..HEADER + length])
    }

    /// Opens a whole record into `out`, which is as long as [`super::record::room`] says. Gives
    /// the length of its data.
    ///
    /// # Errors
    /// As [`Traffic::receive`].
    pub(super) fn receive_into(&mut self, record: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let (content, length) = self.open.open_into(record, out)?;
        self.opened(content, &out[..length])
    }

    /// Says that nothing follows; once.
    ///
    /// # Errors
    /// When the cipher fails.
    pub(super) fn end(&mut self, output: &mut Output) -> Result<(), Error> {
        if std::mem::replace(&mut self.told_end, true) {
            return Ok(());
        }
        let close = [ALERT_WARNING, AlertDescription::CloseNotify.into()];
        self.control(Content::Alert, &close, output)
    }

    /// Tells the peer why the session ends here.
    pub(super) fn fail(&mut self, error: &Error, output: &mut Output) {
        let description = match error {
            Error::DecryptError => AlertDescription::BadRecordMac,
            Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
            Error::InvalidMessage(_) => AlertDescription::DecodeError,
            Error::EncryptError | Error::General(_) => AlertDescription::InternalError,
            // It has told us, and reads no answer.
            Error::AlertReceived(_) => return,
            _ => AlertDescription::UnexpectedMessage,
        };
        self.told_end = true;
        // The session ends whether this can be said or not.
        let _ = self.control(Content::Alert, &[ALERT_FATAL, description.into()], output);
    }

    /// Gives the length of the data in `payload`: all of it or nothing.
    fn opened(&mut self, content: Content, payload: &[u8]) -> Result<usize, Error> {
        if content == Content::Data && !payload.is_empty() {
            self.quiet = 0;
        } else {
            self.quiet += 1;
            if self.quiet > QUIET {
                return Err(PeerMisbehaved::TooManyEmptyFragments.into());
            }
        }
        if content != Content::Handshake && !self.message.is_empty() {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        match content {
            Content::Data => return Ok(payload.len()),
            Content::Alert => self.alerted(payload)?,
            Content::Handshake => self.messages(payload)?,
        }
        Ok(0)
    }

    fn alerted(&mut self, payload: &[u8]) -> Result<(), Error> {
        let &[_, description] = payload else {
            return Err(InvalidMessage::MessageTooShort.into());
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => self.ended = true,
            // Followed by close_notify (RFC 8446 section 6.1).
            AlertDescription::UserCanceled => {}
            other => return Err(Error::AlertReceived(other)),
        }
        Ok(())
    }

    /// Acts on handshake messages. They may be cut by records, and several may share one.
    fn messages(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut bytes = std::mem::take(&mut self.message);
        bytes.extend_from_slice(payload);
        let mut rest = &bytes[..];
        while let &[kind, a, b, c, ref after @ ..] = rest {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > MESSAGE {
                return Err(InvalidMessage::HandshakePayloadTooLarge.into());
            }
            let Some((body, later)) = after.split_at_checked(length) else {
                break;
            };
            rest = later;
            match (HandshakeType::from(kind), &mut self.schedule) {
                (HandshakeType::NewSessionTicket, Schedule::Client(client)) => {
                    client.handle_new_session_ticket(body)?;
                }
                // New keys begin with a new record (RFC 8446 section 5.1).
                (HandshakeType::KeyUpdate, _) if !rest.is_empty() => {
                    return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
                }
                (HandshakeType::KeyUpdate, _) => self.peer_renewed(body)?,
                (got_type, _) => {
                    return Err(Error::InappropriateHandshakeMessage {
                        expect_types: vec![HandshakeType::KeyUpdate],
                        got_type,
                    });
                }
            }
        }
        self.message = rest.to_vec();
        Ok(())
    }

    /// The peer seals with new keys from here on, and may want us to do so too: before the next data, and once
    /// for all it has asked meanwhile (RFC 8446 section 4.6.3). So it cannot make us collect answers.
    fn peer_renewed(&mut self, body: &[u8]) -> Result<(), Error> {
        match body {
            [0] => {}
            [1] => self.renewal_due = true,
            _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
        }
        let (sequence, secrets) = self.schedule.next_receive()?;
        self.open = Protection::new(sequence, &secrets)?;
        Ok(())
    }

    /// Seals with new keys from here on.
    pub(super) fn renew(&mut self, output: &mut Output) -> Result<(), Error> {
        self.control(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 0], output)?;
        let (sequence, secrets) = self.schedule.next_send()?;
        self.seal = Protection::new(sequence, &secrets)?;
        self.renewal_due = false;
        Ok(())
    }

    fn control(
        &mut self,
        content: Content,
        payload: &[u8],
        output: &mut Output,
    ) -> Result<(), Error> {
        let record = output.extend(payload.len() + OVERHEAD);
        self.seal.seal(content, payload, record)
    }
}

impl Schedule {
    pub(super) fn next_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(client) => client.update_tx_secret(),
            Self::Server(server) => server.update_tx_secret(),
        }
    }

    fn next_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(client) => client.update_rx_secret(),
            Self::Server(server) => server.update_rx_secret(),
        }
    }
}
