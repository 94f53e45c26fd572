//! Copies of requests for others. They never delay or fail a request: a copy that is not taken as fast
//! as the original is given up.

use std::sync::Arc;

use ambit_http::model::route::BackendRef;
use tokio::sync::mpsc;

use super::attempt::{self, Outgoing};
use super::body::{Body, Broken, Frame, Repeatable, Watch};
use crate::session::Session;
use crate::snapshot::Snapshot;

/// Pieces that may wait for a mirror.
const BEHIND: usize = 16;

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
        let picked = session.shared.upstreams.pick(snapshot, service, *port, &[]);
        let Ok(endpoint) = picked else { continue };
        let mut outgoing = outgoing.clone();
        outgoing.upgrade = None;
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
            let copy = Repeatable::new(copy, 0);
            let answered = attempt::exchange(&session, &endpoint, &outgoing, &copy).await;
            if let Ok(mut response) = answered {
                // Read to the end, so that the connection can be used again.
                while let Ok(Some(_)) = response.body.next().await {}
            }
        });
    }
    body
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

    fn end(&mut self, result: Result<(), &Broken>) {
        if result.is_ok() {
            self.send(None);
        }
        self.0 = None;
    }
}
