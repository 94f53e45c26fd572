//! What a client says about connections, addresses and identities.

use super::*;

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).expect("valid")
}

fn peer() -> Peer {
    Peer::new(ip("10.0.0.7"))
}

/// From a peer, and nobody is trusted.
fn hop(peer: &Peer) -> Hop<'_> {
    Hop {
        peer,
        trusted_hops: 0,
        scheme: "http",
    }
}

#[test]
fn what_is_not_the_clients_to_say_goes() {
    type Pairs<'a> = &'a [(&'static str, &'a str)];
    let rows: [(&str, Pairs<'_>, Pairs<'_>); 21] = [
        ("nothing", &[("accept", "a")], &[("accept", "a")]),
        (
            "named by connection",
            &[("connection", "x-secret, close"), ("x-secret", "1")],
            &[],
        ),
        (
            "named by a second connection header",
            &[
                ("connection", "close"),
                ("connection", "X-Secret"),
                ("x-secret", "1"),
            ],
            &[],
        ),
        (
            "keep-alive",
            &[("keep-alive", "5"), ("proxy-connection", "close")],
            &[],
        ),
        ("kept alive", &[("connection", "Keep-Alive")], &[]),
        (
            "kept alive, and more",
            &[("connection", "keep-alive, x-secret"), ("x-secret", "1")],
            &[],
        ),
        (
            "kept alive, and more in another line",
            &[
                ("connection", "keep-alive"),
                ("connection", "x-secret"),
                ("x-secret", "1"),
            ],
            &[],
        ),
        (
            "transfer-encoding",
            &[("transfer-encoding", "chunked")],
            &[],
        ),
        (
            "te: trailers",
            &[("te", "trailers"), ("connection", "TE")],
            &[("te", "trailers")],
        ),
        (
            "te with more",
            &[("te", "gzip;q=0.5, Trailers;q=1"), ("connection", "te")],
            &[("te", "trailers")],
        ),
        ("te of nothing we do", &[("te", "gzip")], &[]),
        (
            "host and length are no options of a connection",
            &[
                ("connection", "host, content-length"),
                ("host", "a"),
                ("content-length", "1"),
            ],
            &[("host", "a"), ("content-length", "1")],
        ),
        (
            "connection names nonsense",
            &[("connection", ", ;, \u{7f}x y, (a)"), ("a", "1")],
            &[("a", "1")],
        ),
        (
            "named beside nonsense",
            &[("connection", "\u{7f}, x-secret"), ("x-secret", "1")],
            &[],
        ),
        (
            "named with nonsense as parameter",
            &[("connection", "x-secret ;;\u{7f}"), ("x-secret", "1")],
            &[],
        ),
        (
            "xfcc",
            &[("x-forwarded-client-cert", "URI=spiffe://x")],
            &[],
        ),
        (
            "prefixes of proxies",
            &[
                ("x-envoy-original-path", "/"),
                ("x-istio-source", "a"),
                ("x-ambit-caller", "spiffe://x"),
                ("x-envoys", "kept"),
            ],
            &[("x-envoys", "kept")],
        ),
        (
            "underscore",
            &[("x_role", "admin"), ("x-role", "user")],
            &[("x-role", "user")],
        ),
        ("forwarded", &[("forwarded", "for=1.2.3.4")], &[]),
        ("http2-settings", &[("http2-settings", "AA")], &[]),
        (
            "upgrade that connection does not name",
            &[("upgrade", "websocket")],
            &[],
        ),
    ];
    for (case, sent, left) in rows {
        let mut found = headers_lossy(sent);
        let received = receive(&mut found, &hop(&peer()));
        assert_eq!(received.upgrade, None, "{case}");
        let mut wanted = headers_lossy(left);
        wanted.insert("x-forwarded-for", HeaderValue::from_static("10.0.0.7"));
        wanted.insert("x-forwarded-proto", HeaderValue::from_static("http"));
        assert_eq!(found, wanted, "{case}");
    }
}

/// Header values may have bytes that no text has.
fn headers_lossy(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let bytes = value
            .bytes()
            .map(|byte| if byte == 0x7f { 0xe9 } else { byte });
        let value = HeaderValue::from_bytes(&bytes.collect::<Vec<_>>()).expect("a value");
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}

#[test]
fn an_upgrade_is_told_and_taken_away() {
    let mut sent = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
    let received = receive(&mut sent, &hop(&peer()));
    assert_eq!(
        received.upgrade,
        Some(HeaderValue::from_static("websocket"))
    );
    assert!(!sent.contains_key("connection") && !sent.contains_key("upgrade"));
    let mut response = headers(&[
        ("connection", "x-a, upgrade"),
        ("x-a", "1"),
        ("upgrade", "h"),
    ]);
    assert_eq!(
        strip_response(&mut response),
        Some(HeaderValue::from_static("h"))
    );
    assert!(response.is_empty());
}

