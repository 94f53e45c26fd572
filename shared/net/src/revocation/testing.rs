//! Lists as authorities write them.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, RevokedCertParams, SerialNumber,
    SigningKey,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A list of these serial numbers that counts for another hour, PEM; `change` is what is odd about it.
///
/// # Panics
/// When the issuer must not sign it.
#[must_use]
pub fn list(
    issuer: &Issuer<'_, impl SigningKey>,
    serials: impl IntoIterator<Item = SerialNumber>,
    change: impl FnOnce(&mut CertificateRevocationListParams),
) -> String {
    let now = SystemTime::now();
    let revoked = |serial_number| RevokedCertParams {
        serial_number,
        revocation_time: now.into(),
        reason_code: None,
        invalidity_date: None,
    };
    let mut params = CertificateRevocationListParams {
        this_update: (now - 2 * HOUR).into(),
        next_update: (now + HOUR).into(),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: serials.into_iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    change(&mut params);
    let list = params.signed_by(issuer).expect("signed");
    list.pem().expect("PEM")
}
