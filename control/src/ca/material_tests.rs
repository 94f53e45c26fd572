//! Authorities with and without intermediates, and what they sign.

use super::*;
use rcgen::CertifiedIssuer;
use x509_parser::extensions::GeneralName;

fn identity() -> Identity {
    "spiffe://cluster.local/ns/shop/sa/web"
        .parse()
        .expect("an identity")
}

fn leaf(chain: &[String]) -> CertificateDer<'static> {
    certificates("answer", &chain[0])
        .expect("a certificate")
        .remove(0)
}

struct Intermediate {
    root: String,
    /// Of the root and of the one below it.
    lists: String,
    pems: Pems,
}

/// A list, PEM.
fn list(issuer: &Issuer<'_, KeyPair>) -> String {
    ambit_net::revocation::testing::list(issuer, [SerialNumber::from(7u64)], |_| {})
}

#[test]
fn revocation_lists_are_of_the_authority_s_own_path() {
    let now = SystemTime::now();
    let Intermediate { pems, lists, .. } = intermediate();
    let with = |revoked: &str| {
        let pems = Pems {
            revoked: Some(revoked.to_owned()),
            ..pems.clone()
        };
        Authority::new(&pems, now).map(|it| it.revoked().unwrap_or("nothing said").to_owned())
    };
    assert_eq!(with(""), Ok(String::new()));
    assert_eq!(with(&format!("\n{lists}\n")), Ok(lists.trim().to_owned()));
    let stranger = intermediate().lists;
    for (case, revoked, expected) in [
        ("nonsense", "all", "ca-crl.pem: it holds no block X509 CRL"),
        (
            "another authority's, of the same name",
            &*stranger,
            "ca-crl.pem: the list of \"CN=root",
        ),
    ] {
        let error = with(revoked).expect_err(case);
        assert!(error.starts_with(expected), "{case}: {error}");
    }
}

/// The second step to another authority, as manifests/README.md has it: the new one signs, and what the old one has revoked stays so.
#[test]
fn lists_of_the_old_authority_go_with_its_chain() {
    let now = SystemTime::now();
    let old = intermediate();
    let new = Pems::generate("cluster.local", now).expect("made");
    let between = |chain: &str| {
        let pems = Pems {
            root_cert: format!("{}{}", old.root, new.root_cert),
            cert_chain: format!("{}{chain}", new.cert_chain),
            revoked: Some(old.lists.clone()),
            ..new.clone()
        };
        Authority::new(&pems, now).map(|it| it.revoked().map(str::to_owned))
    };
    let lists = old.lists.trim().to_owned();
    assert_eq!(between(&old.pems.cert_chain), Ok(Some(lists)));
    let error = between("").expect_err("nobody has signed the second list");
    assert!(
        error.starts_with("ca-crl.pem: the list of \"CN=middle"),
        "{error}"
    );
}

fn intermediate() -> Intermediate {
    let now = SystemTime::now();
    let ca = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, now, now + Duration::from_secs(3600));
        (params, KeyPair::generate().expect("a key"))
    };
    let (params, key) = ca("root");
    let root = CertifiedIssuer::self_signed(params, key).expect("signed");
    let (params, key) = ca("middle");
    let middle = CertifiedIssuer::signed_by(params, key, &root).expect("signed");
    let (params, key) = ca("lower");
    let lower = params.signed_by(&key, &middle).expect("signed");
    let pems = Pems {
        ca_cert: lower.pem(),
        ca_key: key.serialize_pem(),
        root_cert: root.pem(),
        cert_chain: format!("{}{}{}", lower.pem(), middle.pem(), root.pem()),
        revoked: None,
    };
    Intermediate {
        lists: list(&root) + &list(&middle),
        root: root.pem(),
        pems,
    }
}

#[test]
fn a_workload_certificate_says_who_and_nothing_else() {
    let now = SystemTime::now();
    let pems = Pems::generate("cluster.local", now).expect("made");
    let authority = Authority::new(&pems, now).expect("read");
    let key = KeyPair::generate().expect("a key");
    let hour = Duration::from_secs(3600);
    let chain = authority
        .sign_workload(&key, &identity(), hour, now)
        .expect("signed");
    assert_eq!(chain.len(), 2, "leaf and root");
    assert_eq!(chain[1], authority.roots());
    let der = leaf(&chain);
    let (_, cert) = parse_x509_certificate(&der).expect("a certificate");
    assert_eq!(cert.subject().iter().count(), 0);
    let names = cert
        .subject_alternative_name()
        .expect("readable")
        .expect("there");
    assert!(names.critical);
    match &names.value.general_names[..] {
        [GeneralName::URI(uri)] => assert_eq!(*uri, identity().to_string()),
        other => panic!("{other:?}"),
    }
    let usage = cert
        .extended_key_usage()
        .expect("readable")
        .expect("there")
        .value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    assert!(!cert.is_ca());
    let (from, until) = (cert.validity().not_before, cert.validity().not_after);
    assert_eq!(until.timestamp() - from.timestamp(), 3600 + 300);
    let root = certificates("root", authority.roots())
        .expect("a root")
        .remove(0);
    let (_, root) = parse_x509_certificate(&root).expect("a certificate");
    cert.verify_signature(Some(root.public_key()))
        .expect("signed by the root");
    let again = authority
        .sign_workload(&key, &identity(), hour, now)
        .expect("signed");
    assert_ne!(again[0], chain[0], "serial numbers differ");
}

