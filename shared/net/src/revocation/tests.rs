//! Lists that authorities of the tests have signed, and who is on them.

use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SerialNumber,
};

use super::follow::Watched;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// An authority, and its certificate.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// Of this name; above it is another one, or nobody.
fn authority(name: &str, above: Option<&Authority>, serial: u64) -> Authority {
    let key = KeyPair::generate().expect("a key");
    authority_with(name, above, serial, key)
}

fn authority_with(name: &str, above: Option<&Authority>, serial: u64, key: KeyPair) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from(serial));
    let issuer = match above {
        Some(above) => CertifiedIssuer::signed_by(params, key, &above.issuer),
        None => CertifiedIssuer::self_signed(params, key),
    };
    let issuer = issuer.expect("signed");
    let certificate = issuer.der().clone();
    Authority {
        issuer,
        certificate,
    }
}

impl Authority {
    fn leaf(&self, serial: u64) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("signed");
        leaf.der().clone()
    }

    /// A list of these serial numbers, PEM.
    fn list(&self, serials: &[u64]) -> String {
        self.list_with(serials, |_| {})
    }

    fn list_with(
        &self,
        serials: &[u64],
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> String {
        let serials = serials.iter().map(|serial| SerialNumber::from(*serial));
        testing::list(&self.issuer, serials, change)
    }
}

/// A root, an authority below it with serial number 20, and a leaf of that one with serial number 30.
struct World {
    root: Authority,
    middle: Authority,
    leaf: CertificateDer<'static>,
}

fn world() -> World {
    let root = authority("root", None, 10);
    let middle = authority("middle", Some(&root), 20);
    let leaf = middle.leaf(30);
    World { root, middle, leaf }
}

impl World {
    /// The serial number of who is found on these lists.
    fn found(&self, pem: &str) -> Option<String> {
        let lists = Lists::parse(pem.as_bytes()).expect("lists");
        let (middle, root) = (&self.middle.certificate, &self.root.certificate);
        let (chain, roots) = ([middle.clone()], [root.clone()]);
        let found = lists.find(&self.leaf, &chain, &roots);
        found.map(|revoked| revoked.serial)
    }
}

#[test]
fn who_is_revoked() {
    let world = world();
    let World { root, middle, .. } = &world;
    let namesake = authority("middle", None, 1);
    let users = |params: &mut CertificateRevocationListParams| {
        params.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec!["http://ca.example/users.crl".to_owned()],
            },
            scope: Some(CrlScope::UserCertsOnly),
        });
    };
    let out_of_date = |params: &mut CertificateRevocationListParams| {
        params.next_update = (SystemTime::now() - HOUR).into();
    };
    for (case, pem, found) in [
        ("nobody without a list", String::new(), None),
        ("nobody on an empty one", middle.list(&[]), None),
        ("the leaf", middle.list(&[29, 30]), Some("30")),
        ("another leaf", middle.list(&[29, 31]), None),
        ("the authority between", root.list(&[20]), Some("20")),
        ("a number of another authority's", root.list(&[30]), None),
        (
            "a number of an authority of the same name",
            namesake.list(&[30]),
            None,
        ),
        (
            "on the second list of that name",
            namesake.list(&[]) + &middle.list(&[30]),
            Some("30"),
        ),
        (
            "on the list of one of several authorities",
            root.list(&[7]) + "# below it\n" + &middle.list(&[30]),
            Some("30"),
        ),
        (
            "on a list of a part",
            middle.list_with(&[30], users),
            Some("30"),
        ),
        (
            "on a list that is out of date",
            middle.list_with(&[30], out_of_date),
            Some("30"),
        ),
    ] {
        assert_eq!(world.found(&pem).as_deref(), found, "{case}");
    }
}

/// An old root and the new one, of one name, while both are trusted.
#[test]
fn a_list_of_one_root_says_nothing_of_its_namesake_s_certificates() {
    let (root, namesake) = (authority("root", None, 1), authority("root", None, 2));
    let roots = [root.certificate.clone(), namesake.certificate.clone()];
    let found = |leaf: &CertificateDer<'_>, pem: &str| {
        let lists = Lists::parse(pem.as_bytes()).expect("lists");
        lists.find(leaf, &[], &roots).is_some()
    };
    let (of_root, of_namesake) = (root.leaf(30), namesake.leaf(30));
    for (case, list, expected) in [
        ("of the one", root.list(&[30]), [true, false]),
        ("of the other", namesake.list(&[30]), [false, true]),
        (
            "of both",
            root.list(&[30]) + &namesake.list(&[30]),
            [true; 2],
        ),
    ] {
        let judged = [&of_root, &of_namesake].map(|leaf| found(leaf, &list));
        assert_eq!(judged, expected, "{case}");
    }
}

