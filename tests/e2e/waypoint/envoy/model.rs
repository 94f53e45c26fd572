//! Routes and requests of a case, as plain data: what both proxies are configured from.

/// The servers behind every route, by the names they answer with.
pub(super) const SERVERS: [&str; 3] = ["v1", "v2", "v3"];

/// One service with its routes.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) number: usize,
    /// Of the objects, in the order of their names.
    pub(super) routes: Vec<Vec<Rule>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    pub(super) matches: Vec<Match>,
    pub(super) request: Option<Edits>,
    pub(super) response: Option<Edits>,
    pub(super) redirect: Option<Redirect>,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) backends: Vec<Backend>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Match {
    pub(super) path: Option<PathMatch>,
    pub(super) method: Option<&'static str>,
    pub(super) headers: Vec<(&'static str, Text)>,
    pub(super) query: Vec<(&'static str, Text)>,
}

#[derive(Debug, Clone)]
pub(super) enum PathMatch {
    Exact(String),
    Prefix(String),
    /// An expression, and a path that it matches.
    Regex(&'static str, &'static str),
}

#[derive(Debug, Clone)]
pub(super) enum Text {
    Exact(&'static str),
    /// An expression, and a text that it matches.
    Regex(&'static str, &'static str),
}

/// Each name at most once.
#[derive(Debug, Clone, Default)]
pub(super) struct Edits {
    pub(super) set: Vec<(&'static str, &'static str)>,
    pub(super) add: Vec<(&'static str, &'static str)>,
    pub(super) remove: Vec<&'static str>,
}

#[derive(Debug, Clone)]
pub(super) struct Redirect {
    pub(super) scheme: Option<&'static str>,
    pub(super) host: Option<&'static str>,
    pub(super) port: Option<u16>,
    pub(super) path: Option<PathEdit>,
    pub(super) status: u16,
}

#[derive(Debug, Clone)]
pub(super) struct Rewrite {
    pub(super) host: Option<&'static str>,
    pub(super) path: Option<PathEdit>,
}

#[derive(Debug, Clone)]
pub(super) enum PathEdit {
    Full(&'static str),
    Prefix(&'static str),
}

#[derive(Debug, Clone)]
pub(super) struct Backend {
    /// `None` is one that does not exist.
    pub(super) server: Option<&'static str>,
    pub(super) weight: u32,
    pub(super) request: Option<Edits>,
    pub(super) response: Option<Edits>,
}

/// One request to one case.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) case: usize,
    pub(super) method: &'static str,
    /// Byte by byte.
    pub(super) target: Vec<u8>,
    pub(super) host: &'static str,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) body: Option<&'static str>,
    pub(super) h2: bool,
}

impl Rule {
    /// The server that gets its requests: the one with all the weight, if it exists.
    pub(super) fn server(&self) -> Option<&Backend> {
        let mut weighty = self.backends.iter().filter(|it| it.weight > 0);
        weighty.next().filter(|it| it.server.is_some())
    }
}

impl Text {
    pub(super) fn sample(&self) -> &'static str {
        match self {
            Self::Exact(text) | Self::Regex(_, text) => text,
        }
    }
}

impl Match {
    pub(super) fn prefix(&self) -> Option<&str> {
        match &self.path {
            None => Some("/"),
            Some(PathMatch::Prefix(prefix)) => Some(prefix),
            Some(_) => None,
        }
    }
}
