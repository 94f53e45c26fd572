//! What is told of a request when it is over: its metrics, its line in the access log, its span.

mod reports;
mod series;
mod span;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use ambit_core::addr::NamespacedName;
use ambit_core::model::Service;
use ambit_core::plan::BoundTo;
use ambit_http::authz::Verdict;
use ambit_http::cluster;
use ambit_http::headers::TraceContext;
use ambit_http::host::Host;
use ambit_http::model::RouteRule;
use ambit_http::path::CanonicalPath;
use ambit_http::refusal::{Flag, Refusal};
use ambit_telemetry::metrics::{RequestLabels, RequestProtocol, Security};
use ambit_telemetry::requests::Entry;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::body::{Frame, Repeatable};
use super::h1::Carried;
use super::message::{Request, Response};
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::upstream::{Chosen, Endpoint};

pub(crate) use reports::reported;
pub(crate) use series::LastSeries;

/// Collects; when it is dropped, the request is over. Unless somebody said how it went, the client left, or the drain has
/// cut it off.
pub(super) struct Record {
    session: Arc<Session>,
    /// It has a line in the access log. That is decided when it comes.
    logged: bool,
    started: Instant,
    /// Unless nobody will be told.
    asked: Option<Asked>,
    version: &'static str,
    grpc: bool,
    request_id: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
    trace: Option<TraceContext>,
    rule: Option<Arc<RouteRule>>,
    service: Option<Arc<Service>>,
    endpoint: Option<Endpoint>,
    /// The attempt is in flight as long as this is held.
    counted: Option<cluster::Chosen>,
    attempts: u32,
    answered: Option<Duration>,
    body: Option<Repeatable>,
    carried_up: u64,
    sent: u64,
    status: u16,
    grpc_status: Option<u8>,
    flag: Flag,
    reason: String,
    notes: Vec<String>,
    over: bool,
}

struct Asked {
    method: Method,
    path: CanonicalPath,
    host: Host,
    user_agent: Option<HeaderValue>,
}

impl Record {
    pub(super) fn new(session: &Arc<Session>, request: &Request, grpc: bool) -> Box<Self> {
        let mut record = Self::of_head(session, request.version);
        record.grpc = grpc;
        let is_told = record.logged || session.shared.http.telemetry.tracing.is_some();
        record.asked = is_told.then(|| Asked {
            method: request.method.clone(),
            path: request.path.clone(),
            host: request.host.clone(),
            user_agent: request.headers.get(header::USER_AGENT).cloned(),
        });
        record
    }

    /// For a head that is no request.
    pub(super) fn of_head(session: &Arc<Session>, version: &'static str) -> Box<Self> {
        Box::new(Self {
            session: session.clone(),
            logged: session.shared.http.telemetry.log.is_on(),
            started: Instant::now(),
            asked: None,
            version,
            grpc: false,
            request_id: None,
            forwarded_for: None,
            trace: None,
            rule: None,
            service: match &session.target.bound {
                BoundTo::Service(service) => Some(service.clone()),
                BoundTo::Workload(_) => None,
            },
            endpoint: None,
            counted: None,
            attempts: 0,
            answered: None,
            body: None,
            carried_up: 0,
            sent: 0,
            status: 0,
            grpc_status: None,
            flag: Flag::None,
            reason: String::new(),
            notes: Vec::new(),
            over: false,
        })
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn request_id(&mut self, id: HeaderValue) {
        self.request_id = Some(id);
    }

    pub(super) fn trace(&mut self, trace: TraceContext) {
        self.trace = Some(trace);
    }

    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        self.notes = reported(verdict);
    }

    pub(super) fn rule(&mut self, rule: Option<&Arc<RouteRule>>) {
        self.rule = rule.cloned();
    }

    /// Where the request goes, and as what.
    pub(super) fn forward(
        &mut self,
        snapshot: &Snapshot,
        service: &NamespacedName,
        headers: &HeaderMap,
    ) {
        // Mostly it is the one that was addressed.
        if self.service.as_ref().is_none_or(|it| it.key != *service)
            && let Some(service) = snapshot.index.service(service)
        {
            self.service = Some(service.clone());
        }
        const XFF: HeaderName = HeaderName::from_static("x-forwarded-for");
        self.forwarded_for = headers.get(XFF).cloned();
    }

    pub(super) fn body(&mut self, body: Repeatable) {
        self.body = Some(body);
    }

    pub(super) fn attempt(&mut self, chosen: &mut Chosen, number: u32) {
        self.endpoint = Some(chosen.endpoint.clone());
        self.counted = chosen.counted.take();
        self.attempts = number;
    }

    /// The last attempt has come to an end: the head of its response, or none.
    pub(super) fn answered(&mut self, now: Instant) {
        self.answered = Some(now.saturating_duration_since(self.started));
    }

    /// There is no attempt in flight.
    pub(super) fn counts_no_more(&mut self) {
        self.counted = None;
    }

    /// The attempt that is counted now.
    pub(super) fn counted(&self) -> Option<&cluster::Chosen> {
        self.counted.as_ref()
    }

