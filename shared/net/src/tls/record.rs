//! Protection of TLS 1.3 records (RFC 8446 section 5.2), with keys that rustls has agreed on.
//!
//! One value protects one direction between two changes of keys. It must never use a sequence
//! number twice, and nothing it opens may be looked at before it is authenticated.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, PeerMisbehaved};

/// Type, version and length, in the clear.
pub(super) const HEADER: usize = 5;
/// The most plaintext of one record.
pub(super) const FRAGMENT: usize = 1 << 14;
/// What a record is longer than its plaintext, without padding.
pub(super) const OVERHEAD: usize = HEADER + TYPE + TAG;
/// The most that may follow a header.
const CIPHERTEXT: usize = FRAGMENT + 256;
const TYPE: usize = 1;
const TAG: usize = 16;
/// Records that may be sealed before the keys are renewed, half of what AES-GCM allows (RFC 8446 section 5.5).
const RENEW_AFTER: u64 = 1 << 23;

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Content {
    Alert = 21,
    Handshake = 22,
    Data = 23,
}

/// One direction's key and the number of its next record.
pub(super) struct Protection {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Protection {
    /// Protects with `secrets`, from the record numbered `sequence` on.
    ///
    /// # Errors
    /// When the secrets are not those of AES-GCM.
    pub(super) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, Error> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => return Err(Error::General("only AES-GCM is offered".to_owned())),
        };
        let unusable = |_| Error::General("keys of the wrong length".to_owned());
        Ok(Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).map_err(unusable)?),
            iv: iv.as_ref().try_into().map_err(|_| Error::EncryptError)?,
            sequence,
        })
    }

    /// Whether this key has protected as much as it should.
    pub(super) fn is_worn(&self) -> bool {
        self.sequence >= RENEW_AFTER
    }

    /// Writes a record into `out`, which is exactly [`OVERHEAD`] longer than `plaintext`.
    ///
    /// # Errors
    /// When the cipher fails.
    pub(super) fn seal(
        &mut self,
        content: Content,
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<(), Error> {
        let nonce = self.nonce()?;
        let (header, body) = out.split_at_mut(HEADER);
        header.copy_from_slice(&header_of(body.len()));
        let (ciphertext, rest) = body.split_at_mut(plaintext.len());
        self.key
            .seal_out_of_place_scatter(
                nonce,
                Aad::from(&*header),
                plaintext,
                ciphertext,
                &[content as u8],
                rest,
            )
            .map_err(|_| Error::EncryptError)
    }

    /// As [`Protection::seal`], of plaintext that is in its place in the record already.
    ///
    /// # Errors
    /// When the cipher fails.
    pub(super) fn seal_in_place(&mut self, content: Content, out: &mut [u8]) -> Result<(), Error> {
        let nonce = self.nonce()?;
        let (header, body) = out.split_at_mut(HEADER);
        header.copy_from_slice(&header_of(body.len()));
        let (text, rest) = body.split_at_mut(body.len() - TYPE - TAG);
        self.key
            .seal_in_place_scatter(nonce, Aad::from(&*header), text, &[content as u8], rest)
            .map_err(|_| Error::EncryptError)
    }

    /// Opens a whole record where it is. Gives what it carries and the length of that, which
    /// begins right after the header.
    ///
    /// # Errors
    /// When it is not authentic, or carries nothing that may be sent.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(Content, usize), Error> {
        let nonce = self.nonce()?;
        let (header, body) = record.split_at_mut(HEADER);
        let opened = self.key.open_in_place(nonce, Aad::from(&*header), body);
        inner(opened.map_err(|_| Error::DecryptError)?)
    }

    /// Opens a whole record into `out`, which is as long as [`room`] says.
    ///
    /// # Errors
    /// As [`Protection::open`].
    pub(super) fn open_into(
        &mut self,
        record: &[u8],
        out: &mut [u8],
    ) -> Result<(Content, usize), Error> {
        let nonce = self.nonce()?;
        let (header, body) = record.split_at(HEADER);
        let (ciphertext, tag) = body.split_at(body.len() - TAG);
        self.key
            .open_separate_gather(nonce, Aad::from(header), ciphertext, tag, out)
            .map_err(|_| Error::DecryptError)?;
        inner(out)
    }

    /// The next record's (RFC 8446 section 5.3).
    fn nonce(&mut self) -> Result<Nonce, Error> {
        let sequence = self.sequence;
        self.sequence = sequence.checked_add(1).ok_or(Error::EncryptError)?;
        let mut nonce = self.iv;
        for (byte, counted) in nonce[NONCE_LEN - 8..]
            .iter_mut()
            .zip(sequence.to_be_bytes())
        {
            *byte ^= counted;
        }
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// The length of the record that `bytes` begin with, header included; `None` while the header is
/// not all there.
///
/// # Errors
/// When no protected record begins like that.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let &[kind, _, _, high, low, ..] = bytes else {
        return Ok(None);
    };
    if kind != Content::Data as u8 {
        return Err(Error::InappropriateMessage {
            expect_types: vec![ContentType::ApplicationData],
            got_type: kind.into(),
        });
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > CIPHERTEXT {
        return Err(Error::PeerSentOversizedRecord);
    }
    if length < TYPE + TAG {
        return Err(Error::DecryptError);
    }
    Ok(Some(HEADER + length))
}

/// The length of the record that `bytes` begin with while the handshake lasts, header included.
/// `None` when no record begins like that, `Some(None)` while the header is not all there.
pub(super) fn length_in_handshake(bytes: &[u8]) -> Option<Option<usize>> {
    let &[kind, major, _, high, low, ..] = bytes else {
        return Some(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let known = !matches!(ContentType::from(kind), ContentType::Unknown(_));
    let possible = known && major == 3 && length <= CIPHERTEXT;
    possible.then_some(Some(HEADER + length))
}

/// What [`Protection::open_into`] needs for a record of this length.
pub(super) fn room(record: usize) -> usize {
    record - HEADER - TAG
}

fn header_of(length: usize) -> [u8; HEADER] {
    // The version is that of TLS 1.2, whatever is spoken (RFC 8446 section 5.1).
    let [.., high, low] = length.to_be_bytes();
    [Content::Data as u8, 3, 3, high, low]
}

/// Strips the padding and the type (RFC 8446 section 5.4).
fn inner(opened: &[u8]) -> Result<(Content, usize), Error> {
    let last = opened.iter().rposition(|byte| *byte != 0);
    let length = last.ok_or(PeerMisbehaved::IllegalTlsInnerPlaintext)?;
    let content = match ContentType::from(opened[length]) {
        ContentType::Alert => Content::Alert,
        ContentType::Handshake => Content::Handshake,
        ContentType::ApplicationData => Content::Data,
        got_type => {
            return Err(Error::InappropriateMessage {
                expect_types: vec![ContentType::ApplicationData],
                got_type,
            });
        }
    };
    if length > FRAGMENT {
        return Err(Error::PeerSentOversizedRecord);
    }
    Ok((content, length))
}