#[test]
fn the_client_is_found_behind_trusted_proxies() {
    let rows: [(&str, &[&str], u8, &str); 12] = [
        ("nobody is trusted", &["1.1.1.1"], 0, "10.0.0.7"),
        ("no list", &[], 1, "10.0.0.7"),
        ("one proxy", &["6.6.6.6, 1.1.1.1"], 1, "1.1.1.1"),
        ("two proxies", &["6.6.6.6, 1.1.1.1, 2.2.2.2"], 2, "1.1.1.1"),
        (
            "over several lines",
            &["6.6.6.6, 1.1.1.1", "2.2.2.2"],
            2,
            "1.1.1.1",
        ),
        ("a short list", &["1.1.1.1"], 2, "10.0.0.7"),
        ("no address", &["1.1.1.1, unknown"], 1, "10.0.0.7"),
        ("an empty entry", &["1.1.1.1,"], 1, "10.0.0.7"),
        ("with a port", &["1.1.1.1:80"], 1, "1.1.1.1"),
        ("IPv6", &["fd00::1"], 1, "fd00::1"),
        ("IPv6 with a port", &["[fd00::1]:80"], 1, "fd00::1"),
        ("mapped", &["[::ffff:1.1.1.1]"], 1, "1.1.1.1"),
    ];
    let unverified = peer();
    for (case, lines, trusted, wanted) in rows {
        let pairs: Vec<_> = lines
            .iter()
            .map(|line| ("x-forwarded-for", *line))
            .collect();
        let hop = Hop {
            trusted_hops: trusted,
            ..hop(&unverified)
        };
        let found = receive(&mut headers(&pairs), &hop).client_ip;
        assert_eq!(found, ip(wanted), "{case}");
    }
}

#[test]
fn our_words_replace_all_others() {
    let (proxy, client) = (identity("waypoint"), identity("web"));
    let unknown = Peer::new(ip("::ffff:10.0.0.7"));
    let known = unknown.clone().verified(&proxy, &client);
    let hop = hop(&known);
    let forged = || {
        headers(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "7.7.7.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-client-cert", "URI=spiffe://evil"),
            ("x-ambit-caller", "spiffe://evil"),
        ])
    };
    let xfcc =
        "By=spiffe://cluster.local/ns/shop/sa/waypoint;URI=spiffe://cluster.local/ns/shop/sa/web";
    let mut left = forged();
    let received = receive(&mut left, &hop);
    let wanted = headers(&[
        ("x-forwarded-for", "10.0.0.7"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-client-cert", xfcc),
    ]);
    assert_eq!(left, wanted);
    // Whatever a filter did in between.
    let mut filtered = forged();
    received.forward(&mut filtered);
    assert_eq!(filtered, wanted);
    let believing = Hop {
        peer: &unknown,
        trusted_hops: 1,
        ..hop
    };
    let mut left = forged();
    let received = receive(&mut left, &believing);
    received.forward(&mut left);
    let wanted = headers(&[
        ("x-forwarded-for", "6.6.6.6, 7.7.7.7, 10.0.0.7"),
        ("x-forwarded-proto", "https"),
    ]);
    assert_eq!(left, wanted);
    let mut odd = headers(&[("x-forwarded-proto", "javascript")]);
    receive(&mut odd, &believing);
    assert_eq!(odd["x-forwarded-proto"], "http");
}

/// What a filter does to headers that say who the client is.
type Tampering = (&'static str, fn(&mut HeaderMap));

#[test]
fn no_tampering_survives() {
    let tampering: [Tampering; 12] = [
        ("nothing", |_| {}),
        ("another word", |it| {
            it.insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6"));
        }),
        ("a second word", |it| {
            it.append("x-forwarded-for", HeaderValue::from_static("6.6.6.6"));
        }),
        ("the same word twice", |it| {
            it.append("x-forwarded-for", HeaderValue::from_static("10.0.0.7"));
        }),
        ("twice, and another is gone", |it| {
            it.append("x-forwarded-for", HeaderValue::from_static("10.0.0.7"));
            it.remove("x-forwarded-proto");
        }),
        ("a word is gone", |it| {
            it.remove("x-forwarded-for");
        }),
        ("the identity is gone", |it| {
            it.remove("x-forwarded-client-cert");
        }),
        ("another identity", |it| {
            let forged = HeaderValue::from_static("URI=spiffe://evil");
            it.insert("x-forwarded-client-cert", forged);
        }),
        ("a second identity", |it| {
            let forged = HeaderValue::from_static("URI=spiffe://evil");
            it.append("x-forwarded-client-cert", forged);
        }),
        ("another scheme", |it| {
            it.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        }),
        ("a word of Envoy", |it| {
            it.insert("x-envoy-original-path", HeaderValue::from_static("/"));
        }),
        ("a word of the mesh", |it| {
            it.insert("x-ambit-caller", HeaderValue::from_static("spiffe://evil"));
        }),
    ];
    let unknown = Peer::new(ip("10.0.0.7"));
    let known = unknown
        .clone()
        .verified(&identity("waypoint"), &identity("web"));
    let hops = [(&unknown, 0), (&known, 0), (&known, 1)].map(|(peer, trusted_hops)| Hop {
        trusted_hops,
        ..hop(peer)
    });
    for hop in hops {
        for (case, tamper) in tampering {
            let mut said = headers(&[("accept", "*/*"), ("x-forwarded-for", "7.7.7.7")]);
            let received = receive(&mut said, &hop);
            let mut left = said.clone();
            tamper(&mut left);
            received.forward(&mut left);
            assert_eq!(left, said, "{case}");
        }
    }
}

#[test]
fn nothing_else_may_say_what_is_ours() {
    for name in [
        "x-forwarded-client-cert",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-request-id",
        "x-envoy-upstream-service-time",
        "x-istio-attributes",
        "x-ambit-caller",
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
    ] {
        assert!(is_ours(&HeaderName::from_static(name)), "{name}");
    }
    for name in ["authorization", "x-user", "x-envoy", "cookie"] {
        assert!(!is_ours(&HeaderName::from_static(name)), "{name}");
    }
}