/// Who has the leaf of an authority that is revoked shows whatever it likes besides.
#[test]
fn nothing_that_is_made_up_leads_past_an_authority_that_is_revoked() {
    let World { root, middle, leaf } = world();
    let nowhere = authority("nowhere", None, 1);
    let key = middle.issuer.key().serialize_pem();
    let double = |above: Option<&Authority>| {
        let key = KeyPair::from_pem(&key).expect("a key");
        authority_with("middle", above, 21, key).certificate
    };
    let real = middle.certificate.clone();
    let lists = Lists::parse(root.list(&[20]).as_bytes()).expect("a list");
    let roots = [root.certificate.clone()];
    for (case, chain) in [
        ("itself", vec![real.clone()]),
        (
            "one that leads nowhere",
            vec![double(Some(&nowhere)), real.clone()],
        ),
        ("one of itself", vec![double(None), real.clone()]),
        (
            "one that leads nowhere, and on",
            vec![
                double(Some(&nowhere)),
                nowhere.certificate.clone(),
                real.clone(),
            ],
        ),
    ] {
        let found = lists.find(&leaf, &chain, &roots).map(|it| it.serial);
        assert_eq!(found.as_deref(), Some("20"), "{case}");
    }
    // What is revoked and leads from this leaf nowhere is beside the point.
    let other = authority("other", Some(&root), 22);
    let chain = [other.certificate.clone(), real];
    assert_eq!(lists.find(&other.leaf(30), &chain, &roots), None);
}

/// What verifies chains verifies lists.
#[test]
fn lists_are_signed_by_whatever_signs_certificates() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_RSA_SHA512,
    ] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let root = authority_with("root", None, 1, key);
        let lists = Lists::parse(root.list(&[30]).as_bytes()).expect("a list");
        let found = lists.find(&root.leaf(30), &[], std::slice::from_ref(&root.certificate));
        assert!(found.is_some(), "{algorithm:?}");
    }
}

/// A list that is put back does not lift what was revoked since.
#[test]
fn lists_do_not_go_back() {
    let (root, namesake) = (authority("root", None, 1), authority("root", None, 2));
    let list = |of: &Authority, number: u64| {
        of.list_with(&[number], |params| {
            params.crl_number = SerialNumber::from(number);
        })
    };
    let (mut watched, revocations) = Watched::of(Lists::default());
    let leaf = |of: &Authority, serial| (of.certificate.clone(), of.leaf(serial));
    for (case, pem, counting) in [
        ("the first", list(&root, 5), 5),
        ("an older one", list(&root, 4), 5),
        ("with a namesake's", list(&root, 4) + &list(&namesake, 9), 5),
        ("a newer one", list(&root, 256), 256),
        (
            "an older one beside it",
            list(&root, 4) + &list(&root, 256),
            256,
        ),
        ("an older one alone", list(&root, 255), 256),
        ("none", String::new(), 0),
        ("from the start", list(&root, 1), 1),
    ] {
        watched.take(Ok(Some(pem.into_bytes())));
        for serial in [1, 5, 255, 256] {
            let (root, leaf) = leaf(&root, serial);
            let judge = Judge::new(revocations.clone(), Arc::new([root]));
            let expected = serial == counting;
            assert_eq!(
                judge.check(&leaf, &[]).is_err(),
                expected,
                "{case}: {serial}"
            );
        }
    }
    watched.take(Ok(Some(list(&namesake, 0).into_bytes())));
    assert_eq!(
        revocations.now().of_a_stranger(&[namesake.certificate]),
        None,
        "its own numbers"
    );
}

#[test]
fn what_cannot_be_read_is_said() {
    let root = authority("root", None, 1);
    let good = root.list(&[1, 2]);
    let of_the_other_kind = good.replace("X509 CRL", "CERTIFICATE");
    let cut = &good[..good.len() - 30];
    let spoilt = {
        let at = good.find('\n').expect("a line") + 100;
        let other = if &good[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &good[..at], &good[at + 1..])
    };
    let large = good.clone() + &"\n".repeat(LONGEST);
    for (case, pem, expected) in [
        ("no PEM", "revoked: all", "it holds no block X509 CRL"),
        (
            "a certificate",
            &*of_the_other_kind,
            "block 1 begins with \"-----BEGIN CERTIFICATE-----\", not with",
        ),
        (
            "a list and a certificate",
            &(good.clone() + &of_the_other_kind),
            "block 2 begins with",
        ),
        (
            "an unknown block",
            &good.replace("X509 CRL", "CRL"),
            "block 1 begins with",
        ),
        (
            "a list that does not begin a line",
            &format!(" {good}"),
            "block 1 begins with",
        ),
        (
            "two blocks that run together",
            &(good.trim_end().to_owned() + &good),
            "block 2 begins with",
        ),
        (
            "a second list whose first line is spoilt",
            &(good.clone() + &good.replacen('-', "-\0", 1)),
            "block 2 begins with \"-\\0----BEGIN X509 CRL-----\", not with",
        ),
        (
            "a second list without its first line",
            &(good.clone() + good.split_once('\n').expect("lines").1),
            "1 blocks begin, 2 end, and 1 of them are lists",
        ),
        (
            "a last line that is spoilt",
            &good.replace("END X509", "EMD X509"),
            "block 1 ends with \"-----EMD X509 CRL-----\", not with",
        ),
        ("half a list", cut, "list 1: "),
        ("a list and half a list", &(good.clone() + cut), "list 2: "),
        ("too large", &large, "it is larger than 1048576 bytes"),
    ] {
        let error = Lists::parse(pem.as_bytes()).expect_err(case);
        assert!(error.starts_with(expected), "{case}: {error}");
    }
    // One bit elsewhere is a list of nobody's, or none.
    let signers = [root.certificate.clone()];
    let of_root = |pem: &str| {
        Lists::parse(pem.as_bytes()).is_ok_and(|lists| lists.of_a_stranger(&signers).is_none())
    };
    assert!(of_root(&good) && !of_root(&spoilt));
    let with_text = format!("Certificate Revocation List (CRL):\n  X509v3 CRL Number: 1\n{good}");
    for pem in [&good, &with_text, &good.replace('\n', "\r\n")] {
        assert_eq!(Lists::parse(pem.as_bytes()).map(|it| it.len()), Ok(1));
    }
    assert_eq!(Lists::parse(b" \n").map(|it| it.len()), Ok(0));
}