    pub(super) fn flag(&mut self, flag: Flag) {
        if flag != Flag::None {
            self.flag = flag;
        }
    }

    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.flag(refusal.flag);
        self.reason.clone_from(&refusal.reason);
    }

    /// The response that goes to the client, with this.
    pub(super) fn with(mut self: Box<Self>, mut response: Response) -> Response {
        self.status = response.status.as_u16();
        self.grpc_status(&response.headers);
        response.record = Some(self);
        response
    }

    /// A part of the body has been given to the client's connection.
    pub(super) fn piece(&mut self, frame: &Frame) {
        match frame {
            Frame::Data(data) => self.sent += data.len() as u64,
            Frame::Trailers(trailers) => self.grpc_status(trailers),
        }
    }

    fn grpc_status(&mut self, headers: &HeaderMap) {
        if self.grpc
            && let Some(status) = headers.get("grpc-status")
        {
            self.grpc_status = status.to_str().ok().and_then(|it| it.parse().ok());
        }
    }

    /// What a connection that became something else has carried.
    pub(super) fn carried(&mut self, carried: Carried) {
        self.carried_up = carried.up;
        self.sent = carried.down;
    }

    /// All of the response has been sent.
    pub(super) fn complete(mut self: Box<Self>) {
        self.over = true;
    }

    /// The response is incomplete, and not because of the client.
    pub(super) fn broke(mut self: Box<Self>, error: &dyn std::fmt::Display) {
        self.over = true;
        self.flag = Flag::UpstreamReset;
        self.reason = error.to_string();
    }

    /// The response was not over in time.
    pub(super) fn late(mut self: Box<Self>) {
        self.over = true;
        self.flag = Flag::UpstreamTimeout;
        "the response was not over in time".clone_into(&mut self.reason);
    }

    fn tell(&self) {
        let duration = self.started.elapsed();
        let received = self.body.as_ref().map_or(0, Repeatable::received) + self.carried_up;
        let telemetry = &self.session.shared.http.telemetry;
        let series = self.session.series.of(self, &telemetry.metrics);
        series.count(duration, received, self.sent);
        if let Some(trace) = self.trace.filter(|it| it.sampled) {
            if telemetry.exemplars {
                series.exemplify(duration, trace.trace_id, SystemTime::now());
            }
            if let Some(tracing) = &telemetry.tracing {
                tracing.record(self.span(&trace, duration, received));
            }
        }
        let service = self.service.as_deref();
        self.session.count_denial(self.flag, service, &self.reason);
        if self.logged {
            self.with_entry(duration, received, |entry| telemetry.log.write(entry));
        }
    }

    fn labels(&self) -> RequestLabels<'_> {
        let caller = &self.session.caller;
        let destination = self.endpoint.as_ref().map(|it| &*it.workload);
        let tunnel = self.endpoint.as_ref().is_some_and(|it| it.tunnel.is_some());
        let service = self.service.as_deref();
        RequestLabels {
            source: caller.workload.as_deref(),
            source_principal: Some(&caller.identity),
            destination,
            destination_principal: destination.filter(|_| tunnel).map(|it| &it.identity),
            service: service.map(|it| (&it.key, &*it.name)),
            protocol: match self.grpc {
                true => RequestProtocol::Grpc,
                false => RequestProtocol::Http,
            },
            response_code: self.status,
            grpc_status: self.grpc_status,
            response_flags: self.flag.as_str(),
            security: Security::MutualTls,
        }
    }

    fn with_entry(&self, duration: Duration, received: u64, write: impl FnOnce(&Entry<'_>)) {
        fn bytes(value: Option<&HeaderValue>) -> &[u8] {
            value.map_or(&[], HeaderValue::as_bytes)
        }
        fn shown<T: std::fmt::Display>(value: Option<&T>) -> Option<&dyn std::fmt::Display> {
            value.map(|it| it as &dyn std::fmt::Display)
        }
        let asked = self.asked.as_ref();
        let endpoint = self.endpoint.as_ref();
        let pod = endpoint.map(|it| &it.workload);
        let trace = self.trace.filter(|it| it.sampled);
        write(&Entry {
            start: SystemTime::now() - duration,
            method: asked.map_or("", |it| it.method.as_str()),
            path: asked.map_or("", |it| it.path.as_str()),
            protocol: self.version,
            status: self.status,
            grpc_status: self.grpc_status,
            flags: self.flag.as_str(),
            reason: &self.reason,
            bytes_received: received,
            bytes_sent: self.sent,
            duration,
            upstream_time: self.answered,
            attempts: self.attempts,
            forwarded_for: bytes(self.forwarded_for.as_ref()),
            user_agent: bytes(asked.and_then(|it| it.user_agent.as_ref())),
            request_id: bytes(self.request_id.as_ref()),
            authority: asked.map_or("", |it| it.host.authority()),
            route: shown(self.rule.as_ref().map(|it| &it.key)),
            upstream: endpoint.map(|it| it.address),
            upstream_workload: pod.map(|it| (&*it.namespace, &*it.name)),
            upstream_service: shown(self.service.as_ref().map(|it| &it.key)),
            parties: &self.session.parties,
            trace: trace.map(|it| it.trace_id),
            notes: &self.notes,
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.over && self.session.shared.cut.load(Ordering::Relaxed) {
            self.flag = Flag::LocalReset;
            "the waypoint ends".clone_into(&mut self.reason);
        } else if !self.over && self.flag == Flag::None {
            self.flag = Flag::DownstreamClosed;
        }
        self.tell();
    }
}
