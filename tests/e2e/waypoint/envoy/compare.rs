//! What two proxies made of one request, field by field, and where they differ on purpose.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Request;
use super::send::Outcome;

/// One field in which they differ.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    /// `status`, `server`, `method`, `authority`, `target`, `body`, `request NAME`, `response NAME`.
    pub(super) field: String,
    pub(super) ours: String,
    pub(super) theirs: String,
}

/// A difference that is meant.
pub(super) struct Intended {
    pub(super) name: &'static str,
    pub(super) reason: &'static str,
    /// A request that it concerns.
    of: fn(&Request) -> bool,
    /// How it shows.
    shows: fn(&Difference) -> bool,
}

/// Headers that say who the proxy is, not what it decides.
const OWN: [&str; 11] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-client-cert",
    "x-envoy-external-address",
    "x-request-id",
    "traceparent",
    "connection",
    "content-length",
    "transfer-encoding",
    "server",
    "date",
];

pub(super) const INTENDED: [Intended; 10] = [
    Intended {
        name: "hosts that are none",
        reason: "user information or an empty host could be read in two ways: 400",
        of: |request| request.host.contains('@') || request.host.is_empty(),
        shows: refused,
    },
    Intended {
        name: "escapes that are none",
        reason: "who decodes them reads one of several paths: 400",
        of: |request| {
            let path = request.path();
            let digits = |at: usize| path.get(at + 1..at + 3);
            let good = |it: &[u8]| it.iter().all(u8::is_ascii_hexdigit);
            let mut escapes = (0..path.len()).filter(|at| path[*at] == b'%');
            escapes.any(|at| !digits(at).is_some_and(good))
        },
        shows: refused,
    },
    Intended {
        name: "bytes outside ASCII",
        reason: "no path has them (RFC 3986 section 2): 400; Envoy takes them over HTTP/2",
        of: |request| !request.target.is_ascii(),
        shows: refused,
    },
    Intended {
        name: "dot segments with parameters",
        reason: "some servers take them for dot segments: 400",
        of: |request| request.path_has(b"..;p=1"),
        shows: refused,
    },
    Intended {
        name: "digits of escapes",
        reason: "one spelling is judged, in upper case (RFC 3986 section 6.2.2.1)",
        of: |request| request.path_has(b"%c3%a8"),
        shows: |it| {
            ["target", "location"].contains(&it.field.as_str())
                && it.ours.eq_ignore_ascii_case(&it.theirs)
        },
    },
    Intended {
        name: "escaped parameters",
        reason: "names and values of a query are compared decoded, as applications read them",
        of: |request| request.target[request.path().len()..].contains(&b'%'),
        shows: |_| true,
    },
    Intended {
        name: "repeated headers",
        reason: "their values are one list (RFC 9110 section 5.3, as the Gateway API advises); Envoy takes any of them",
        of: |request| {
            let names = request.headers.iter().map(|(name, _)| name);
            let repeated =
                |name: &&str| request.headers.iter().filter(|it| it.0 == *name).count() > 1;
            names.clone().any(repeated)
        },
        shows: |_| true,
    },
    Intended {
        name: "empty segments and dot segments",
        reason: "slashes are merged before dot segments are resolved, as servers do that merge them; Envoy merges last, and \
                 leaves two that are alone",
        of: |request| {
            let path = String::from_utf8_lossy(request.path()).to_lowercase();
            let path = path.replace('\\', "/").replace("%2e", ".");
            let alone = path.len() > 1 && path.bytes().all(|it| it == b'/');
            alone || path.contains("//") && path.contains("/.")
        },
        shows: |_| true,
    },
    Intended {
        name: "ports of redirects",
        reason: "without a port and a scheme it is the one that was asked (HTTPRequestRedirectFilter.port); Envoy drops it with another host",
        of: |request| request.host.contains(':'),
        shows: |it| {
            let (scheme, rest) = it.ours.split_once("://").unwrap_or_default();
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let (host, _) = authority.rsplit_once(':').unwrap_or((authority, ""));
            let without = format!("{scheme}://{host}{path}");
            it.field == "location" && without.eq_ignore_ascii_case(&it.theirs)
        },
    },
    Intended {
        name: "what only proxies may say",
        reason: "`forwarded` is another word for `x-forwarded-for`",
        of: |request| request.headers.iter().any(|(name, _)| *name == "forwarded"),
        shows: |it| it.field == "request forwarded" && it.ours == "none",
    },
];