#[test]
fn a_list_is_of_who_has_signed_it() {
    let (own, other) = (authority("own", None, 1), authority("other", None, 1));
    let lists = Lists::parse((own.list(&[1]) + &other.list(&[1])).as_bytes()).expect("lists");
    let both = [own.certificate.clone(), other.certificate.clone()];
    assert_eq!(lists.of_a_stranger(&both), None);
    assert_eq!(lists.of_a_stranger(&both[..1]), Some("CN=other"));
    let namesake = authority("other", None, 1).certificate;
    let confused = [own.certificate, namesake];
    assert_eq!(lists.of_a_stranger(&confused), Some("CN=other"));
}

#[test]
fn a_list_that_is_out_of_date_is_named() {
    let root = authority("root", None, 1);
    let lists = Lists::parse(root.list(&[1]).as_bytes()).expect("a list");
    let now = SystemTime::now();
    assert_eq!(lists.overdue(now), None);
    assert_eq!(lists.overdue(now + 2 * HOUR), Some("CN=root"));
}

/// What was read last stays until there is something better.
#[test]
fn a_file_that_is_spoilt_or_gone_lets_nobody_in() {
    let world = world();
    let (mut watched, revocations) = Watched::of(Lists::default());
    let roots = Arc::new([world.root.certificate.clone()]);
    let judge = Judge::new(revocations, roots);
    let chain = [world.middle.certificate.clone()];
    let refused = || judge.check(&world.leaf, &chain).is_err();
    let text = |pem: String| Ok(Some(pem.into_bytes()));
    let revoked = || world.middle.list(&[30]);
    for (case, found, expected) in [
        ("no file yet", Ok(None), false),
        ("a list", text(revoked()), true),
        ("nonsense", text("nonsense".to_owned()), true),
        ("it cannot be read", Err("denied".to_owned()), true),
        ("it is gone", Ok(None), true),
        (
            "it is back, with another list",
            text(world.middle.list(&[31])),
            false,
        ),
        ("and again", text(revoked()), true),
        ("an empty file", text(String::new()), false),
        ("gone after that", Ok(None), false),
    ] {
        watched.take(found);
        assert_eq!(refused(), expected, "{case}");
    }
}

#[test]
fn who_waits_hears_when_a_certificate_is_revoked() {
    let world = world();
    let (mut watched, revocations) = Watched::of(Lists::default());
    let judge = Judge::new(revocations, Arc::new([world.root.certificate.clone()]));
    let chain = [world.leaf.clone(), world.middle.certificate.clone()];
    let mut waiting = Box::pin(judge.clone().until_revoked(Arc::new(chain.clone())));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    watched.take(Ok(Some(world.root.list(&[21]).into_bytes())));
    assert_eq!(waiting.as_mut().now_or_never(), None, "another one");
    watched.take(Ok(Some(world.root.list(&[20]).into_bytes())));
    let expected = Revoked {
        serial: "20".to_owned(),
        issuer: "CN=root".to_owned(),
    };
    assert_eq!(waiting.as_mut().now_or_never(), Some(expected.clone()));
    // Who comes later as well.
    let late = Box::pin(judge.until_revoked(Arc::new(chain)));
    assert_eq!(late.now_or_never(), Some(expected));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_at_the_start_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca-crl.pem");
    assert!(follow(path.clone()).await.is_ok(), "there need not be one");
    std::fs::write(&path, authority("root", None, 1).list(&[1])).expect("written");
    let (revocations, _) = follow(path.clone()).await.expect("a list");
    assert_eq!(revocations.now().len(), 1);
    for content in [b"nonsense".to_vec(), vec![b' '; LONGEST + 1]] {
        std::fs::write(&path, content).expect("written");
        let error = follow(path.clone()).await.map(drop).expect_err("nonsense");
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca-crl.pem");
    let (revocations, following) = follow(path.clone()).await.expect("no file");
    tokio::spawn(following);
    let mut lists = revocations.0.clone();
    for count in [1, 2, 0] {
        let pem = authority("root", None, 1).list(&[1]).repeat(count);
        std::fs::write(&path, pem).expect("written");
        lists.changed().await.expect("followed");
        assert_eq!(lists.borrow_and_update().len(), count);
    }
}
