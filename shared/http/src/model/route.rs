//! Rules of HTTPRoute, GRPCRoute, TLSRoute and TCPRoute (Gateway API v1, with Services as parents).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use http::{HeaderName, HeaderValue, Method};
use serde::Serialize;

/// One rule of a route object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteRule {
    /// Where it is from.
    pub key: RouteKey,
    /// The services whose traffic it routes.
    pub parents: Vec<Parent>,
    /// When the object was created, in seconds since 1970: the older wins a tie. 0 is unknown.
    pub created: i64,
    /// A consumer route holds for clients of this namespace alone, and they see it instead of the
    /// producer's. `None`: a producer route.
    pub consumer: Option<Arc<str>>,
    /// SNI names of a TLSRoute, lower case, `*.` for one or more labels; empty for other kinds: with
    /// a Service as parent the address decides, not `Host`.
    pub sni: Vec<Arc<str>>,
    /// Alternatives; empty matches everything.
    pub matches: Vec<RouteMatch>,
    /// In the order they apply.
    pub filters: Vec<Filter>,
    /// Where to, by weight. Empty (and no redirect) is answered with 500.
    pub backends: Vec<Backend>,
    /// How long.
    pub timeouts: Timeouts,
    /// Whether a failed attempt is made again; `None` is the mesh's default (connect failures and
    /// refused streams, two attempts more, on another endpoint).
    pub retry: Option<Retry>,
    /// Something in the rule cannot be honoured: requests that match get 500 with this reason
    /// rather than half of what the rule says.
    pub invalid: Option<Arc<str>>,
}

/// `KIND/NAMESPACE/NAME/RULE`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RouteKey {
    /// The kind of object.
    pub protocol: Protocol,
    /// The object.
    pub route: NamespacedName,
    /// Position of the rule in it, from 0.
    pub rule: u16,
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.protocol.as_str())?;
        f.write_str("/")?;
        write!(f, "{}/{}", self.route, self.rule)
    }
}

/// The kinds of route, the one that wins a conflict on a port first (GEP-1426).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[allow(missing_docs)]
pub enum Protocol {
    Grpc,
    Http,
    Tls,
    Tcp,
}

impl Protocol {
    /// In names and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
        }
    }
}

/// A service that a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Parent {
    /// Its key, `namespace/hostname`.
    pub service: NamespacedName,
    /// One of its ports; all of them when absent.
    pub port: Option<u16>,
}

/// All of these hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RouteMatch {
    /// On the canonical path, without the query. `None` is everything.
    pub path: Option<PathMatch>,
    /// Case-sensitive.
    #[serde(serialize_with = "text::option")]
    pub method: Option<Method>,
    /// Each of these; for a repeated header its values joined with `,`.
    pub headers: Vec<HeaderMatch>,
    /// Each of these; of a repeated key the first value counts.
    pub query: Vec<QueryMatch>,
}

/// How a path is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum PathMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Element by element: `/v2` covers `/v2` and `/v2/x`, not `/v2x`. No trailing slash; `/` is
    /// everything.
    Prefix(Arc<str>),
    /// The whole path, RE2-like syntax.
    Regex(Regex),
}

/// How a header or query value is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum ValueMatch {
    /// Equal.
    Exact(Arc<str>),
    /// The whole value.
    Regex(Regex),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct HeaderMatch {
    #[serde(serialize_with = "text::display")]
    pub name: HeaderName,
    pub value: ValueMatch,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct QueryMatch {
    /// Percent-decoded.
    pub name: Arc<str>,
    pub value: ValueMatch,
}

/// A compiled regular expression that matches a whole text in linear time.
#[derive(Clone)]
pub struct Regex {
    source: Arc<str>,
    compiled: regex::Regex,
}

/// Bytes that one compiled expression may take.
const REGEX_SIZE: usize = 1 << 20;

impl Regex {
    /// Compiles an expression; it is anchored at both ends.
    ///
    /// # Errors
    /// What is wrong with it, or that it would take more than a MiB.
    pub fn new(source: &str) -> Result<Self, String> {
        let compiled = regex::RegexBuilder::new(&format!("^(?:{source})$"))
            .size_limit(REGEX_SIZE)
            .dfa_size_limit(REGEX_SIZE)
            .build()
            .map_err(|error| format!("regular expression {source:?}: {error}"))?;
        // The parts must stand alone: `a)|(b` is no expression.
        regex::Regex::new(source).map_err(|e| format!("regular expression {source:?}: {e}"))?;
        Ok(Self {
            source: source.into(),
            compiled,
        })
    }

    /// Whether the whole text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Regex {}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.source)
    }
}

impl Serialize for Regex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