#[test]
fn short_lives_are_hardly_backdated() {
    let now = SystemTime::now();
    let pems = Pems::generate("cluster.local", now).expect("made");
    let authority = Authority::new(&pems, now).expect("read");
    let key = KeyPair::generate().expect("a key");
    let ten = Duration::from_secs(10);
    let chain = authority
        .sign_workload(&key, &identity(), ten, now)
        .expect("signed");
    let der = leaf(&chain);
    let (_, cert) = parse_x509_certificate(&der).expect("a certificate");
    let validity = cert.validity();
    assert_eq!(
        validity.not_after.timestamp() - validity.not_before.timestamp(),
        11
    );
}

#[test]
fn intermediates_are_between_leaf_and_root() {
    let made = intermediate();
    let now = SystemTime::now();
    let authority = Authority::new(&made.pems, now).expect("read");
    let key = KeyPair::generate().expect("a key");
    let day = Duration::from_secs(24 * 3600);
    let chain = authority
        .sign_workload(&key, &identity(), day, now)
        .expect("signed");
    assert_eq!(chain.len(), 4, "leaf, two intermediates, root");
    let ders: Vec<_> = chain
        .iter()
        .map(|pem| {
            certificates("answer", pem)
                .expect("a certificate")
                .remove(0)
        })
        .collect();
    for pair in ders.windows(2) {
        let (_, cert) = parse_x509_certificate(&pair[0]).expect("a certificate");
        let (_, issuer) = parse_x509_certificate(&pair[1]).expect("a certificate");
        cert.verify_signature(Some(issuer.public_key()))
            .expect("signed by the next");
    }
    let (_, cert) = parse_x509_certificate(&ders[0]).expect("a certificate");
    let (_, ca) = parse_x509_certificate(&ders[1]).expect("a certificate");
    assert!(
        cert.validity().not_after.timestamp() <= ca.validity().not_after.timestamp(),
        "no leaf outlives its CA"
    );
    assert_eq!(
        authority
            .sign_server(&key, &["localhost".to_owned()], day, now)
            .map(|c| c.len()),
        Ok(3)
    );
}

#[test]
fn material_that_does_not_fit() {
    let now = SystemTime::now();
    let made = intermediate();
    let other = Pems::generate("cluster.local", now).expect("made");
    let good = &made.pems;
    let leaf = CertificateParams::new(vec!["x".to_owned()])
        .and_then(|params| params.self_signed(&KeyPair::from_pem(&good.ca_key)?))
        .expect("signed")
        .pem();
    let change = |change: fn(&mut Pems, &Pems, &str)| {
        let mut pems = good.clone();
        change(&mut pems, &other, &leaf);
        pems
    };
    let cases = [
        (
            "other key",
            change(|p, o, _| p.ca_key = o.ca_key.clone()),
            "ca-key.pem is not the key",
        ),
        (
            "no key",
            change(|p, _, _| p.ca_key = String::new()),
            "ca-key.pem",
        ),
        (
            "other root",
            change(|p, o, _| {
                p.root_cert = o.root_cert.clone();
                p.cert_chain = String::new();
            }),
            "does not lead to root-cert.pem",
        ),
        (
            "no chain",
            change(|p, _, _| p.cert_chain = String::new()),
            "does not lead to root-cert.pem",
        ),
        (
            "no root",
            change(|p, _, _| p.root_cert = String::new()),
            "root-cert.pem holds no certificate",
        ),
        (
            "not a CA",
            change(|p, _, leaf| p.ca_cert = leaf.to_owned()),
            "not the certificate of a CA",
        ),
        (
            "two CAs",
            change(|p, o, _| p.ca_cert.push_str(&o.ca_cert)),
            "more than one",
        ),
    ];
    for (name, pems, reason) in cases {
        let error = Authority::new(&pems, now).expect_err(name);
        assert!(error.contains(reason), "{name}: {error}");
    }
    let later = now + Duration::from_secs(7200);
    let error = Authority::new(good, later).expect_err("expired");
    assert!(error.contains("expired"), "{error}");
}

#[test]
fn all_roots_are_in_the_last_element() {
    let now = SystemTime::now();
    let made = intermediate();
    let mut pems = Pems::generate("cluster.local", now).expect("made");
    pems.root_cert.push_str(&made.root);
    let authority = Authority::new(&pems, now).expect("read");
    let key = KeyPair::generate().expect("a key");
    let hour = Duration::from_secs(3600);
    let chain = authority
        .sign_workload(&key, &identity(), hour, now)
        .expect("signed");
    assert_eq!(chain.len(), 2);
    assert_eq!(
        certificates("answer", &chain[1]).map(|roots| roots.len()),
        Ok(2)
    );
}
