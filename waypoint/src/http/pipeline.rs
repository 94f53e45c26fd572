//! From a request to its response: every decision, in order.
//!
//! ```text
//! head        refused without more: what is no good request of its version
//! receive     hop-by-hop headers and what only proxies may say go; request id, trace
//! tokens      JSON Web Tokens: 401
//! policies    CUSTOM (an authorizer is asked), DENY, ALLOW: 403
//! route       the rule, the backend that is drawn: 404, 500
//! filters     authorizers, rate limits: 429; fault; CORS preflight, redirect
//! forward     header edits, our own words, mirrors, attempts: 502, 503, 504
//! response    hop-by-hop headers go, edits, CORS
//! ```
//!
//! What was judged is what is sent on: there is one path and one host of a request.

mod judge;

use std::sync::Arc;
use std::time::Instant;

use ambit_core::addr::NamespacedName;
use ambit_core::model::Service;
use ambit_core::plan::BoundTo;
use ambit_http::fault;
use ambit_http::headers::{self, Received, TraceContext};
use ambit_http::model::route::RateLimitScope;
use ambit_http::refusal::{Flag, Refusal};
use ambit_http::route::{self, Forward, RequestHead, RequestPlan, cors, edit};
use ambit_http::timeout;
use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::attempt::{self, Outgoing};
use super::authorizer;
use super::body::Body;
use super::message::{Request, Response};
use super::mirror;
use super::record::Record;
use super::refuse::{refused, with_headers};
use super::websocket;
use crate::session::Session;
use crate::snapshot::Snapshot;

/// The answer to a head that is no good request.
pub(super) fn refuse_head(
    session: &Arc<Session>,
    refusal: &Refusal,
    version: &'static str,
) -> Response {
    let mut record = Record::of_head(session, version);
    record.refuse(refusal);
    record.with(refused(refusal, false))
}

/// Answers a request.
pub(super) async fn answer(session: &Arc<Session>, request: Request) -> Response {
    let grpc = request.is_grpc();
    let mut record = Record::new(session, &request, grpc);
    let response = match decide(session, request, grpc, &mut record).await {
        Ok(response) => response,
        Err(no) => {
            record.refuse(&no.refusal);
            no.response(grpc)
        }
    };
    record.with(response)
}

/// A refusal and what else the client is told.
struct No {
    refusal: Refusal,
    more: Option<Box<More>>,
}

#[derive(Default)]
struct More {
    headers: HeaderMap,
    body: Bytes,
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            more: None,
        }
    }
}

impl No {
    fn with(mut self, name: header::HeaderName, value: impl Into<HeaderValue>) -> Self {
        let more = self.more.get_or_insert_default();
        more.headers.insert(name, value.into());
        self
    }

    fn response(self, grpc: bool) -> Response {
        let mut response = refused(&self.refusal, grpc);
        if let Some(more) = self.more {
            response.headers.extend(more.headers);
            if !more.body.is_empty() && !grpc {
                response.body = Body::Full(more.body);
            }
        }
        response
    }
}

