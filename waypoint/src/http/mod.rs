//! HTTP through a waypoint.
//!
//! ```text
//! connection (h1, h2)  request head, canonical host and path
//!   pipeline           strip what only proxies may say -> tokens -> policies (CUSTOM, DENY, ALLOW) -> route
//!                      -> rate limits -> fault -> preflight or redirect
//!     attempt          edits -> endpoint -> connection (kept or new) -> exchange; again, as the retry policy says
//!   pipeline           edits of the response, record
//! connection           response, as fast as the client takes it
//! ```
//!
//! What was judged is what is sent on: there is one path and one host of a request.

mod attempt;
mod body;
mod connections;
mod h1;
mod h2;
mod message;
mod mirror;
mod pipeline;
mod record;
mod refuse;
mod verify;

use std::collections::HashMap;
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_http::ratelimit::RateLimiter;
use ambit_http::retry::Budget;
use ambit_telemetry::requests::RequestLog;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::io::Io;
use crate::session::Session;
use connections::Connections;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// What all requests of the process share.
pub(crate) struct Engine {
    connections: Arc<Connections>,
    limiter: Mutex<RateLimiter>,
    budgets: Mutex<HashMap<NamespacedName, Budget>>,
    log: RequestLog,
}

impl Engine {
    /// An engine without connections that writes its requests to `log`.
    #[must_use]
    pub(crate) fn new(log: RequestLog) -> Self {
        Self {
            connections: Arc::default(),
            limiter: Mutex::default(),
            budgets: Mutex::default(),
            log,
        }
    }
}

/// Serves the requests of one connection; `first` has been read from it already.
pub(crate) async fn serve(session: Arc<Session>, io: Io, first: Bytes, version: Version) {
    match version {
        Version::Http1 => h1::serve(session, io, first).await,
        Version::Http2 => h2::serve(session, io, first).await,
    }
}
