//! Key sets.

use super::*;

#[test]
fn keys_that_cannot_be_used_are_left_out() {
    let with = |mut key: Value, name: &str, value: Value| {
        key[name] = value;
        key
    };
    let oct = json!({"kty": "oct", "kid": "o", "k": b64([1; 32])});
    let p384 = json!({"kty": "EC", "crv": "P-384", "x": b64([1; 48]), "y": b64([2; 48])});
    let cases = [
        ("RSA", rsa("k"), true),
        (
            "RSA with leading zeros",
            with(rsa("k"), "e", json!("AAEAAQ")),
            true,
        ),
        (
            "RSA of 1024 bits",
            with(rsa("k"), "n", json!(b64([0x81; 128]))),
            false,
        ),
        (
            "RSA of 2047 bits",
            with(rsa("k"), "n", json!(b64([0x41; 256]))),
            false,
        ),
        (
            "RSA of 16384 bits",
            with(rsa("k"), "n", json!(b64([0x81; 2048]))),
            false,
        ),
        (
            "RSA with exponent 1",
            with(rsa("k"), "e", json!("AQ")),
            false,
        ),
        (
            "RSA with an even exponent",
            with(rsa("k"), "e", json!("Ag")),
            false,
        ),
        (
            "RSA without exponent",
            json!({"kty": "RSA", "n": b64([0x81; 256])}),
            false,
        ),
        ("P-256", ec("k"), true),
        ("P-384", p384.clone(), true),
        (
            "P-384 with a short point",
            with(p384, "x", json!(b64([1; 32]))),
            false,
        ),
        ("P-521", with(ec("k"), "crv", json!("P-521")), false),
        ("secp256k1", with(ec("k"), "crv", json!("secp256k1")), false),
        ("Ed25519", ed("k"), true),
        ("X25519", with(ed("k"), "crv", json!("X25519")), false),
        ("symmetric", oct, false),
        ("for encryption", with(rsa("k"), "use", json!("enc")), false),
        ("for signatures", with(rsa("k"), "use", json!("sig")), true),
        (
            "for signing alone",
            with(rsa("k"), "key_ops", json!(["sign"])),
            false,
        ),
        (
            "for verifying",
            with(rsa("k"), "key_ops", json!(["verify"])),
            true,
        ),
        (
            "for another algorithm",
            with(rsa("k"), "alg", json!("RSA-OAEP")),
            false,
        ),
        ("for a MAC", with(rsa("k"), "alg", json!("HS256")), false),
        ("not base64url", with(rsa("k"), "n", json!("+/+/")), false),
        ("kid is a number", with(rsa("k"), "kid", json!(1)), false),
        ("not an object", json!("k"), false),
    ];
    for (case, key, usable) in cases {
        let found = set(vec![key, ed("other")]).expect("one is usable");
        assert_eq!(found.keys().len(), 1 + usize::from(usable), "{case}");
    }
}

#[test]
fn what_is_no_set() {
    let none = Jwks::parse(br#"{"keys":[{"kty":"oct","k":"AA"}]}"#);
    assert_eq!(none, Err(JwksError::NoKey { found: 1 }));
    assert_eq!(set(vec![]), Err(JwksError::NoKey { found: 0 }));
    for text in ["", "<html>", "[]", "{}", r#"{"keys":{}}"#] {
        let found = Jwks::parse(text.as_bytes());
        assert!(matches!(found, Err(JwksError::NotASet(_))), "{text}");
    }
    let long = vec![b' '; (1 << 20) + 1];
    assert_eq!(Jwks::parse(&long), Err(JwksError::TooLong));
    let many = (0..101).map(|at| ed(&at.to_string())).collect();
    assert_eq!(set(many), Err(JwksError::TooMany { found: 101 }));
}

#[test]
fn candidates_fit_type_algorithm_and_name() {
    let mut pinned = rsa("r2");
    pinned["alg"] = json!("RS512");
    let mut unnamed = ec("x");
    unnamed.as_object_mut().expect("an object").remove("kid");
    let set = set(vec![rsa("r1"), pinned, ec("e1"), unnamed, ed("d1")]).expect("a set");
    let named = |alg, kid| {
        let keys = set.candidates(alg, kid);
        keys.map(|key| key.kid.as_deref().unwrap_or("-").to_owned())
            .collect::<Vec<_>>()
    };
    use Algorithm as A;
    let cases: [(A, Option<&str>, &[&str]); 8] = [
        (A::Rs256, None, &["r1"]),
        (A::Rs512, None, &["r1", "r2"]),
        (A::Rs512, Some("r2"), &["r2"]),
        (A::Rs256, Some("r2"), &[]),
        (A::Es256, Some("e1"), &["e1", "-"]),
        (A::Es384, None, &[]),
        (A::EdDsa, None, &["d1"]),
        (A::EdDsa, Some("r1"), &[]),
    ];
    for (algorithm, kid, wanted) in cases {
        assert_eq!(named(algorithm, kid), wanted, "{algorithm:?} {kid:?}");
    }
}
