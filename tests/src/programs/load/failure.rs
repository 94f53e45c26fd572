//! Why a request failed, in few enough kinds to be counted.

use std::borrow::Cow;
use std::io;

/// How far a request had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Connect,
    Handshake,
    Send,
    Receive,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }
}

/// One failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// What it is counted by, such as `receive: connection reset` or `status 503`.
    pub(super) kind: Cow<'static, str>,
    /// The whole story.
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn io(stage: Stage, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed early".to_owned(),
            io::ErrorKind::Other => error.to_string(),
            kind => kind.to_string(),
        };
        Self {
            kind: format!("{}: {kind}", stage.name()).into(),
            detail: error.to_string(),
        }
    }

    pub(super) fn timeout(stage: Stage) -> Self {
        let kind = format!("{}: timeout", stage.name());
        Self {
            detail: kind.clone(),
            kind: kind.into(),
        }
    }

    pub(super) fn closed_early(stage: Stage) -> Self {
        Self::io(stage, &io::ErrorKind::UnexpectedEof.into())
    }

    pub(super) fn status(status: http::StatusCode) -> Self {
        let kind = format!("status {}", status.as_u16());
        Self {
            detail: kind.clone(),
            kind: kind.into(),
        }
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self {
            kind: "malformed answer".into(),
            detail: detail.into(),
        }
    }

    pub(super) fn corrupted(detail: impl Into<String>) -> Self {
        Self {
            kind: "corrupted data".into(),
            detail: detail.into(),
        }
    }

    /// From a library's error: the innermost IO error tells the kind, if there is one.
    pub(super) fn caused_by(stage: Stage, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut detail = error.to_string();
        let mut innermost = None;
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                innermost = Some(Self::io(stage, error).kind);
            }
            cause = error.source();
            if let Some(cause) = cause {
                detail = format!("{detail}: {cause}");
            }
        }
        let kind = innermost.unwrap_or_else(|| format!("{}: {error}", stage.name()).into());
        Self { kind, detail }
    }
}
