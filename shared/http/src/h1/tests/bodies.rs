use super::super::{Fault, MAX_TRAILERS};
use super::*;

/// The bytes, trailers and rest of a body, or the fault.
fn read(framing: Framing, text: &[u8]) -> Result<(Vec<u8>, String, Vec<u8>), Fault> {
    let mut body = BodyDecoder::new(framing, Side::Client);
    let mut buf = BytesMut::from(text);
    let mut data = Vec::new();
    loop {
        match body.decode(&mut buf).map_err(|error| error.fault)? {
            Some(Piece::Data(piece)) => data.extend_from_slice(&piece),
            Some(Piece::End(trailers)) => {
                assert!(body.is_done());
                let trailers = trailers.map(|it| format!("{it:?}")).unwrap_or_default();
                return Ok((data, trailers, buf.to_vec()));
            }
            None => return Err(body.eof().expect_err("not complete").fault),
        }
    }
}

#[test]
fn whole() {
    let cases: &[(&str, Framing, &[u8], &str, &str)] = &[
        ("none", Framing::None, b"GET", "", ""),
        ("length", Framing::Length(3), b"abcGET", "abc", ""),
        ("no chunk", Framing::Chunked, b"0\r\n\r\nGET", "", ""),
        (
            "chunks",
            Framing::Chunked,
            b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET",
            "abc0123456789",
            "",
        ),
        (
            "leading zeros",
            Framing::Chunked,
            b"0000000000000003\r\nabc\r\n000\r\n\r\nGET",
            "abc",
            "",
        ),
        (
            "extensions",
            Framing::Chunked,
            b"3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\n\r\nGET",
            "abc",
            "",
        ),
        (
            "a chunk that looks like one",
            Framing::Chunked,
            b"5\r\n0\r\n\r\n\r\n0\r\n\r\nGET",
            "0\r\n\r\n",
            "",
        ),
        (
            "trailers",
            Framing::Chunked,
            b"0\r\ngrpc-status: 0\r\nX: 1\r\n\r\nGET",
            "",
            r#"{"grpc-status": "0", "x": "1"}"#,
        ),
        (
            "trailers that mean nothing there",
            Framing::Chunked,
            b"0\r\nAuthorization: x\r\nSet-Cookie: a\r\nX-Forwarded-Client-Cert: x\r\nIf-Match: x\r\nContent-Type: x\r\nx: 1\r\n\r\nGET",
            "",
            r#"{"x": "1"}"#,
        ),
        (
            "only such trailers",
            Framing::Chunked,
            b"0\r\nCookie: x\r\n\r\nGET",
            "",
            "",
        ),
    ];
    for (case, framing, text, data, trailers) in cases {
        let found = read(*framing, text).expect(case);
        assert_eq!(found.0, data.as_bytes(), "{case}");
        assert_eq!(found.1, *trailers, "{case}");
        assert_eq!(found.2, b"GET", "{case}");
    }
}

