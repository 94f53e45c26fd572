//! One tunnelled connection of a client, for its whole life.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use ambit_core::identity::Identity;
use ambit_core::model::{Service, Workload};
use ambit_core::plan::{self, BoundTo, GatewayTarget};
use ambit_http::headers;
use ambit_http::refusal::Flag;
use ambit_net::relay::Counters;
use ambit_proxy::{Facts, Registry, dump};
use ambit_telemetry::access::Direction;
use ambit_telemetry::requests::Parties;

use crate::ending::Ending;
use crate::http::LastSeries;
use crate::shared::Shared;
use crate::snapshot::Snapshot;

/// Who opened it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// By certificate.
    pub(crate) identity: Identity,
    /// The other end of the TLS connection.
    pub(crate) address: SocketAddr,
    /// The pod at that address, if it has this identity.
    pub(crate) workload: Option<Arc<Workload>>,
}

/// The connections that run.
pub(crate) type Sessions = Registry<Weak<Session>>;

/// A connection that was agreed to.
pub(crate) struct Session {
    pub(crate) caller: Caller,
    /// What its requests say of it.
    pub(crate) peer: headers::Peer,
    /// What its lines in the access log say of it.
    pub(crate) parties: Parties,
    /// How many proxies have said in its `x-forwarded-for` whom they speak for.
    pub(crate) trusted_hops: u8,
    pub(crate) target: GatewayTarget,
    pub(crate) shared: Arc<Shared>,
    pub(crate) ending: Ending,
    /// Where its last request was counted.
    pub(crate) series: LastSeries,
    pub(crate) number: u64,
    pub(crate) started: Instant,
    /// Bytes received from the client, and sent to it.
    pub(crate) counters: Arc<Counters>,
}

impl Session {
    /// Registers a connection, as long as it is held.
    pub(crate) fn new(
        caller: Caller,
        target: GatewayTarget,
        shared: Arc<Shared>,
        ending: Ending,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let peer = headers::Peer::new(caller.address.ip());
        let session = Arc::new(Self {
            peer: peer.verified(&shared.me, &caller.identity),
            parties: Parties::new(&caller.address, &caller.identity, &target.address),
            trusted_hops: shared.trusted.hops(&shared.me, &caller.identity),
            caller,
            target,
            ending,
            series: LastSeries::default(),
            number: shared.sessions.number(),
            started: Instant::now(),
            counters,
            shared,
        });
        let sessions = &session.shared.sessions;
        sessions.insert(session.number, Arc::downgrade(&session));
        session
    }

    /// Whether a client that came now for the same would be sent here.
    pub(crate) fn is_wanted(&self, snapshot: &Snapshot) -> bool {
        let (caller, me) = (&self.caller.identity, &self.shared.service);
        plan::is_sent_here(&snapshot.index, &self.target, caller, me)
    }

    /// Counts what a policy or an authorizer has refused to the client; `service` is the one that was meant.
    pub(crate) fn count_denial(&self, flag: Flag, service: Option<&Service>, reason: &str) {
        if !matches!(flag, Flag::PolicyDenied | Flag::ExternalAuthDenied) {
            return;
        }
        let destination = match &self.target.bound {
            BoundTo::Workload(workload) => Some(dump::owner(workload)),
            BoundTo::Service(_) => None,
        };
        self.shared.http.telemetry.denials.count(Facts {
            direction: Direction::Inbound.as_str(),
            source: self.caller.workload.as_deref().map(dump::owner),
            source_identity: Some(self.caller.identity.clone()),
            source_addr: self.caller.address,
            destination,
            destination_addr: self.target.address,
            service: service.map(|it| it.key.to_string()),
            reason: &reason,
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.sessions.remove(self.number);
    }
}