/// What is done to a request or its response, at the rule or at one backend.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Filter {
    /// Of the request.
    RequestHeaders(HeaderEdits),
    /// Of the response.
    ResponseHeaders(HeaderEdits),
    /// The answer, instead of a backend.
    Redirect(Redirect),
    /// Of the request.
    Rewrite(Rewrite),
    /// A copy for somebody else, whose answer is thrown away.
    Mirror(Mirror),
    /// Cross-origin requests.
    Cors(Cors),
    /// Ask an external authorizer: the key of an [`Authorizer`](super::Authorizer).
    ExternalAuth(NamespacedName),
    /// A token bucket of the proxy.
    RateLimit(RateLimit),
    /// Delays or aborts.
    Fault(Fault),
}

/// Edits, in the order set, add, remove. Names are case-insensitive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct HeaderEdits {
    /// Replaces all values.
    #[serde(serialize_with = "text::pairs")]
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Adds a value.
    #[serde(serialize_with = "text::pairs")]
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Takes all values away.
    #[serde(serialize_with = "text::list")]
    pub remove: Vec<HeaderName>,
}

/// `RequestRedirect`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Redirect {
    /// `http` or `https`; the request's when absent.
    pub scheme: Option<Arc<str>>,
    /// The request's when absent.
    pub hostname: Option<Arc<str>>,
    /// See Gateway API `HTTPRequestRedirectFilter.port` for what holds when absent.
    pub port: Option<u16>,
    /// The request's when absent.
    pub path: Option<PathEdit>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// `URLRewrite`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rewrite {
    /// The new `Host`.
    pub hostname: Option<Arc<str>>,
    /// The new path.
    pub path: Option<PathEdit>,
}

/// A new path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum PathEdit {
    /// Instead of all of it.
    Full(Arc<str>),
    /// Instead of the prefix that matched.
    Prefix(Arc<str>),
}

/// `RequestMirror`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mirror {
    /// Who gets the copy.
    pub backend: BackendRef,
    /// How many of a denominator: 1/1 is all.
    pub numerator: u32,
    #[allow(missing_docs)]
    pub denominator: u32,
}

/// `HTTPCORSFilter`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Cors {
    /// `*`, or origins `scheme://host[:port]`, the host possibly with a leading `*.`.
    pub allow_origins: Vec<Arc<str>>,
    #[allow(missing_docs)]
    pub allow_credentials: bool,
    /// Method names or `*`.
    pub allow_methods: Vec<Arc<str>>,
    /// Header names or `*`.
    pub allow_headers: Vec<Arc<str>>,
    /// Header names or `*`.
    pub expose_headers: Vec<Arc<str>>,
    /// In seconds.
    pub max_age: u32,
}

/// `ambit.dev` RateLimit: a token bucket in each waypoint instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RateLimit {
    /// Of the object, for logs and state that outlives a change.
    pub key: NamespacedName,
    /// Tokens that are added a `interval`, at least 1.
    pub requests: u32,
    /// Not zero.
    pub interval: Duration,
    /// Most tokens at once, at least `requests`.
    pub burst: u32,
    /// What has a bucket of its own.
    pub per: RateLimitScope,
}

/// What has a bucket of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum RateLimitScope {
    /// All that the rule matches share one.
    Route,
    /// Each verified client identity.
    Client,
}

/// `ambit.dev` FaultInjection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// Wait before anything is done, for this share in millionths.
    pub delay: Option<(Duration, u32)>,
    /// Answer this status, for this share in millionths; a gRPC request gets the matching code.
    pub abort: Option<(u16, u32)>,
}

/// A share of the traffic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backend {
    /// Its share is this of the sum of all; 0 is none.
    pub weight: u32,
    /// Where to.
    pub backend: BackendRef,
    /// For this share alone.
    pub filters: Vec<Filter>,
}

/// A place requests go to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum BackendRef {
    /// A port of a service.
    Service {
        /// Its key, `namespace/hostname`.
        service: NamespacedName,
        #[allow(missing_docs)]
        port: u16,
    },
    /// It does not exist, or may not be referred to; its share is answered with 500.
    Invalid {
        /// For the log.
        reason: Arc<str>,
    },
}

/// `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Timeouts {
    /// From the request's head to the end of the response, all attempts together.
    pub request: Option<Duration>,
    /// Of one attempt.
    pub backend_request: Option<Duration>,
}

/// When a failed attempt is made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Attempts after the first, 0 to 100.
    pub attempts: u32,
    /// Statuses that count as failed, 400 to 599.
    pub codes: Vec<u16>,
    /// The least wait before another attempt; it grows and is jittered.
    pub backoff: Duration,
}

/// Texts of `http` types.
mod text {
    use http::{HeaderName, HeaderValue};
    use serde::Serializer;

    pub(super) fn display<S: Serializer>(
        value: &impl std::fmt::Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn option<S: Serializer>(
        value: &Option<impl std::fmt::Display>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn list<S: Serializer>(
        names: &[HeaderName],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(names.iter().map(HeaderName::as_str))
    }

    pub(super) fn pairs<S: Serializer>(
        pairs: &[(HeaderName, HeaderValue)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            pairs
                .iter()
                .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()))),
        )
    }
}