fn refused(it: &Difference) -> bool {
    it.field == "status" && it.ours == "400"
}

/// Those of the intended differences that these are, and what is left. With another status everything is
/// another.
pub(super) fn intended(
    request: &Request,
    differences: Vec<Difference>,
) -> (Vec<&'static str>, Vec<Difference>) {
    let known = |it: &Difference| {
        let mut all = INTENDED.iter();
        all.find(|known| (known.of)(request) && (known.shows)(it))
    };
    if let Some(status) = differences.iter().find(|it| it.field == "status") {
        return match known(status) {
            Some(known) => (vec![known.name], Vec::new()),
            None => (Vec::new(), differences),
        };
    }
    let mut names = Vec::new();
    let mut left = Vec::new();
    for difference in differences {
        match known(&difference) {
            Some(known) => names.push(known.name),
            None => left.push(difference),
        }
    }
    (names, left)
}

impl Request {
    fn path(&self) -> &[u8] {
        let mut parts = self.target.split(|byte| *byte == b'?');
        parts.next().unwrap_or_default()
    }

    fn path_has(&self, piece: &[u8]) -> bool {
        self.path().windows(piece.len()).any(|it| it == piece)
    }
}

pub(super) fn differences(ours: &Outcome, theirs: &Outcome) -> Vec<Difference> {
    let (ours, theirs) = (fields(ours), fields(theirs));
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let of = |fields: &BTreeMap<String, String>, name: &str| match fields.get(name) {
        Some(value) => value.clone(),
        None => "none".to_owned(),
    };
    names
        .into_iter()
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .map(|name| Difference {
            field: name.clone(),
            ours: of(&ours, name),
            theirs: of(&theirs, name),
        })
        .collect()
}

fn fields(outcome: &Outcome) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut set = |name: &str, value: String| fields.insert(name.to_owned(), value);
    set("status", outcome.status.to_string());
    let location = outcome.headers.get("location");
    set("location", location.map(|it| url(it)).unwrap_or_default());
    // What a proxy says besides when it answers itself is its own.
    let Some(received) = &outcome.received else {
        return fields;
    };
    let text = |name: &str| received[name].as_str().unwrap_or_default().to_owned();
    let server = match received["version"].as_str() {
        Some(version) => version.to_owned(),
        None => text("hostname"),
    };
    set("server", server);
    for name in ["method", "authority", "target"] {
        set(name, text(name));
    }
    let body = received["body"]["text"].as_str();
    set("body", body.unwrap_or_default().to_owned());
    let headers = received["headers"].as_object().into_iter().flatten();
    let requests = headers.map(|(name, value)| (name, value.as_str().unwrap_or_default()));
    let responses = outcome
        .headers
        .iter()
        .map(|(name, value)| (name, value.as_str()));
    let requests = requests.map(|(name, value)| ("request", name, value));
    for (side, name, value) in requests.chain(responses.map(|(n, v)| ("response", n, v))) {
        if !OWN.contains(&name.as_str()) && name != "location" {
            set(&format!("{side} {name}"), value.replace(", ", ","));
        }
    }
    fields
}

/// Hosts have no case, and a port that is the scheme's own may be left out (RFC 3986 section 6.2.3).
fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let own = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.strip_suffix(own).unwrap_or(authority);
    format!("{scheme}://{}{path}", authority.to_ascii_lowercase())
}