#[test]
fn refused() {
    use Fault::*;
    let cases: &[(&str, &[u8], Fault)] = &[
        ("0x3", b"0x3\r\nabc\r\n0\r\n\r\n", ChunkSize),
        ("17 F", b"FFFFFFFFFFFFFFFFF\r\nabc", ChunkSize),
        (
            "17 digits that are 0",
            b"00000000000000003\r\nabc",
            ChunkSize,
        ),
        ("no size", b"\r\nabc", ChunkSize),
        ("a sign", b"+3\r\nabc", ChunkSize),
        ("negative", b"-1\r\nabc", ChunkSize),
        ("a space before", b" 3\r\nabc", ChunkSize),
        ("a space after", b"3 \r\nabc", ChunkSize),
        ("a space before an extension", b"3 ;a\r\nabc", ChunkSize),
        ("no digit", b"g\r\nabc", ChunkSize),
        ("an extension without a size", b";a\r\nabc", ChunkSize),
        ("LF after the size", b"3\nabc\r\n0\r\n\r\n", BareLineFeed),
        (
            "LF after an extension",
            b"3;a\nabc\r\n0\r\n\r\n",
            BareLineFeed,
        ),
        ("a bare CR in an extension", b"3;a\rb\r\nabc\r\n", ChunkSize),
        ("NUL in an extension", b"3;a\0\r\nabc\r\n", ChunkSize),
        ("LF after a chunk", b"3\r\nabc\n0\r\n\r\n", ChunkEnd),
        ("CR after a chunk", b"3\r\nabc\r0\r\n\r\n", ChunkEnd),
        (
            "a longer chunk than its size",
            b"3\r\nabcd\r\n0\r\n\r\n",
            ChunkEnd,
        ),
        ("LF as the last line", b"0\r\n\n", BareLineFeed),
        ("LF after a trailer", b"0\r\na: b\n\r\n", BareLineFeed),
        (
            "a bare CR in a trailer",
            b"0\r\na: b\rc\r\n\r\n",
            HeaderValue,
        ),
        ("a folded trailer", b"0\r\na: b\r\n c\r\n\r\n", HeaderName),
        (
            "Content-Length in trailers",
            b"0\r\nContent-Length: 3\r\n\r\n",
            TrailerName,
        ),
        (
            "Transfer-Encoding in trailers",
            b"0\r\ntransfer-encoding: x\r\n\r\n",
            TrailerName,
        ),
        ("Host in trailers", b"0\r\nHost: x\r\n\r\n", TrailerName),
        ("the end in a size", b"3", Truncated),
        ("the end in a chunk", b"3\r\nab", Truncated),
        ("the end after a chunk", b"3\r\nabc\r", Truncated),
        ("the end in trailers", b"0\r\na: b\r\n", Truncated),
        ("the end before the last line", b"0\r\n", Truncated),
    ];
    for (case, text, fault) in cases {
        assert_eq!(read(Framing::Chunked, text), Err(*fault), "{case}");
    }
    assert_eq!(read(Framing::Length(3), b"ab"), Err(Truncated));
}

#[test]
fn limits() {
    let extension = |size: usize| format!("3;{}\r\nabc\r\n", "x".repeat(size)).into_bytes();
    let digits = b"0".repeat(300);
    let flood = [extension(200).repeat(100), b"0\r\n\r\n".to_vec()].concat();
    let trailers = format!("0\r\nx: {}\r\n\r\n", "x".repeat(MAX_TRAILERS)).into_bytes();
    let many = format!("0\r\n{}\r\n", "x: 1\r\n".repeat(101)).into_bytes();
    let cases = [
        ("a long extension", extension(300), Fault::ChunkExtension),
        (
            "an endless extension",
            [b"3;".to_vec(), digits.clone()].concat(),
            Fault::ChunkExtension,
        ),
        ("an endless size", digits, Fault::ChunkSize),
        ("many extensions", flood, Fault::ChunkExtension),
        ("long trailers", trailers, Fault::TrailersTooLarge),
        ("many trailers", many, Fault::TrailersTooLarge),
    ];
    for (case, text, fault) in cases {
        assert_eq!(read(Framing::Chunked, &text), Err(fault), "{case}");
    }
}

#[test]
fn until_close_ends_with_the_connection_alone() {
    let mut body = BodyDecoder::new(Framing::UntilClose, Side::Upstream);
    let mut buf = BytesMut::from("abc");
    let piece = body.decode(&mut buf).expect("any bytes");
    assert_eq!(piece, Some(Piece::Data("abc".into())));
    assert_eq!(body.decode(&mut buf), Ok(None));
    assert_eq!(body.eof(), Ok(()));
    assert_eq!(body.decode(&mut buf), Ok(Some(Piece::End(None))));
}

#[test]
fn pieces_are_handed_out_as_they_come_and_not_copied() {
    for (case, framing, start) in [
        ("length", Framing::Length(1 << 40), &b""[..]),
        ("chunk", Framing::Chunked, b"10000000000\r\n"),
        ("until close", Framing::UntilClose, b""),
    ] {
        let mut body = BodyDecoder::new(framing, Side::Client);
        let mut buf = BytesMut::from(start);
        assert_eq!(body.decode(&mut buf), Ok(None), "{case}");
        for _ in 0..100 {
            buf.extend_from_slice(&[b'x'; 1000]);
            let range = buf.as_ptr_range();
            let Ok(Some(Piece::Data(piece))) = body.decode(&mut buf) else {
                panic!("{case}: bytes that are there are a piece");
            };
            assert_eq!(piece.len(), 1000, "{case}");
            assert!(range.contains(&piece.as_ptr()), "{case}");
            assert!(buf.is_empty(), "{case}");
        }
    }
}
