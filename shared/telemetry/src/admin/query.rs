//! What a request asks for: its query string, and what it accepts.

use http::HeaderMap;
use http::header::ACCEPT;

/// The parameters of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    parameters: Vec<(String, String)>,
    accepted: Vec<String>,
}

impl Query {
    /// Parses `a=1&b=2`, with `%xx` and `+` decoded.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let split = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        };
        Self {
            parameters: pairs.map(split).collect(),
            accepted: Vec::new(),
        }
    }

    /// With what the headers of the request accept.
    #[must_use]
    pub(super) fn accepting(self, headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        let accepted = texts.flat_map(|text| text.split(',').map(ToOwned::to_owned));
        Self {
            accepted: accepted.collect(),
            ..self
        }
    }

    /// A media type is named among those that are accepted (RFC 9110 section 12.5.1), in this version or any.
    #[must_use]
    pub fn accepts(&self, media_type: &str, version: &str) -> bool {
        self.accepted.iter().any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().unwrap_or_default();
            named.eq_ignore_ascii_case(media_type)
                && parts.all(|parameter| match parameter.split_once('=') {
                    Some(("q", weight)) => weight.parse().is_ok_and(|it: f32| it > 0.0),
                    Some(("version", known)) => known.trim_matches('"') == version,
                    _ => true,
                })
        })
    }

    /// The first value of a parameter; empty when it has none.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        let mut pairs = self.parameters.iter();
        pairs.find(|(k, _)| k == key).map(|(_, value)| &**value)
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match (*first, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|d| d.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_is_named() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, accepts) in [
            (prometheus, true),
            ("application/openmetrics-text", true),
            (
                "text/plain, Application/OpenMetrics-Text ; version=\"1.0.0\"",
                true,
            ),
            ("application/openmetrics-text;version=0.0.1", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=x", false),
            ("text/plain, */*", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a value"));
            let query = Query::parse("").accepting(&headers);
            let got = query.accepts("application/openmetrics-text", "1.0.0");
            assert_eq!(got, accepts, "{accept}");
        }
    }

    #[test]
    fn decodes() {
        let query = Query::parse("level=a%3Ddebug%2Cinfo&reset&x=1+2&bad=%zz%4");
        assert_eq!(query.value("level"), Some("a=debug,info"));
        assert_eq!(query.value("reset"), Some(""));
        assert_eq!(query.value("x"), Some("1 2"));
        assert_eq!(query.value("bad"), Some("%zz%4"));
        assert_eq!(query.value("none"), None);
    }
}
