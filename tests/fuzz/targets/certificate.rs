//! Any bytes are a certificate, a chain, lists of revoked ones or a request for a certificate, or an error; what is believed is what was written.
#![no_main]

use std::time::{Duration, SystemTime};

use ambit_net::revocation::Lists;
use ambit_net::tls::testing::block;
use ambit_net::tls::{Chain, ChainJudge, Shown, identity_of};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;

#[path = "../../../control/src/ca/request.rs"]
mod request;

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    match kind % 6 {
        0 => certificate(bytes),
        1 => chain(bytes),
        2 => lists(bytes),
        3 => lists(block("X509 CRL", bytes).as_bytes()),
        4 => request(&String::from_utf8_lossy(bytes)),
        _ => request(&block("CERTIFICATE REQUEST", bytes)),
    }
});

/// In the life of the corpus's certificates.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn certificate(der: &[u8]) {
    let der = CertificateDer::from(der);
    let _ = Shown::of(&der);
    if let Ok(identity) = identity_of(&der) {
        let written = identity.to_string();
        assert!(written.bytes().all(|octet| octet.is_ascii_graphic()));
        assert_eq!(written.parse().ok(), Some(identity));
    }
}

/// A root, a leaf and what is between them, each after its length.
fn chain(mut bytes: &[u8]) {
    let mut all = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (der, rest) = rest.split_at(length);
        all.push(CertificateDer::from(der.to_vec()));
        bytes = rest;
    }
    let Some((root, shown)) = all.split_first() else {
        return;
    };
    let Ok(judge) = ChainJudge::new(vec![root.clone()], Lists::default()) else {
        return;
    };
    let chain = Chain::new(shown.to_vec());
    let ends = chain.not_after();
    if let Ok(proven) = judge.check(&chain, now()) {
        let leaf = chain.leaf().expect("it was shown");
        assert_eq!(identity_of(leaf).ok(), Some(proven.identity));
        assert!(ends.is_some_and(|ends| ends >= now()));
    }
}

fn lists(pem: &[u8]) {
    let Ok(lists) = Lists::parse(pem) else {
        return;
    };
    assert_eq!(lists.is_empty(), pem.iter().all(u8::is_ascii_whitespace));
    let of_nobody = CertificateDer::from(Vec::new());
    assert_eq!(lists.find(&of_nobody, &[], &[]), None);
    assert_eq!(lists.of_a_stranger(&[]).is_none(), lists.is_empty());
    let _ = lists.overdue(now());
}

fn request(pem: &str) {
    if let Err(error) = request::public_key(pem) {
        assert!(!error.is_empty());
    }
}
