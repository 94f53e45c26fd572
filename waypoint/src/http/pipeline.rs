//! From a request to its response: every decision, in order. See the chart in the module above.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::model::Service;
use ambit_core::plan::BoundTo;
use ambit_http::authz::{self, Decision, Facts, RequestFacts};
use ambit_http::config::Scope;
use ambit_http::headers::{self, TraceContext};
use ambit_http::jwt::{self, Authenticated, Rejection, TokenRequest};
use ambit_http::model::route::{RateLimit, RateLimitScope};
use ambit_http::refusal::{Flag, Refusal};
use ambit_http::route::{self, RequestHead, RequestPlan, cors, edit};
use ambit_http::{fault, timeout};
use http::{HeaderValue, StatusCode, header};

use super::attempt::{self, Outgoing};
use super::message::{Request, Response};
use super::mirror;
use super::record::Record;
use super::refuse::{refused, with_headers};
use super::verify::{KnownKeys, Signatures};
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
    record.watch(refused(refusal, false))
}

/// Answers a request.
pub(super) async fn answer(session: &Arc<Session>, request: Request) -> Response {
    let grpc = request.is_grpc();
    let mut record = Record::new(session, &request);
    let response = match decide(session, request, grpc, &mut record).await {
        Ok(response) => response,
        Err(No {
            refusal,
            challenge,
            retry_after,
        }) => {
            record.refuse(&refusal);
            let mut response = refused(&refusal, grpc);
            if let Some(challenge) = challenge {
                response.headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            if let Some(seconds) = retry_after {
                response.headers.insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
    };
    record.watch(response)
}

/// A refusal and what else the client is told.
struct No {
    refusal: Refusal,
    challenge: Option<HeaderValue>,
    retry_after: Option<u64>,
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            challenge: None,
            retry_after: None,
        }
    }
}

async fn decide(
    session: &Arc<Session>,
    mut request: Request,
    grpc: bool,
    record: &mut Record,
) -> Result<Response, No> {
    let snapshot = session.shared.snapshot();
    let now = Instant::now();
    let hop = headers::Hop {
        peer: session.caller.address.ip(),
        client: Some(&session.caller.identity),
        proxy: &session.shared.me,
        trusted_hops: 0,
        scheme: "http",
    };
    let mut received = headers::receive(&mut request.headers, &hop);
    let asked = request.upgrade.take();
    let upgrade = asked.or(received.upgrade.take()).filter(is_enabled);
    let id = headers::request_id(&mut request.headers, rand::random);
    record.request_id(&id);
    let trace = TraceContext::of(&request.headers, random(), false);
    trace.write(&mut request.headers);

    let authentications = snapshot.config.authentications(scope(session));
    jwt::sanitise(authentications.map(|it| &**it), &mut request.headers);
    let authenticated = authenticate(session, &snapshot, &request)?;
    authorize(session, &snapshot, &request, authenticated.as_ref(), record)?;
    if let Some(token) = &authenticated {
        token.edit(&mut request.headers, &mut request.path);
    }

    let plan = plan(session, &snapshot, &request)?;
    record.plan(&plan);
    limit(session, &plan, now)?;
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
    // Asking is not there yet: nobody has said yes.
    if let Some(authorizer) = plan.authorizers.first() {
        let reason = format!("external authorizer {authorizer} cannot be asked by this version");
        return Err(Refusal::new(403, Flag::ExternalAuthDenied, reason).into());
    }
    if let Some(rule) = &plan.cors
        && let Some(answer) = cors::preflight(rule, &request.method, &request.headers)
    {
        return Ok(with_headers(StatusCode::NO_CONTENT, answer));
    }
    let origin = plan
        .cors
        .as_ref()
        .and_then(|_| request.headers.get(header::ORIGIN).cloned());
    let RequestPlan {
        action,
        response_edits,
        cors: rule,
        ..
    } = plan;
    let forward = match action {
        Ok(forward) => forward,
        Err(redirect) => {
            let mut headers = http::HeaderMap::new();
            headers.insert(header::LOCATION, redirect.location);
            return Ok(with_headers(redirect.status, headers));
        }
    };

    let limits = timeout::Limits::new(
        &forward.timeouts,
        grpc.then(|| timeout::grpc(&request.headers)).flatten(),
    );
    for edits in &forward.request_edits {
        edit::apply(edits, &mut request.headers);
    }
    received.forward(&mut request.headers);
    let outgoing = Outgoing {
        method: request.method,
        path: forward.path.as_ref().unwrap_or(&request.path).clone(),
        host: forward
            .host
            .as_deref()
            .unwrap_or(request.host.authority())
            .into(),
        headers: request.headers,
        upgrade,
        grpc,
    };
    let body = mirror::copies(
        session,
        &snapshot,
        &outgoing,
        &forward.mirrors,
        request.body,
    );
    let mut response = attempt::forward(
        session, &snapshot, &outgoing, body, &forward, limits, record,
    )
    .await?;
    if response.upgraded.is_none() {
        headers::strip_response(&mut response.headers);
    }
    for edits in &response_edits {
        edit::apply(edits, &mut response.headers);
    }
    if let Some(rule) = rule {
        cors::decorate(&rule, origin.as_ref(), &mut response.headers);
    }
    Ok(response)
}

/// WebSocket is passed on; what else a connection could become is nothing a proxy can judge.
fn is_enabled(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
}

fn random() -> [u8; 24] {
    rand::random()
}

pub(super) fn picker() -> impl FnMut(u32) -> u32 {
    |bound| rand::random_range(0..bound)
}

fn scope(session: &Session) -> Scope<'_> {
    Scope {
        waypoint: &session.shared.gateway,
        services: &session.target.services,
    }
}

