//! Where keys may come from.

use super::*;

#[test]
fn urls() {
    let good = [
        (
            "https://issuer.example/keys?v=1",
            (true, "issuer.example", 443, "/keys?v=1"),
        ),
        (
            "http://Issuer.ns.svc:8080",
            (false, "issuer.ns.svc", 8080, "/"),
        ),
        (
            "https://issuer.example./keys",
            (true, "issuer.example", 443, "/keys"),
        ),
        (
            "https://issuer.example?v=1",
            (true, "issuer.example", 443, "/?v=1"),
        ),
        ("https://203.0.113.1/k", (true, "203.0.113.1", 443, "/k")),
        (
            "https://[2001:db8::1]:444/k",
            (true, "2001:db8::1", 444, "/k"),
        ),
        ("http://10.96.0.10/k", (false, "10.96.0.10", 80, "/k")),
    ];
    for (url, (tls, host, port, path)) in good {
        let wanted = JwksUrl {
            tls,
            host: host.into(),
            port,
            path: path.into(),
        };
        assert_eq!(JwksUrl::parse(url), Ok(wanted), "{url}");
    }
    let bad = [
        "",
        "issuer.example/keys",
        "/keys",
        "ftp://issuer.example/keys",
        "file:///etc/passwd",
        "https:///keys",
        "https://user@issuer.example/keys",
        "https://issuer.example:99999/",
        "https://issuer.example:0/",
        "https://issuer.example/#x",
        "http://localhost/",
        "http://LOCALHOST.:80/",
        "http://a.localhost/",
        "http://metadata.google.internal/",
        "http://127.0.0.1/",
        "http://127.0.0.1./",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://169.254.169.254/latest",
        "http://0.0.0.0/",
        "http://0.1.2.3/",
        "http://[::1]/",
        "http://[::]/",
        "http://[fe80::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[ff02::1]/",
    ];
    for url in bad {
        assert!(JwksUrl::parse(url).is_err(), "{url}");
    }
}

#[test]
fn what_a_name_resolves_to_is_checked_as_well() {
    let address = "169.254.169.254".parse().expect("an address");
    let error = check_address(address).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "keys are not fetched from 169.254.169.254: it is link-local"
    );
    assert_eq!(
        check_address("10.0.0.1".parse().expect("an address")),
        Ok(())
    );
}
