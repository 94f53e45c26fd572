//! What a request can ask the server to do, besides echoing.
//!
//! Every directive is a query parameter, or a header with the prefix `x-echo-`; the header wins.
//!
//! | directive | effect |
//! |---|---|
//! | `delay=250ms` | waits before the answer |
//! | `status=503` | answers with this status |
//! | `fail=3` | only the first 3 requests of `key` get `status` (default 503), `delay` and `reset`; later ones succeed |
//! | `key=NAME` | what `fail` counts by; the path when absent |
//! | `grpc-status=14` | the gRPC status of a call that `fail` or `status` concerns (default 14, unavailable) |
//! | `reset=request`, `headers`, `body` | resets the connection (HTTP/2: the stream) before the answer, after its head (HTTP/2 may lose the head), or half-way through its body |
//! | `size=1Mi` | answers this many bytes of the pattern instead of JSON |
//! | `read-rate=64Ki` | reads the request body at most at so many bytes a second |
//! | `write-rate=64Ki` | sends the response body at most at so many bytes a second |
//! | `close=1` | closes the connection after the answer |

use std::time::Duration;

use http::{HeaderMap, StatusCode, Uri};

use crate::programs::units;

/// Prefix of directives in headers.
pub const HEADER_PREFIX: &str = "x-echo-";

/// When to reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetAt {
    /// Before anything is answered.
    Request,
    /// After the response head.
    Headers,
    /// In the middle of the response body.
    Body,
}

/// The directives of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Wait before the answer.
    pub delay: Option<Duration>,
    /// Status of the answer, or of the failures when `fail` is given.
    pub status: Option<StatusCode>,
    /// How many requests of the key fail.
    pub fail: Option<u32>,
    /// What failures are counted by.
    pub key: Option<String>,
    /// Status code of failing gRPC calls.
    pub grpc_status: Option<i32>,
    /// Reset instead of an orderly answer.
    pub reset: Option<ResetAt>,
    /// Bytes of pattern to answer.
    pub size: Option<u64>,
    /// Bytes a second to read at.
    pub read_rate: Option<u64>,
    /// Bytes a second to write at.
    pub write_rate: Option<u64>,
    /// Close the connection after the answer.
    pub close: bool,
}

/// A directive that cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value}: {reason}")]
pub struct BadDirective {
    name: String,
    value: String,
    reason: String,
}

/// The parameters of a query, percent-decoded, in their order.
pub fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name), percent_decode(value))
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

impl Behaviour {
    /// Reads the directives of a request; unknown parameters are none of our business.
    pub fn parse(uri: &Uri, headers: &HeaderMap) -> Result<Self, BadDirective> {
        let mut behaviour = Self::default();
        if let Some(query) = uri.query() {
            for (name, value) in parse_query(query) {
                behaviour.set(&name, &value)?;
            }
        }
        for (name, value) in headers {
            if let Some(name) = name.as_str().strip_prefix(HEADER_PREFIX) {
                behaviour.set(name, &String::from_utf8_lossy(value.as_bytes()))?;
            }
        }
        Ok(behaviour)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), BadDirective> {
        let refused = |reason: String| BadDirective {
            name: name.to_owned(),
            value: value.to_owned(),
            reason,
        };
        let size = || match units::parse_size(value) {
            Ok(size) => Ok(Some(size)),
            Err(error) => Err(refused(error.to_string())),
        };
        let rate = || match size()? {
            Some(0) => Err(refused("a rate of zero never ends".to_owned())),
            rate => Ok(rate),
        };
        match name {
            "delay" => {
                self.delay =
                    Some(units::parse_duration(value).map_err(|error| refused(error.to_string()))?)
            }
            "status" => {
                self.status = Some(
                    value
                        .parse()
                        .map_err(|_| refused("not a status from 100 to 999".to_owned()))?,
                );
            }
            "fail" => {
                self.fail = Some(
                    value
                        .parse()
                        .map_err(|_| refused("not a number of requests".to_owned()))?,
                )
            }
            "key" => self.key = Some(value.to_owned()),
            "grpc-status" => {
                self.grpc_status = Some(
                    value
                        .parse()
                        .map_err(|_| refused("not a gRPC status number".to_owned()))?,
                );
            }
            "reset" => {
                self.reset = Some(match value {
                    "request" => ResetAt::Request,
                    "headers" => ResetAt::Headers,
                    "body" => ResetAt::Body,
                    _ => return Err(refused("use request, headers or body".to_owned())),
                });
            }
            "size" => self.size = size()?,
            "read-rate" => self.read_rate = rate()?,
            "write-rate" => self.write_rate = rate()?,
            "close" => self.close = value != "0",
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_decode() {
        for (query, expected) in [
            ("", vec![]),
            ("a=b&c", vec![("a", "b"), ("c", "")]),
            ("a=x%20y+z&&%7e=%zz%2", vec![("a", "x y z"), ("~", "%zz%2")]),
            ("a=b=c", vec![("a", "b=c")]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_string()))
                .collect();
            assert_eq!(parse_query(query), expected, "{query}");
        }
    }

    #[test]
    fn directives() {
        let parse = |query: &str| {
            Behaviour::parse(
                &format!("/p?{query}").parse().expect("a valid uri"),
                &HeaderMap::new(),
            )
        };
        let none = Behaviour::default();
        for (query, expected) in [
            ("x=1", none.clone()),
            (
                "delay=20ms",
                Behaviour {
                    delay: Some(Duration::from_millis(20)),
                    ..none.clone()
                },
            ),
            (
                "fail=2&status=500&key=k",
                Behaviour {
                    fail: Some(2),
                    status: Some(StatusCode::INTERNAL_SERVER_ERROR),
                    key: Some("k".into()),
                    ..none.clone()
                },
            ),
            (
                "reset=body&close=1",
                Behaviour {
                    reset: Some(ResetAt::Body),
                    close: true,
                    ..none.clone()
                },
            ),
            (
                "size=1Ki&write-rate=64",
                Behaviour {
                    size: Some(1024),
                    write_rate: Some(64),
                    ..none.clone()
                },
            ),
        ] {
            assert_eq!(parse(query), Ok(expected), "{query}");
        }
        for query in [
            "delay=20",
            "status=9",
            "fail=-1",
            "reset=now",
            "size=big",
            "read-rate=0",
            "grpc-status=x",
        ] {
            let error = parse(query).expect_err(query).to_string();
            assert!(error.starts_with(&format!("{query}: ")), "{error}");
        }
    }

    #[test]
    fn a_header_wins_over_the_query() {
        let mut headers = HeaderMap::new();
        headers.insert("x-echo-status", "418".parse().expect("a valid header"));
        let behaviour = Behaviour::parse(&"/?status=500".parse().expect("a valid uri"), &headers);
        assert_eq!(
            behaviour.expect("good").status,
            Some(StatusCode::IM_A_TEAPOT)
        );
    }
}
