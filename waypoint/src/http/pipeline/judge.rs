//! Whether a request may go on: its token, then the policies.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ambit_http::authz::{self, Decision, Facts, RequestFacts, Verdict};
use ambit_http::config::Scope;
use ambit_http::extauth;
use ambit_http::jwt::{self, Authenticated, Rejection, TokenRequest};
use http::{HeaderName, HeaderValue, header};

use super::{No, denied};
use crate::http::authorizer;
use crate::http::message::Request;
use crate::http::record::Record;
use crate::http::verify::Signatures;
use crate::session::Session;
use crate::snapshot::Snapshot;

/// Headers that authorizers want in the response.
pub(super) type ForResponse = Vec<(HeaderName, HeaderValue)>;

/// Tokens, then CUSTOM, DENY and ALLOW policies.
pub(super) async fn admit(
    session: &Arc<Session>,
    snapshot: &Snapshot,
    request: &mut Request,
    remote_ip: IpAddr,
    record: &mut Record,
) -> Result<ForResponse, No> {
    let mut for_response = Vec::new();
    let authentications = snapshot.config.authentications(scope(session));
    jwt::sanitise(authentications.map(|it| &**it), &mut request.headers);
    let authenticated = authenticate(session, snapshot, request).await?;
    let mut verdict = authorize(
        session,
        snapshot,
        request,
        remote_ip,
        authenticated.as_ref(),
        true,
    );
    let asks = match &mut verdict.decision {
        Decision::Ask(asks) => std::mem::take(asks),
        _ => Vec::new(),
    };
    if !asks.is_empty() {
        for ask in asks {
            let Some(authorizer) = snapshot.config.authorizer(&ask.authorizer) else {
                return Err(ask.unknown().refusal().into());
            };
            let outcome = authorizer::ask(session, snapshot, authorizer, request).await?;
            for_response.extend(follow(outcome, request)?);
        }
        // DENY and ALLOW judge the request as the authorizers left it.
        verdict = authorize(
            session,
            snapshot,
            request,
            remote_ip,
            authenticated.as_ref(),
            false,
        );
    }
    record.verdict(&verdict);
    if !verdict.allowed() {
        return Err(verdict.reason.refusal().into());
    }
    if let Some(token) = &authenticated {
        token.edit(&mut request.headers, &mut request.path);
    }
    Ok(for_response)
}

/// Does what an authorizer wants.
pub(super) fn follow(outcome: extauth::Outcome, request: &mut Request) -> Result<ForResponse, No> {
    match outcome {
        extauth::Outcome::Allow(changes) => {
            changes.apply(&mut request.headers);
            Ok(changes.response)
        }
        extauth::Outcome::Deny {
            refusal,
            headers,
            body,
        } => Err(denied(refusal, headers, body)),
    }
}

async fn authenticate(
    session: &Arc<Session>,
    snapshot: &Snapshot,
    request: &Request,
) -> Result<Option<Authenticated>, No> {
    let scope = scope(session);
    // Most requests have nobody who would look for a token.
    if snapshot.config.authentications(scope).next().is_none() {
        return Ok(None);
    }
    let keys = &session.shared.http.keys;
    let known = keys.known(session);
    let look = || {
        let asked = TokenRequest {
            headers: &request.headers,
            query: request.path.query(),
        };
        let authentications = snapshot.config.authentications(scope);
        let authentications = authentications.map(|it| &**it);
        let now = SystemTime::now();
        jwt::authenticate(authentications, &asked, &known, &Signatures, now)
    };
    let mut found = look();
    if let Err(Rejection {
        stale: Some(source),
        ..
    }) = &found
        && keys.refreshed(session, source).await
    {
        found = look();
    }
    found.map_err(|rejection| {
        No::from(rejection.refusal).with(header::WWW_AUTHENTICATE, Rejection::CHALLENGE)
    })
}

fn authorize(
    session: &Session,
    snapshot: &Snapshot,
    request: &Request,
    remote_ip: IpAddr,
    authenticated: Option<&Authenticated>,
    ask: bool,
) -> Verdict {
    let source_ip = session.caller.address.ip().to_canonical();
    let facts = Facts {
        source: Some(&session.caller.identity),
        source_ip,
        remote_ip,
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
    let policies = snapshot.config.policies(scope(session)).map(|it| &**it);
    match ask {
        true => authz::authorize(policies, &facts),
        false => authz::authorize_asked(policies, &facts),
    }
}

fn scope(session: &Session) -> Scope<'_> {
    Scope {
        waypoint: &session.shared.gateway,
        services: &session.target.services,
    }
}
