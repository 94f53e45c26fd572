//! Copies of requests for others. They never delay or fail a request: a copy that is not taken as fast
//! as the original is given up.

mod feed;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ambit_http::balance::Wish;
use ambit_http::breaker::Kind;
use ambit_http::model::route::BackendRef;
use tokio::time::timeout;

use super::attempt::{self, Outgoing};
use super::body::{Body, Repeatable};
use crate::session::Session;
use crate::snapshot::Snapshot;

pub(super) use feed::{Copied, feed};

/// Copies under way on one worker; more are not begun.
const MOST: usize = 1024;
/// A copy is given up after this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Copies that are under way on a worker.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    copies: AtomicUsize,
    /// Bytes that wait for mirrors.
    waiting: AtomicUsize,
}

/// Starts a copy to each mirror; the body of the original, which feeds them.
pub(super) fn copies(
    session: &Arc<Session>,
    snapshot: &Snapshot,
    outgoing: &Outgoing,
    mirrors: &[BackendRef],
    mut body: Body,
) -> Body {
    for mirror in mirrors {
        let BackendRef::Service { service, port } = mirror else {
            continue;
        };
        let Some(counted) = Counted::new(&session.shared.http.mirrors) else {
            tracing::debug!(%service, "too many copies are under way");
            continue;
        };
        let upstreams = &session.shared.upstreams;
        let chosen = match upstreams.pick(snapshot, service, *port, Kind::Request, &Wish::default())
        {
            Ok(chosen) => chosen,
            Err(refusal) => {
                tracing::debug!(%refusal, "no mirror");
                continue;
            }
        };
        let mut outgoing = outgoing.clone();
        outgoing.upgrade = None;
        outgoing.desk = None;
        let copy = match body.is_empty() {
            true => Body::Empty,
            false => {
                let (feed, copy) = feed(&session.shared.http.mirrors);
                let copy = Body::Copy(copy, body.framing());
                body = Body::Watched(Box::new(body), Box::new(feed));
                copy
            }
        };
        let session = session.clone();
        tokio::spawn(async move {
            let copying = async {
                let copy = Repeatable::new(copy, 0);
                let caller = Some(&session.caller);
                let shared = &session.shared;
                let answered = attempt::exchange(shared, caller, &chosen, &outgoing, &copy).await;
                if let Ok(mut response) = answered {
                    // Read to the end, so that the connection can be used again.
                    while let Ok(Some(_)) = response.body.next().await {}
                }
            };
            if timeout(PATIENCE, copying).await.is_err() {
                tracing::debug!("a mirror took too long");
            }
            drop(counted);
        });
    }
    body
}

/// One copy, counted until it is dropped.
struct Counted(Arc<UnderWay>);

impl Counted {
    fn new(all: &Arc<UnderWay>) -> Option<Self> {
        let counted = Self(all.clone());
        let before = all.copies.fetch_add(1, Ordering::Relaxed);
        // Dropping it takes the count back.
        (before < MOST).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.copies.fetch_sub(1, Ordering::Relaxed);
    }
}
