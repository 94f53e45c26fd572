//! One connection: what is known of it, its counters, and its end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ambit_core::identity::Identity;
use ambit_core::index::Index;
use ambit_core::model::{Service, Workload};
use ambit_core::plan::{Refusal, ResponseFlag, Transport};
use ambit_net::relay::{self, Counters};
use ambit_proxy::{Facts, dump};
use ambit_telemetry::access::{Direction, Entry, Party};
use ambit_telemetry::metrics::{Reporter, Security, Series, TrafficLabels};
use metrics::{counter, describe_counter};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Claim, Connections, judge};
use crate::proxy::Failure;

const HALF_CLOSED_TIMEOUTS: &str = "ambit_half_closed_timeouts_total";

/// Says what the metric is, and that no connection has ended so.
pub fn describe() {
    describe_counter!(
        HALF_CLOSED_TIMEOUTS,
        "Connections that were ended because one side had closed and the other was silent for too long."
    );
    counter!(HALF_CLOSED_TIMEOUTS).absolute(0);
}

/// What is known when a connection arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Seen from the pod.
    pub direction: Direction,
    /// What carries it.
    pub transport: Transport,
    /// The client.
    pub source: SocketAddr,
    /// What it dialled, or where it arrived.
    pub destination: SocketAddr,
    /// The relay's near side is the server, not the client.
    pub server_is_near: bool,
}

/// What is known once a connection is planned.
#[derive(Debug, Clone)]
pub struct Details {
    /// The client.
    pub source: Option<Arc<Workload>>,
    /// Its identity, when something vouches for it.
    pub source_identity: Option<Identity>,
    /// Its address, when it is not the connection's other end.
    pub source_addr: Option<SocketAddr>,
    /// The waypoint it came through, when that says who it is.
    pub waypoint: Option<Identity>,
    /// The server.
    pub destination: Option<Arc<Workload>>,
    /// Its identity, when something vouches for it.
    pub destination_identity: Option<Identity>,
    /// Where the bytes go.
    pub destination_addr: SocketAddr,
    /// What the tunnel was asked for.
    pub hbone_addr: Option<Box<str>>,
    /// What the client asked for.
    pub service: Option<Arc<Service>>,
    /// What protects it.
    pub security: Security,
}

impl Details {
    /// Nothing but the address.
    #[must_use]
    pub fn unknown(destination_addr: SocketAddr) -> Self {
        Self {
            source: None,
            source_identity: None,
            source_addr: None,
            waypoint: None,
            destination: None,
            destination_identity: None,
            destination_addr,
            hbone_addr: None,
            service: None,
            security: Security::Unknown,
        }
    }

    fn labels(
        &self,
        reporter: Reporter,
        transport: Transport,
        response_flags: ResponseFlag,
    ) -> TrafficLabels<'_> {
        TrafficLabels {
            reporter,
            source: self.source.as_deref(),
            source_principal: self.source_identity.as_ref(),
            source_waypoint: self.waypoint.as_ref(),
            destination: self.destination.as_deref(),
            destination_principal: self.destination_identity.as_ref(),
            service: self.service.as_deref().map(|s| (&s.key, &*s.name)),
            response_flags: response_flags.as_str(),
            transport,
            security: self.security,
        }
    }
}

/// A connection that runs.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    ends: Ends,
    started: Instant,
    claim: Mutex<Option<Claim>>,
    details: OnceLock<Box<Details>>,
    series: OnceLock<Reported>,
    counters: Counters,
    counted: [AtomicU64; 2],
    refusal: OnceLock<Refusal>,
    closing: Notify,
}

/// The series of a connection. Between two pods of this node it is reported for both ends.
#[derive(Debug)]
struct Reported {
    own: Arc<Series>,
    other: Option<Arc<Series>>,
}

impl Reported {
    fn each(&self, act: impl Fn(&Series)) {
        act(&self.own);
        if let Some(other) = &self.other {
            act(other);
        }
    }
}

