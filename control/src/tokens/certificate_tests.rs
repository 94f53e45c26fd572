//! Certificates that make somebody a machine, and those that do not.

use std::time::Duration;

use ambit_net::tls::Chain;
use rcgen::{Issuer, KeyPair, SerialNumber};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::watch;

use super::*;
use crate::ca::Authority;
use crate::ca::material::Pems;

const HOUR: Duration = Duration::from_secs(3600);

fn identity(trust_domain: &str) -> Identity {
    Identity::new(trust_domain, "shop", "vm").expect("an identity")
}

pub(crate) fn pems() -> Pems {
    Pems::generate("cluster.local", SystemTime::now()).expect("a root")
}

pub(crate) fn authority(pems: &Pems) -> Authority {
    Authority::new(pems, SystemTime::now()).expect("an authority")
}

/// What a machine of this entry shows, or a pod.
pub(crate) fn signed(
    authority: &Authority,
    trust_domain: &str,
    entry: Option<&str>,
    at: SystemTime,
) -> Chain {
    Chain::new(vec![leaf(authority, trust_domain, entry, at)])
}

fn leaf(
    authority: &Authority,
    trust_domain: &str,
    entry: Option<&str>,
    at: SystemTime,
) -> CertificateDer<'static> {
    let (key, identity) = (KeyPair::generate().expect("a key"), identity(trust_domain));
    let chain = match entry {
        Some(entry) => authority.sign_machine(&key, &identity, entry, HOUR, at),
        None => authority.sign_workload(&key, &identity, HOUR, at),
    };
    let leaf = CertificateDer::from_pem_slice(chain.expect("signed")[0].as_bytes());
    leaf.expect("a certificate")
}

fn callers(authority: Option<Authority>) -> Callers {
    callers_of(authority.map(|it| watch::channel(Arc::new(it)).1))
}

/// The same, by an authority that may change.
pub(crate) fn callers_of(authority: Option<Signing>) -> Callers {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jwks.json");
    let key = KeyPair::generate().expect("a key");
    std::fs::write(
        &file,
        serde_json::json!({"keys": [tests::jwk(&key, "one")]}).to_string(),
    )
    .expect("written");
    let keys = Keys::read(file).expect("keys");
    let names = TrustDomains::new(
        "cluster.local".parse().expect("a name"),
        "old.example".parse().expect("names"),
    );
    Callers {
        tokens: Authenticator::Keys(Tokens::new(keys, "https://issuer".to_owned(), Vec::new())),
        authority,
        trust_domains: names,
    }
}

async fn caller(
    callers: &Callers,
    shown: Chain,
    token: Option<&str>,
) -> Result<Caller, TokenError> {
    let mut metadata = MetadataMap::new();
    if let Some(token) = token {
        metadata.insert(
            AUTHORIZATION,
            format!("Bearer {token}").parse().expect("a value"),
        );
    }
    let peer = Peer {
        address: "192.0.2.1:1".parse().expect("an address"),
        shown: Some(shown),
    };
    callers.authenticate(&metadata, Some(&peer)).await
}

#[tokio::test]
async fn a_machine_s_certificate_says_which_entry_it_is_of() {
    let (pems, now) = (pems(), SystemTime::now());
    let own = authority(&pems);
    let callers = callers(Some(authority(&pems)));
    for trust_domain in ["cluster.local", "old.example"] {
        let shown = signed(&own, trust_domain, Some("vm-1"), now);
        let found = caller(&callers, shown, None).await.expect("known");
        assert_eq!(found.account(), "shop/vm");
        assert_eq!(found.entry.as_deref(), Some("vm-1"));
        assert_eq!((found.pod, found.node), (None, None));
    }
    for (case, shown, why) in [
        (
            "a pod's",
            signed(&own, "cluster.local", None, now),
            "is no machine's: a pod shows a token",
        ),
        (
            "of another mesh",
            signed(&own, "other.example", Some("vm-1"), now),
            "is of another trust domain",
        ),
        (
            "expired",
            signed(&own, "cluster.local", Some("vm-1"), now - 2 * HOUR),
            "expired",
        ),
        (
            "of nobody",
            signed(&own, "cluster.local", Some(""), now),
            "is no machine's",
        ),
        (
            "another authority's",
            signed(
                &authority(&self::pems()),
                "cluster.local",
                Some("vm-1"),
                now,
            ),
            "the certificate does not hold",
        ),
    ] {
        let error = caller(&callers, shown, None).await.expect_err(case);
        assert!(error.to_string().contains(why), "{case}: {error}");
        assert_eq!(
            Status::from(error).code(),
            tonic::Code::Unauthenticated,
            "{case}"
        );
    }
    // Who brings a token is who that says, or nobody.
    let shown = signed(&own, "cluster.local", Some("vm-1"), now);
    let error = caller(&callers, shown, Some("token")).await;
    assert_eq!(error, Err(TokenError::Malformed));
}

/// The same authority, once it has revoked what was shown.
pub(crate) fn revoking(pems: &Pems, shown: &Chain) -> Pems {
    let leaf = shown.leaf().expect("a certificate");
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).expect("a certificate");
    listing(pems, [SerialNumber::from_slice(leaf.raw_serial())])
}

fn listing(pems: &Pems, serials: impl IntoIterator<Item = SerialNumber>) -> Pems {
    let key = KeyPair::from_pem(&pems.ca_key).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&pems.ca_cert, key).expect("an issuer");
    let list = ambit_net::revocation::testing::list(&issuer, serials, |_| {});
    Pems {
        revoked: Some(list),
        ..pems.clone()
    }
}

#[tokio::test]
async fn a_revoked_certificate_proves_nothing() {
    let pems = pems();
    let own = authority(&pems);
    let shown = signed(&own, "cluster.local", Some("vm-1"), SystemTime::now());
    let callers = callers(Some(authority(&revoking(&pems, &shown))));
    let error = caller(&callers, shown, None).await.expect_err("revoked");
    assert!(error.to_string().contains("is revoked"), "{error}");
}

/// The time that it takes each of these to refuse a stranger's certificate some times over, the shortest of a few tries, which take
/// turns: what else the machine does is there for all.
async fn refusing<const N: usize>(all: [&Callers; N], stranger: &Chain) -> [Duration; N] {
    let mut shortest = [Duration::MAX; N];
    for _ in 0..5 {
        for (callers, shortest) in all.iter().zip(&mut shortest) {
            let started = std::time::Instant::now();
            for _ in 0..20 {
                let refused = caller(callers, stranger.clone(), None).await;
                let _ = refused.expect_err("a stranger's");
            }
            *shortest = started.elapsed().min(*shortest);
        }
    }
    shortest
}

#[tokio::test]
async fn what_anybody_may_show_costs_no_more_because_of_long_lists() {
    let (pems, now) = (pems(), SystemTime::now());
    let stranger = signed(
        &authority(&self::pems()),
        "cluster.local",
        Some("vm-1"),
        now,
    );
    let serials = (1..=10_000_u64).map(SerialNumber::from);
    let listed = callers(Some(authority(&listing(&pems, serials))));
    let plain = callers(Some(authority(&pems)));
    let [without, with] = refusing([&plain, &listed], &stranger).await;
    assert!(
        with < 5 * without,
        "{with:?} with lists, {without:?} without"
    );
}

#[tokio::test]
async fn where_another_authority_signs_certificates_prove_nothing() {
    let own = authority(&pems());
    let shown = signed(&own, "cluster.local", Some("vm-1"), SystemTime::now());
    let found = caller(&callers(None), shown, None).await;
    assert_eq!(found, Err(TokenError::Missing));
}
