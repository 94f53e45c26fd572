//! `POST /sync`: look at the source now, and answer when what follows is in force everywhere.

use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use http::StatusCode;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Admin;
use crate::engine::State;
use crate::push::connections::RenderedNack;
use crate::source::Problem;

/// How long a sync waits unless it is told.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// How a sync ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every proxy that is connected has it.
    InForce,
    /// Something is wrong with objects, or a proxy refused something.
    Conflict,
    /// A proxy did not answer in time.
    Timeout,
}

impl Outcome {
    /// As an HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::InForce => StatusCode::OK,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// What a sync found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The generation that includes all the source holds.
    pub generation: u64,
    /// How many objects are acted upon.
    pub objects: usize,
    /// What is wrong with objects.
    pub errors: Vec<Problem>,
    /// Of which objects some of these errors are that they cannot be read.
    pub unreadable: Vec<String>,
    /// What has no effect (yet).
    pub notices: Vec<Problem>,
    /// Every proxy that is connected.
    pub proxies: Vec<Proxy>,
}

/// One connected proxy.
#[derive(Debug, Serialize)]
pub struct Proxy {
    /// Its node id.
    pub node: Arc<str>,
    /// It has answered everything up to the generation, and refuses nothing.
    pub acked: bool,
    /// What it refuses.
    pub nacks: Vec<RenderedNack>,
}

/// Reads the source again and waits for every proxy.
///
/// # Errors
/// The source cannot be read at all.
pub async fn sync(admin: &Admin, timeout: Duration) -> Result<(Outcome, Report), String> {
    let deadline = Instant::now() + timeout;
    // Subscribed before anything is asked, so that no answer is missed.
    let mut changes = admin.connections.changes();
    let (asked, answer) = oneshot::channel();
    admin
        .rescan
        .send(asked)
        .await
        .map_err(|_| "the source has stopped".to_owned())?;
    let mut steps = admin.state.changes();
    // Not bounded by the timeout: without the generation there is nothing to report.
    let mut generation = answer
        .await
        .map_err(|_| "the source has stopped".to_owned())??;
    let mut underway: Vec<NamespacedName> = {
        let index = admin.state.index();
        index.steps().map(|step| step.service).collect()
    };
    loop {
        changes.borrow_and_update();
        steps.borrow_and_update();
        generation = generation.max(arrived(&mut underway, &admin.state));
        let proxies = admin.connections.proxies();
        let settled = proxies.iter().all(|proxy| proxy.settled(generation));
        if settled && underway.is_empty() {
            let report = report(admin, generation);
            let refused = report.proxies.iter().any(|proxy| !proxy.nacks.is_empty());
            let outcome = if report.errors.is_empty() && !refused {
                Outcome::InForce
            } else {
                Outcome::Conflict
            };
            return Ok((outcome, report));
        }
        let moved = async {
            tokio::select! {
                moved = changes.changed() => moved,
                moved = steps.changed() => moved,
            }
        };
        match timeout_at(deadline, moved).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err("the control plane is stopping".to_owned()),
            Err(_) => return Ok((Outcome::Timeout, report(admin, generation))),
        }
    }
}

/// Takes out of `underway` what goes step by step no more, and gives the generation that has its last step; 0 when nothing
/// was taken out.
fn arrived(underway: &mut Vec<NamespacedName>, state: &State) -> u64 {
    let index = state.index();
    let before = underway.len();
    underway.retain(|service| index.is_underway(service));
    match underway.len() < before {
        true => state.shelves().generation(),
        false => 0,
    }
}

fn report(admin: &Admin, generation: u64) -> Report {
    let proxies = admin.connections.proxies();
    let counts = admin.state.index().objects().counts();
    Report {
        generation,
        objects: counts.iter().map(|(_, count)| count).sum(),
        errors: admin.state.problems(),
        unreadable: admin.state.unreadable(),
        notices: admin.state.notices(),
        proxies: proxies
            .iter()
            .map(|proxy| {
                let nacks: Vec<_> = proxy.nacks().collect();
                Proxy {
                    node: proxy.node.clone(),
                    acked: proxy.settled(generation) && nacks.is_empty(),
                    nacks,
                }
            })
            .collect(),
    }
}
