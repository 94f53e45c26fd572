//! A certificate as people read it.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;

use super::Error;
use super::certified::{parse, time};

/// What of a certificate is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// All of it, PEM.
    pub pem: String,
    /// Serial number, decimal.
    pub serial: String,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
}

impl Shown {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is none.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = parse(certificate)?;
        let validity = parsed.validity();
        Ok(Self {
            pem: pem(certificate),
            serial: parsed.serial.to_string(),
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
        })
    }
}

/// A certificate as a block of PEM text (RFC 7468 section 5.1).
#[must_use]
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|octet| char::from(*octet)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
