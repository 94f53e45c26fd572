use http::{Request as HttpRequest, Response as HttpResponse, Uri};

use super::*;

fn head(method: Method, uri: &str, fields: &[(&'static str, &str)]) -> request::Parts {
    let mut parts = HttpRequest::new(()).into_parts().0;
    parts.method = method;
    parts.uri = uri.parse().expect("a URI");
    parts.headers = map(fields);
    parts
}

fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        let value = HeaderValue::from_str(value).expect("a value");
        (HeaderName::from_static(name), value)
    };
    fields.iter().map(field).collect()
}

fn get(fields: &[(&'static str, &str)]) -> request::Parts {
    head(Method::GET, "http://a/", fields)
}

/// The status of the answer, or `None` for a reset.
fn status(answer: Answer) -> Option<u16> {
    match answer {
        Answer::Reset => None,
        Answer::Respond(refusal) => Some(refusal.status),
    }
}

#[test]
fn requests_refused() {
    use Violation::*;
    let many = vec![("x", "1"); 101];
    let crumbs = vec![("cookie", "a=b"); 101];
    let long = "x".repeat(66_000);
    let post = |fields: &[(&'static str, &str)]| head(Method::POST, "http://a/", fields);
    let cases = [
        (
            "transfer-encoding",
            get(&[("transfer-encoding", "chunked")]),
            None,
            ConnectionField,
            None,
        ),
        (
            "connection",
            get(&[("connection", "close")]),
            None,
            ConnectionField,
            None,
        ),
        (
            "keep-alive",
            get(&[("keep-alive", "5")]),
            None,
            ConnectionField,
            None,
        ),
        (
            "proxy-connection",
            get(&[("proxy-connection", "x")]),
            None,
            ConnectionField,
            None,
        ),
        (
            "upgrade",
            get(&[("upgrade", "websocket")]),
            None,
            ConnectionField,
            None,
        ),
        ("te chunked", get(&[("te", "chunked")]), None, Te, None),
        (
            "te with more",
            get(&[("te", "trailers, gzip")]),
            None,
            Te,
            None,
        ),
        (
            "another host",
            get(&[("host", "b")]),
            None,
            HostDiffers,
            Some(400),
        ),
        (
            "another port in host",
            get(&[("host", "a:80")]),
            None,
            HostDiffers,
            Some(400),
        ),
        (
            "two hosts",
            get(&[("host", "a"), ("host", "a")]),
            None,
            SeveralHosts,
            Some(400),
        ),
        (
            "no host at all",
            head(Method::GET, "/", &[]),
            None,
            Authority,
            None,
        ),
        (
            "an empty host",
            head(Method::GET, "/", &[("host", "")]),
            None,
            Authority,
            None,
        ),
        (
            "user information",
            head(Method::GET, "http://x@a/", &[]),
            None,
            Authority,
            None,
        ),
        (
            "user information in host",
            head(Method::GET, "/", &[("host", "x@a")]),
            None,
            Authority,
            None,
        ),
        (
            "a space in host",
            head(Method::GET, "/", &[("host", "a b")]),
            None,
            Authority,
            None,
        ),
        (
            "CONNECT",
            head(Method::CONNECT, "a:1", &[]),
            None,
            Connect,
            Some(405),
        ),
        (
            "a protocol, no CONNECT",
            get(&[]),
            Some("websocket"),
            Protocol,
            None,
        ),
        (
            "* for GET",
            head(Method::GET, "*", &[("host", "a")]),
            None,
            Path,
            None,
        ),
        (
            "extended CONNECT without a path",
            head(Method::CONNECT, "a:1", &[]),
            Some("websocket"),
            Path,
            None,
        ),
        (
            "two lengths",
            post(&[("content-length", "3"), ("content-length", "3")]),
            None,
            Length,
            None,
        ),
        (
            "a signed length",
            post(&[("content-length", "+3")]),
            None,
            Length,
            None,
        ),
        (
            "an empty length",
            post(&[("content-length", "")]),
            None,
            Length,
            None,
        ),
        (
            "a list of lengths",
            post(&[("content-length", "3, 3")]),
            None,
            Length,
            None,
        ),
        (
            "a length of 2^64",
            post(&[("content-length", "18446744073709551616")]),
            None,
            Length,
            None,
        ),
        (
            "an expectation",
            get(&[("expect", "tea")]),
            None,
            Expectation,
            Some(417),
        ),
        ("101 fields", get(&many), None, TooManyFields, Some(431)),
        (
            "101 cookie crumbs",
            get(&crumbs),
            None,
            TooManyFields,
            Some(431),
        ),
        ("66 KB", get(&[("x", &long)]), None, HeadTooLarge, Some(431)),
    ];
    for (case, parts, protocol, violation, answer) in cases {
        let found = request(&parts, protocol, false).expect_err(case);
        assert_eq!(found, violation, "{case}");
        assert_eq!(status(found.of_request()), answer, "{case}");
    }
    let early = request(&post(&[("content-length", "3")]), None, true).err();
    assert_eq!(early, Some(Length), "a length and no body");
    let mut slashless = get(&[]);
    let mut uri = slashless.uri.into_parts();
    uri.path_and_query = Some("?q".parse().expect("a path"));
    slashless.uri = Uri::from_parts(uri).expect("a URI");
    assert_eq!(request(&slashless, None, true), Err(Path), "no slash");
}

#[test]
fn requests_accepted() {
    let crumbs = vec![("cookie", "a=b"); 100];
    let websocket = Some("websocket");
    let cases = [
        ("plain", get(&[]), None, true, "a", Framing::None),
        (
            "te trailers",
            get(&[("te", "trailers")]),
            None,
            true,
            "a",
            Framing::None,
        ),
        (
            "the same host",
            get(&[("host", "A")]),
            None,
            true,
            "a",
            Framing::None,
        ),
        (
            "only host",
            head(Method::GET, "/", &[("host", "b:1")]),
            None,
            true,
            "b:1",
            Framing::None,
        ),
        (
            "OPTIONS *",
            head(Method::OPTIONS, "*", &[("host", "a")]),
            None,
            true,
            "a",
            Framing::None,
        ),
        ("a body", get(&[]), None, false, "a", Framing::Chunked),
        (
            "a length",
            get(&[("content-length", "3")]),
            None,
            false,
            "a",
            Framing::Length(3),
        ),
        (
            "length 0",
            get(&[("content-length", "0")]),
            None,
            true,
            "a",
            Framing::None,
        ),
        ("100 crumbs", get(&crumbs), None, true, "a", Framing::None),
        (
            "expect",
            get(&[("expect", "100-continue")]),
            None,
            false,
            "a",
            Framing::Chunked,
        ),
        (
            "extended CONNECT",
            head(Method::CONNECT, "http://a/x", &[]),
            websocket,
            false,
            "a",
            Framing::Chunked,
        ),
    ];
    for (case, parts, protocol, end_stream, authority, body) in cases {
        let found = request(&parts, protocol, end_stream);
        assert_eq!(found, Ok(Request { authority, body }), "{case}");
    }
}

#[test]
fn responses() {
    use Violation::{ConnectionField, HeadTooLarge, Length as Bad, Status, TooManyFields};
    let (get, head, connect) = (Method::GET, Method::HEAD, Method::CONNECT);
    let body = |framing| Ok(Next::Body(framing));
    let long = "x".repeat(66_000);
    let many = vec![("x", "1"); 101];
    let three = [("content-length", "3")];
    let cases = [
        ("a body", 200, &get, &[][..], false, body(Framing::Chunked)),
        ("no body", 200, &get, &[], true, body(Framing::None)),
        (
            "a length",
            200,
            &get,
            &three,
            false,
            body(Framing::Length(3)),
        ),
        ("a length and no body", 200, &get, &three, true, Err(Bad)),
        (
            "two lengths",
            200,
            &get,
            &[three[0], three[0]],
            false,
            Err(Bad),
        ),
        ("HEAD", 200, &head, &three, true, body(Framing::None)),
        ("204", 204, &get, &[], false, body(Framing::None)),
        (
            "304 with a length",
            304,
            &get,
            &three,
            true,
            body(Framing::None),
        ),
        ("103", 103, &get, &[], false, Ok(Next::Head)),
        ("103 with a length", 103, &get, &three, false, Err(Bad)),
        ("103 and the end", 103, &get, &[], true, Err(Bad)),
        ("101", 101, &get, &[], false, Err(Status)),
        ("600", 600, &get, &[], false, Err(Status)),
        ("CONNECT", 200, &connect, &[], false, Ok(Next::Tunnel)),
        (
            "CONNECT refused",
            403,
            &connect,
            &[],
            true,
            body(Framing::None),
        ),
        (
            "connection",
            200,
            &get,
            &[("connection", "close")],
            true,
            Err(ConnectionField),
        ),
        ("101 fields", 200, &get, &many, true, Err(TooManyFields)),
        ("66 KB", 200, &get, &[("x", &long)], true, Err(HeadTooLarge)),
    ];
    for (case, status, to, fields, end_stream, expected) in cases {
        let mut parts = HttpResponse::new(()).into_parts().0;
        parts.status = StatusCode::from_u16(status).expect(case);
        parts.headers = map(fields);
        let found = Responses::new(to.clone()).judge(&parts, end_stream);
        assert_eq!(found, expected, "{case}");
    }
    assert_eq!(Bad.of_response().status, 502);
    assert_eq!(Bad.of_response().flag.as_str(), "UPE");
}

#[test]
fn a_flood_of_interim_responses_ends() {
    let mut parts = HttpResponse::new(()).into_parts().0;
    parts.status = StatusCode::EARLY_HINTS;
    let mut responses = Responses::new(Method::GET);
    for _ in 0..MAX_INTERIM {
        assert_eq!(responses.judge(&parts, false), Ok(Next::Head));
    }
    let found = responses.judge(&parts, false);
    assert_eq!(found, Err(Violation::TooManyInterim));
}

#[test]
fn bodies_are_as_long_as_announced() {
    let run = |framing, pieces: &[usize]| {
        let mut length = Length::new(framing);
        for piece in pieces {
            length.data(*piece)?;
        }
        length.end()
    };
    let bad = Err(Violation::Length);
    for (case, framing, pieces, expected) in [
        ("exact", Framing::Length(5), &[2, 0, 3][..], Ok(())),
        ("too long", Framing::Length(5), &[2, 4], bad),
        ("too short", Framing::Length(5), &[4], bad),
        ("not said", Framing::Chunked, &[4, 400], Ok(())),
        ("none", Framing::None, &[], Ok(())),
        (
            "empty frames where there is none",
            Framing::None,
            &[0],
            Ok(()),
        ),
        ("a body where there is none", Framing::None, &[1], bad),
    ] {
        assert_eq!(run(framing, pieces), expected, "{case}");
    }
}

#[test]
fn trailers_are_cleaned_or_refused() {
    let mut good = map(&[
        ("grpc-status", "0"),
        ("authorization", "x"),
        ("authorization", "y"),
    ]);
    assert_eq!(trailers(&mut good), Ok(()));
    assert_eq!(good, map(&[("grpc-status", "0")]));
    for (case, name, violation) in [
        ("a length", "content-length", Violation::TrailerName),
        ("host", "host", Violation::TrailerName),
        ("a coding", "transfer-encoding", Violation::ConnectionField),
    ] {
        let found = trailers(&mut map(&[(name, "1")]));
        assert_eq!(found, Err(violation), "{case}");
    }
    let mut many = map(&vec![("x", "1"); 101]);
    assert_eq!(trailers(&mut many), Err(Violation::TooManyFields));
}

#[test]
fn cookies_become_one() {
    for (case, crumbs, expected) in [
        ("none", &[][..], None),
        ("one", &["a=b"], Some("a=b")),
        ("three", &["a=b", "c=d", "e=f"], Some("a=b; c=d; e=f")),
    ] {
        let fields: Vec<_> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
        let mut fields = map(&fields);
        merge_cookies(&mut fields);
        let found: Vec<_> = fields.get_all("cookie").iter().collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{case}");
    }
}
