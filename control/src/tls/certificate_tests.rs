use super::*;

use rcgen::CertificateParams;

const NAME: &str = "ambit-control.mesh.svc";

/// A certificate for `names` until the year `until`, and its key, PEM.
fn made(names: &[&str], until: i32) -> (String, String) {
    made_for(names, 1975, until)
}

fn made_for(names: &[&str], from: i32, until: i32) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let certificate = params.self_signed(&key).expect("signed");
    (certificate.pem(), key.serialize_pem())
}

fn origin(folder: &Path) -> Origin {
    Origin::Kept {
        folder: folder.to_owned(),
        names: vec![NAME.to_owned()],
    }
}

fn write(folder: &Path, certificate: &str, key: &str) {
    fs::write(folder.join(CERTIFICATE), certificate).expect("written");
    fs::write(folder.join(KEY), key).expect("written");
}

#[test]
fn files_hold_together_or_one_sentence_says_why_not() {
    let (good, key) = made(&["other", NAME], 4000);
    let (_, another) = made(&[NAME], 4000);
    let (stale, stale_key) = made(&[NAME], 2020);
    let (early, early_key) = made_for(&[NAME], 3000, 4000);
    let (unnamed, unnamed_key) = made(&["istiod.istio-system.svc"], 4000);
    for (certificate, key, said) in [
        (&*good, &*key, None),
        ("", &key, Some("tls.crt holds no certificate")),
        ("-----BEGIN CERTIFICATE-----\n!", &key, Some("tls.crt: ")),
        (&good, "", Some("tls.key: ")),
        (&good, &another, Some("tls.key is not the key of tls.crt")),
        (
            &stale,
            &stale_key,
            Some("tls.crt expired at Jan  1 00:00:00 2020"),
        ),
        (
            &early,
            &early_key,
            Some("tls.crt is good from Jan  1 00:00:00 3000"),
        ),
        (
            &unnamed,
            &unnamed_key,
            Some("tls.crt is not for ambit-control.mesh.svc, by which proxies ask"),
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), certificate, key);
        let error = ServerCertificate::new(origin(folder.path())).err();
        match (said, &error) {
            (None, None) => {}
            (Some(said), Some(error)) if error.contains(said) => {}
            _ => panic!("{said:?}, not {error:?}"),
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let error = ServerCertificate::new(origin(folder.path())).expect_err("empty");
    assert!(error.contains("tls.crt: No such file"), "{error}");
}

/// What is replaced is taken up; what does not hold together leaves the last good one in place.
#[tokio::test(start_paused = true)]
async fn files_are_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, first_key) = made(&[NAME], 4000);
    write(folder.path(), &first, &first_key);
    let certificate = Arc::new(ServerCertificate::new(origin(folder.path())).expect("whole"));
    let serial = |certificate: &ServerCertificate| certificate.current.load().cert[0].to_vec();
    let before = serial(&certificate);
    // Replaced before anybody looks again.
    let (next, next_key) = made(&[NAME], 4000);
    write(folder.path(), &next, &next_key);
    tokio::spawn(certificate.clone().keep_fresh());
    tokio::time::sleep(LOOK * 2).await;
    assert_ne!(serial(&certificate), before);
    let before = serial(&certificate);
    let (second, second_key) = made(&[NAME], 4000);
    write(folder.path(), &second, &next_key);
    tokio::time::sleep(LOOK * 2).await;
    assert_eq!(serial(&certificate), before, "the key of another");
    write(folder.path(), &second, &second_key);
    tokio::time::sleep(LOOK * 2).await;
    assert_ne!(serial(&certificate), before);
    fs::remove_file(folder.path().join(KEY)).expect("removed");
    let after = serial(&certificate);
    tokio::time::sleep(LOOK * 2).await;
    assert_eq!(serial(&certificate), after, "half of it is gone");
}