fn authenticate(
    session: &Session,
    snapshot: &Snapshot,
    request: &Request,
) -> Result<Option<Authenticated>, No> {
    let asked = TokenRequest {
        headers: &request.headers,
        query: request.path.query(),
    };
    let authentications = snapshot.config.authentications(scope(session));
    let found = jwt::authenticate(
        authentications.map(|it| &**it),
        &asked,
        &KnownKeys,
        &Signatures,
        SystemTime::now(),
    );
    found.map_err(|rejection| No {
        challenge: Some(Rejection::CHALLENGE),
        ..No::from(rejection.refusal)
    })
}

fn authorize(
    session: &Session,
    snapshot: &Snapshot,
    request: &Request,
    authenticated: Option<&Authenticated>,
    record: &mut Record,
) -> Result<(), Refusal> {
    let source_ip = session.caller.address.ip().to_canonical();
    let facts = Facts {
        source: Some(&session.caller.identity),
        source_ip,
        // Nobody in front of the mesh is trusted.
        remote_ip: source_ip,
        destination: session.target.address,
        sni: None,
        request: Some(RequestFacts {
            host: request.host.name(),
            method: &request.method,
            path: request.path.path(),
            headers: &request.headers,
            claims: authenticated.map(|it| &it.claims),
        }),
    };
    let policies = snapshot.config.policies(scope(session));
    let verdict = authz::authorize(policies.map(|it| &**it), &facts);
    record.verdict(&verdict);
    match verdict.decision {
        Decision::Allow => Ok(()),
        Decision::Deny => Err(verdict.reason.refusal()),
        // Asking is not there yet: nobody has said yes.
        Decision::Ask(asks) => Err(asks
            .first()
            .map_or_else(|| verdict.reason.refusal(), |ask| ask.unknown().refusal())),
    }
}

fn plan(session: &Session, snapshot: &Snapshot, request: &Request) -> Result<RequestPlan, Refusal> {
    let Some(service) = service(session) else {
        // A pod that was addressed itself: policies apply, routes do not.
        let service = session.target.services.first();
        let none = NamespacedName::new("", "");
        return Ok(route::forward_without_route(
            service.unwrap_or(&none),
            session.target.address.port(),
        ));
    };
    let port = session.target.address.port();
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

fn limit(session: &Session, plan: &RequestPlan, now: Instant) -> Result<(), No> {
    let who = |limit: &RateLimit| -> Option<&Identity> {
        (limit.per == RateLimitScope::Client).then_some(&session.caller.identity)
    };
    for limit in &plan.limits {
        let mut limiter = session.shared.http.limiter.lock();
        let permit = limiter.take(limit, who(limit), now);
        permit.into_result(limit).map_err(|(refusal, seconds)| No {
            retry_after: Some(seconds),
            ..No::from(refusal)
        })?;
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