impl Connection {
    pub(super) fn new(id: u64, ends: Ends) -> Self {
        Self {
            id,
            ends,
            started: Instant::now(),
            claim: Mutex::default(),
            details: OnceLock::new(),
            series: OnceLock::new(),
            counters: Counters::default(),
            counted: Default::default(),
            refusal: OnceLock::new(),
            closing: Notify::new(),
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its ends.
    #[must_use]
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// When it arrived.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Closes it when `index` denies what it claims.
    pub(super) fn judge_again(&self, index: &Index) {
        let judged = match &*self.claim.lock() {
            Some(claim) => judge(index, claim),
            None => return,
        };
        if let Err(refusal) = judged {
            self.close(refusal);
        }
    }

    /// What is known of it, once it is planned.
    #[must_use]
    pub fn details(&self) -> Option<&Details> {
        self.details.get().map(|details| &**details)
    }

    /// Bytes that went through; sent by the client, received by it.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let (near, far) = (self.counters.sent(), self.counters.received());
        if self.ends.server_is_near {
            (far, near)
        } else {
            (near, far)
        }
    }

    /// Ends it for this reason.
    pub fn close(&self, refusal: Refusal) {
        if self.refusal.set(refusal).is_ok() {
            self.closing.notify_one();
        }
    }

    pub(super) fn count_bytes(&self) {
        let Some(series) = self.series.get() else {
            return;
        };
        let (sent, received) = self.bytes();
        // Counting twice at the same time must not count anything twice.
        let grown = |at: usize, now: u64| {
            let before = self.counted[at].fetch_max(now, Ordering::Relaxed);
            now.saturating_sub(before)
        };
        let (sent, received) = (grown(0, sent), grown(1, received));
        if sent > 0 {
            series.each(|series| series.add_request_bytes(sent));
        }
        if received > 0 {
            series.each(|series| series.add_response_bytes(received));
        }
    }
}

/// The owner's side of a connection. Dropping it before [`Open::finish`] reports that it was cut.
#[derive(Debug)]
pub struct Open {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
    finished: bool,
}

impl Open {
    pub(super) fn new(connections: Arc<Connections>, connection: Arc<Connection>) -> Self {
        Self {
            connections,
            connection,
            finished: false,
        }
    }

    /// The connection's ends.
    #[must_use]
    pub fn ends(&self) -> Ends {
        self.connection.ends
    }

    /// What the relay counts in.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.connection.counters
    }

    /// Says what the connection is judged by. Whoever judges it now must take the index after
    /// this: then a policy change is either in that index, or comes and judges it again.
    pub fn claim(&self, claim: Claim) {
        *self.connection.claim.lock() = Some(claim);
    }

    /// Takes the claim back: what it was about was tried in vain.
    pub fn disclaim(&self) {
        *self.connection.claim.lock() = None;
    }

    /// Says what the connection turned out to be; the first time counts.
    pub fn describe(&self, details: Details) {
        let connection = &self.connection;
        let details = connection.details.get_or_init(|| Box::new(details));
        connection.series.get_or_init(|| {
            let reported = self.reported(details, ResponseFlag::None);
            reported.each(Series::open);
            reported
        });
    }

    /// Returns when the connection may not go on, with the reason.
    pub async fn closed(&self) -> Failure {
        self.connection.closing.notified().await;
        let refusal = self.connection.refusal.get().cloned();
        Failure::Closed(refusal.expect("it is set before the notification"))
    }

    /// Reports the end of the connection.
    pub fn finish(mut self, result: &Result<(), Failure>) {
        self.report(result.as_ref().err());
    }

