//! However the bytes arrive, the same is read.

use http::{HeaderValue, Method};
use proptest::prelude::*;

use super::*;

const REQUESTS: &[&str] = &[
    "GET /a?b HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
    "\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\na: b\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET /\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na: b\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\nto the end",
    "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw bytes",
    "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
];

fn stream(parts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let whole = prop::collection::vec(prop::sample::select(parts), 1..4)
        .prop_map(|parts| parts.concat().into_bytes());
    // Now and then a byte is another, or missing.
    (
        whole,
        prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<Option<u8>>())),
    )
        .prop_map(|(mut whole, change)| {
            match change {
                Some((at, Some(byte))) => {
                    let at = at.index(whole.len());
                    whole[at] = byte;
                }
                Some((at, None)) => _ = whole.remove(at.index(whole.len())),
                None => {}
            }
            whole
        })
}

fn cut<'a>(whole: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
    cuts.extend([0, whole.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| &whole[pair[0]..pair[1]])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn requests(whole in stream(REQUESTS), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let expected = server(&[&whole]);
        prop_assert_eq!(&server(&cut(&whole, &cuts)), &expected);
        prop_assert_eq!(&server(&whole.chunks(1).collect::<Vec<_>>()), &expected);
    }

    #[test]
    fn responses(whole in stream(RESPONSES), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let asked = Asked::new(&Method::GET, Some(HeaderValue::from_static("websocket")));
        let expected = client(&[&whole], &asked);
        prop_assert_eq!(&client(&cut(&whole, &cuts), &asked), &expected);
        prop_assert_eq!(&client(&whole.chunks(1).collect::<Vec<_>>(), &asked), &expected);
    }

    #[test]
    fn any_bytes_at_all(whole in prop::collection::vec(any::<u8>(), 0..200)) {
        server(&[&whole]);
        client(&[&whole], &get());
        let chunked = [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", &whole[..]].concat();
        server(&[&chunked]);
    }
}