async fn decide(
    session: &Arc<Session>,
    mut request: Request,
    grpc: bool,
    record: &mut Record,
) -> Result<Response, No> {
    let snapshot = session.shared.snapshot();
    let hop = headers::Hop {
        peer: &session.peer,
        trusted_hops: session.trusted_hops,
        scheme: "http",
    };
    let mut received = headers::receive(&mut request.headers, &hop);
    let upgrade = request.upgrade.take().or(received.upgrade.take());
    // Not enabled: it is as if the client had not asked, and what comes is read as HTTP.
    let upgrade = upgrade.filter(is_enabled);
    // 100 has been given, or will be when the body is wanted.
    request.headers.remove(header::EXPECT);
    record.request_id(headers::request_id(&mut request.headers, rand::random));
    if let Some(tracing) = &session.shared.http.telemetry.tracing {
        let trace = TraceContext::of(
            &request.headers,
            rand::random(),
            tracing.samples(rand::random_range(0..1_000_000)),
        );
        trace.write(&mut request.headers);
        record.trace(trace);
    }

    let mut for_response =
        judge::admit(session, &snapshot, &mut request, received.client_ip, record).await?;

    let plan = plan(session, &snapshot, &request)?;
    record.rule(plan.rule.as_ref());
    for key in &plan.authorizers {
        let authorizer = snapshot.config.authorizer(key);
        let authorizer = authorizer.ok_or_else(|| {
            let reason = format!("the route's authorizer {key} is not there");
            Refusal::new(500, Flag::ExternalAuthDenied, reason)
        })?;
        let outcome = authorizer::ask(session, &snapshot, authorizer, &mut request).await?;
        for_response.extend(judge::follow(outcome, &mut request)?);
    }
    limit(session, &plan)?;
    if let Some(injected) = &plan.fault {
        let drawn = fault::draw(injected, &mut picker());
        if let Some(delay) = drawn.delay {
            tokio::time::sleep(delay).await;
            record.flag(Flag::DelayInjected);
        }
        if let Some(abort) = drawn.abort {
            return Err(abort.into());
        }
    }
    if let Some(rule) = &plan.cors
        && let Some(answer) = cors::preflight(rule, &request.method, &request.headers)
    {
        return Ok(with_headers(StatusCode::NO_CONTENT, answer));
    }
    let origin = plan.cors.as_ref();
    let origin = origin.and_then(|_| request.headers.get(header::ORIGIN).cloned());
    let forward = match &plan.action {
        Ok(forward) => forward,
        Err(redirect) => {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, redirect.location.clone());
            return Ok(with_headers(redirect.status, headers));
        }
    };
    let (outgoing, body) = outgoing(request, &received, forward, upgrade, grpc);
    record.forward(&snapshot, &forward.service, &outgoing.headers);
    let limits = timeout::Limits::new(
        &forward.timeouts,
        grpc.then(|| timeout::grpc(&outgoing.headers)).flatten(),
    );
    let body = mirror::copies(session, &snapshot, &outgoing, &forward.mirrors, body);
    let mut response =
        attempt::forward(session, &snapshot, &outgoing, body, forward, limits, record).await?;
    if response.upgraded.is_none() {
        headers::strip_response(&mut response.headers);
    }
    for (name, value) in for_response {
        response.headers.append(name, value);
    }
    for edits in &plan.response_edits {
        edit::apply(edits, &mut response.headers);
    }
    if let Some(rule) = &plan.cors {
        cors::decorate(rule, origin.as_ref(), &mut response.headers);
    }
    Ok(response)
}

/// The request as it leaves.
fn outgoing(
    mut request: Request,
    received: &Received,
    forward: &Forward,
    upgrade: Option<HeaderValue>,
    grpc: bool,
) -> (Outgoing, Body) {
    for edits in &forward.request_edits {
        edit::apply(edits, &mut request.headers);
    }
    received.forward(&mut request.headers);
    let host = match &forward.host {
        Some(rewritten) => ByteString::from(&**rewritten),
        None => request.host.authority().clone(),
    };
    let outgoing = Outgoing {
        method: request.method,
        path: forward.path.clone().unwrap_or(request.path),
        host,
        headers: request.headers,
        upgrade,
        grpc,
        client: Some(received.client_ip),
        desk: Some(request.desk),
    };
    (outgoing, request.body)
}

/// WebSocket is passed on; what else a connection could become is nothing a proxy can judge.
fn is_enabled(protocol: &HeaderValue) -> bool {
    protocol
        .as_bytes()
        .eq_ignore_ascii_case(websocket::NAME.as_bytes())
}

pub(super) fn picker() -> impl FnMut(u32) -> u32 {
    |bound| rand::random_range(0..bound)
}

fn plan(session: &Session, snapshot: &Snapshot, request: &Request) -> Result<RequestPlan, Refusal> {
    let port = session.target.address.port();
    let Some(service) = service(session) else {
        // A pod that was addressed itself: policies apply, routes do not.
        let service = session.target.services.first();
        let none = NamespacedName::new("", "");
        return Ok(route::forward_without_route(service.unwrap_or(&none), port));
    };
    let namespace = session.caller.identity.namespace();
    match snapshot.config.routes(&service.key, port, namespace) {
        Some(routes) => {
            let head = RequestHead {
                method: &request.method,
                host: &request.host,
                path: &request.path,
                headers: &request.headers,
                scheme: "http",
            };
            route::select(&routes, &head, &mut picker())
        }
        None => Ok(route::forward_without_route(&service.key, port)),
    }
}

fn limit(session: &Session, plan: &RequestPlan) -> Result<(), No> {
    for limit in &plan.limits {
        let client = (limit.per == RateLimitScope::Client).then_some(&session.caller.identity);
        let mut limiter = session.shared.http.limiter.lock();
        let permit = limiter.take(limit, client, Instant::now());
        permit
            .into_result(limit)
            .map_err(|(refusal, seconds)| No::from(refusal).with(header::RETRY_AFTER, seconds))?;
    }
    Ok(())
}

/// The service that was addressed; a pod that was addressed itself is none.
fn service(session: &Session) -> Option<&Arc<Service>> {
    match &session.target.bound {
        BoundTo::Service(service) => Some(service),
        BoundTo::Workload(_) => None,
    }
}

/// What an authorizer's denial says to the client.
fn denied(refusal: Refusal, headers: HeaderMap, body: Bytes) -> No {
    No {
        refusal,
        more: Some(Box::new(More { headers, body })),
    }
}