    fn report(&mut self, failure: Option<&Failure>) {
        self.finished = true;
        let connection = &self.connection;
        self.connections.remove(connection.id);
        // One that never came to a plan is reported by its addresses.
        self.describe(Details::unknown(connection.ends.destination));
        connection.count_bytes();
        let flag = failure.map_or(ResponseFlag::None, Failure::flag);
        let (Some(details), Some(series)) = (connection.details(), connection.series.get()) else {
            return;
        };
        if flag == ResponseFlag::None {
            series.each(Series::close);
        } else {
            let failed = self.reported(details, flag);
            failed.each(Series::close);
            failed.each(Series::fail);
        }
        if let Some(Failure::Relay(relay::Error::HalfClosed(_))) = failure {
            counter!(HALF_CLOSED_TIMEOUTS).increment(1);
        }
        if let Some(failure) = failure.filter(|_| flag == ResponseFlag::Deny) {
            self.connections
                .denials
                .count(self.denial(details, failure));
        }
        self.log(details, failure);
    }

    fn denial<'a>(&self, details: &Details, failure: &'a Failure) -> Facts<'a> {
        let ends = self.connection.ends;
        // A tunnel leads to another port than its own.
        let authority = details.hbone_addr.as_deref().unwrap_or_default();
        let asked = authority.rsplit_once(':').map(|(_, port)| port.parse());
        let mut destination_addr = details.destination_addr;
        if let Some(Ok(port)) = asked {
            destination_addr.set_port(port);
        }
        Facts {
            direction: ends.direction.as_str(),
            source: details.source.as_deref().map(dump::owner),
            source_identity: details.source_identity.clone(),
            source_addr: details.source_addr.unwrap_or(ends.source),
            destination: details.destination.as_deref().map(dump::owner),
            destination_addr,
            service: details.service.as_deref().map(|it| it.key.to_string()),
            reason: failure,
        }
    }

    fn reported(&self, details: &Details, flag: ResponseFlag) -> Reported {
        let traffic = &self.connections.traffic;
        let own = match self.connection.ends.direction {
            Direction::Outbound => Reporter::Source,
            Direction::Inbound => Reporter::Destination,
        };
        let local = details.security == Security::Local;
        let transport = self.connection.ends.transport;
        let series = |reporter| traffic.series(&details.labels(reporter, transport, flag));
        Reported {
            own: series(own),
            other: local.then(|| series(Reporter::Destination)),
        }
    }

    fn log(&self, details: &Details, failure: Option<&Failure>) {
        let connection = &self.connection;
        let ends = connection.ends;
        let (from_client, to_client) = connection.bytes();
        let (bytes_sent, bytes_recv) = match ends.direction {
            Direction::Outbound => (from_client, to_client),
            Direction::Inbound => (to_client, from_client),
        };
        fn name(workload: &Option<Arc<Workload>>) -> Option<&str> {
            workload.as_deref().map(|w| &*w.name)
        }
        fn namespace(workload: &Option<Arc<Workload>>) -> Option<&str> {
            workload.as_deref().map(|w| &*w.namespace)
        }
        let hbone_addr = details.hbone_addr.as_ref();
        self.connections.log.log(&Entry {
            direction: ends.direction,
            source: Party {
                addr: details.source_addr.unwrap_or(ends.source),
                workload: name(&details.source),
                namespace: namespace(&details.source),
                identity: details.source_identity.as_ref(),
            },
            destination: Party {
                addr: details.destination_addr,
                workload: name(&details.destination),
                namespace: namespace(&details.destination),
                identity: details.destination_identity.as_ref(),
            },
            waypoint: details.waypoint.as_ref(),
            hbone_addr: hbone_addr.map(|addr| addr as &dyn std::fmt::Display),
            service: details.service.as_deref().map(|s| &*s.key.name),
            transport: ends.transport,
            security: (details.security == Security::Local).then(|| Security::Local.as_str()),
            bytes_sent,
            bytes_recv,
            duration: connection.started.elapsed(),
            error: failure.map(|failure| failure as &dyn std::fmt::Display),
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.finished {
            self.report(Some(&Failure::Cut));
        }
    }
}
