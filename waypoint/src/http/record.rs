//! What is told of a request when it is over: one access log line, whoever answered it.

use std::sync::Arc;
use std::time::Instant;

use ambit_http::authz::Verdict;
use ambit_http::refusal::{Flag, Refusal};
use ambit_http::route::RequestPlan;
use ambit_telemetry::requests::Entry;
use http::HeaderValue;

use super::body::{Body, Broken, Frame, Watch};
use super::message::{Request, Response};
use crate::session::Session;
use crate::upstream::Endpoint;

/// Collects; the line is written when the response has been sent, or was given up.
pub(super) struct Record {
    session: Arc<Session>,
    started: Instant,
    entry: Entry,
    over: bool,
}

impl Record {
    pub(super) fn new(session: &Arc<Session>, request: &Request) -> Self {
        let text = |name: http::HeaderName| {
            let value = request.headers.get(name);
            value.map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned())
        };
        let mut record = Self::start(session, request.version);
        record.entry.method = request.method.as_str().to_owned();
        record.entry.path = request.path.to_string();
        record.entry.authority = request.host.authority().to_owned();
        record.entry.user_agent = text(http::header::USER_AGENT).unwrap_or_default();
        record
    }

    /// For a head that is no request.
    pub(super) fn of_head(session: &Arc<Session>, version: &'static str) -> Self {
        Self::start(session, version)
    }

    fn start(session: &Arc<Session>, version: &'static str) -> Self {
        Self {
            started: Instant::now(),
            entry: Entry {
                protocol: version,
                flags: Flag::None.as_str(),
                source: session.caller.address.to_string(),
                source_identity: session.caller.identity.to_string(),
                destination: session.target.address.to_string(),
                ..Entry::default()
            },
            session: session.clone(),
            over: false,
        }
    }

    pub(super) fn request_id(&mut self, id: &HeaderValue) {
        self.entry.request_id = String::from_utf8_lossy(id.as_bytes()).into_owned();
    }

    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        for hit in &verdict.dry_run {
            self.entry
                .notes
                .push(format!("dry-run: {:?} {}", hit.action, hit.policy));
        }
        for hit in &verdict.audit {
            self.entry.notes.push(format!("audit: {}", hit.policy));
        }
    }

    pub(super) fn plan(&mut self, plan: &RequestPlan) {
        if let Some(rule) = &plan.rule {
            self.entry.route = rule.key.to_string();
        }
    }

    pub(super) fn attempt(&mut self, endpoint: &Endpoint, number: u32) {
        self.entry.upstream = endpoint.address.to_string();
        self.entry.upstream_workload =
            format!("{}/{}", endpoint.workload.namespace, endpoint.workload.name);
        self.entry.attempts = number;
    }

    pub(super) fn flag(&mut self, flag: Flag) {
        if flag != Flag::None {
            self.entry.flags = flag.as_str();
        }
    }

    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.flag(refusal.flag);
        self.entry.reason = refusal.reason.clone();
    }

    /// The response; the record is complete when its body has been sent.
    pub(super) fn watch(mut self, mut response: Response) -> Response {
        self.entry.status = response.status.as_u16();
        response.body = match response.body {
            // Over with its head; dropped here, the line is written.
            Body::Empty => {
                self.over = true;
                Body::Empty
            }
            body => Body::Watched(Box::new(body), Box::new(self)),
        };
        response
    }
}

impl Watch for Record {
    fn piece(&mut self, frame: &Frame) {
        if let Frame::Data(data) = frame {
            self.entry.bytes_sent += data.len() as u64;
        }
    }

    fn end(&mut self, result: Result<(), &Broken>) {
        self.over = true;
        if let Err(error) = result {
            self.flag(Flag::UpstreamReset);
            self.entry.reason = error.to_string();
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.over && self.entry.flags == Flag::None.as_str() && !std::thread::panicking() {
            // The client left before the end; trailers end a body as well.
            self.entry.flags = if self.entry.status == 0 {
                Flag::DownstreamClosed.as_str()
            } else {
                self.entry.flags
            };
        }
        self.entry.duration = self.started.elapsed();
        self.session.shared.http.log.write(&self.entry);
    }
}
