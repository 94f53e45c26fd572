//! What is told of a tunnel into a network: its series, and when it is over its line in the access log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ambit_core::model::Workload;
use ambit_http::refusal::{Flag, Refusal};
use ambit_net::relay::{Counters, Error};
use ambit_telemetry::metrics::{Reporter, Security, Series, TrafficLabels};
use ambit_telemetry::requests::{Entry, Parties};

use crate::session::Caller;
use crate::shared::Shared;

/// Collects; when it is dropped, the tunnel is over. Unless somebody said how it went, it was cut by us.
pub(super) struct Record<'a> {
    shared: &'a Shared,
    caller: &'a Caller,
    parties: Parties,
    started: Instant,
    start: SystemTime,
    pod: Option<(Arc<Workload>, SocketAddr)>,
    opened: Option<Opened>,
    flag: Flag,
    reason: String,
}

/// A tunnel that a pod has taken.
struct Opened {
    after: Duration,
    series: Arc<Series>,
    counters: Arc<Counters>,
}

impl<'a> Record<'a> {
    pub(super) fn new(shared: &'a Shared, caller: &'a Caller, asked: &str) -> Self {
        Self {
            shared,
            caller,
            parties: Parties::new(&caller.address, &caller.identity, &asked),
            started: Instant::now(),
            start: SystemTime::now(),
            pod: None,
            opened: None,
            flag: Flag::LocalReset,
            reason: "the gateway ends".to_owned(),
        }
    }

    /// The pod that is asked for.
    pub(super) fn leads_to(&mut self, workload: Arc<Workload>, address: SocketAddr) {
        self.pod = Some((workload, address));
    }

    /// The pod has taken it; gives what its bytes are counted in.
    pub(super) fn opened(&mut self) -> Arc<Counters> {
        let series = self.series(Flag::None);
        series.open();
        let counters = Arc::<Counters>::default();
        self.opened = Some(Opened {
            after: self.started.elapsed(),
            series,
            counters: counters.clone(),
        });
        counters
    }

    /// It leads nowhere.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.flag = refusal.flag;
        self.reason = refusal.to_string();
    }

    /// Who asked for it is gone.
    pub(super) fn abandoned(&mut self) {
        self.flag = Flag::DownstreamClosed;
        self.reason = "the caller is gone".to_owned();
    }

    /// Both directions have ended, or an end broke. The near one is the pod's.
    pub(super) fn ended(&mut self, result: &Result<(), Error>) {
        (self.flag, self.reason) = match result {
            Ok(()) => (Flag::None, String::new()),
            Err(error @ Error::Near(_)) => (Flag::UpstreamReset, error.to_string()),
            Err(error @ Error::HalfClosed(_)) => (Flag::LocalReset, error.to_string()),
            Err(error) => (Flag::DownstreamClosed, error.to_string()),
        };
    }

    fn series(&self, flag: Flag) -> Arc<Series> {
        let destination = self.pod.as_ref().map(|(workload, _)| &**workload);
        let traffic = &self.shared.http.telemetry.connections;
        traffic.series(&TrafficLabels {
            reporter: Reporter::Waypoint,
            source: None,
            source_principal: Some(&self.caller.identity),
            source_waypoint: None,
            destination,
            // It has proved to the caller who it is, not to us.
            destination_principal: None,
            service: None,
            response_flags: flag.as_str(),
            transport: ambit_core::plan::Transport::Tcp,
            security: Security::MutualTls,
        })
    }

    fn count(&self) {
        let Some(opened) = &self.opened else {
            return self.series(self.flag).fail();
        };
        let (series, counters) = (&opened.series, &opened.counters);
        series.add_request_bytes(counters.received());
        series.add_response_bytes(counters.sent());
        series.close();
    }

    fn write(&self) {
        let log = &self.shared.http.telemetry.log;
        if !log.is_on() {
            return;
        }
        let opened = self.opened.as_ref();
        let bytes = opened.map_or((0, 0), |it| (it.counters.received(), it.counters.sent()));
        let pod = self.pod.as_ref();
        log.write(&Entry {
            flags: self.flag.as_str(),
            reason: &self.reason,
            bytes_received: bytes.0,
            bytes_sent: bytes.1,
            duration: self.started.elapsed(),
            upstream_time: opened.map(|it| it.after),
            attempts: u32::from(pod.is_some()),
            upstream: pod.map(|(_, address)| *address),
            upstream_workload: pod.map(|(pod, _)| (&*pod.namespace, &*pod.name)),
            ..Entry::of_connection(self.start, &self.parties)
        });
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.count();
        self.write();
    }
}
