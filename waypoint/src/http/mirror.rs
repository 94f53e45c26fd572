//! Copies of requests for others. They never delay or fail a request: a copy that is not taken as fast
//! as the original is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ambit_http::balance::Wish;
use ambit_http::breaker::Kind;
use ambit_http::model::route::BackendRef;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::attempt::{self, Outgoing};
use super::body::{Body, Frame, Repeatable, Watch};
use crate::session::Session;
use crate::snapshot::Snapshot;

/// Pieces that may wait for a mirror; each is at most what is read of a body at once.
const BEHIND: usize = 8;
/// Copies under way on one worker; more are not begun.
const MOST: usize = 1024;
/// A copy is given up after this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Copies that are under way on this worker.
pub(super) type UnderWay = Arc<AtomicUsize>;

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
                let (pieces, taken) = mpsc::channel(BEHIND);
                let copy = Body::Copy(taken, body.framing());
                body = Body::Watched(Box::new(body), Box::new(Feed(Some(pieces))));
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
struct Counted(UnderWay);

impl Counted {
    fn new(all: &UnderWay) -> Option<Self> {
        let counted = Self(all.clone());
        let before = all.fetch_add(1, Ordering::Relaxed);
        // Dropping it takes the count back.
        (before < MOST).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Hands pieces on as long as the mirror keeps up.
struct Feed(Option<mpsc::Sender<Option<Frame>>>);

impl Feed {
    fn send(&mut self, frame: Option<Frame>) {
        let sent = self.0.as_ref().map(|pieces| pieces.try_send(frame));
        if matches!(sent, Some(Err(_))) {
            self.0 = None;
        }
    }
}

impl Watch for Feed {
    fn piece(&mut self, frame: &Frame) {
        self.send(Some(frame.clone()));
    }

    fn end(&mut self) {
        self.send(None);
        self.0 = None;
    }
}
