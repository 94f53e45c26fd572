//! What is told of a relayed connection: its series, and when it is over its line in the access log.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use ambit_core::model::Service;
use ambit_core::plan::BoundTo;
use ambit_http::authz::Verdict;
use ambit_http::model::RouteKey;
use ambit_http::refusal::{Flag, Refusal};
use ambit_telemetry::metrics::{Reporter, Security, Series, TrafficLabels};
use ambit_telemetry::requests::Entry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::reported;
use crate::io::Prefixed;
use crate::session::Session;
use crate::upstream::Endpoint;

/// Collects; when it is dropped, the connection is over. Unless somebody said how it went, it was cut by us.
pub(super) struct Record<'a> {
    session: &'a Session,
    started: Instant,
    start: SystemTime,
    pub(super) rule: Option<RouteKey>,
    pub(super) service: Option<Arc<Service>>,
    endpoint: Option<Endpoint>,
    attempts: u32,
    connected: Option<Duration>,
    carried: Option<Arc<Carried>>,
    flag: Flag,
    reason: String,
    notes: Vec<String>,
}

/// A connection that an endpoint has taken. Its bytes are counted in the series as they go; the session counts them too.
struct Carried {
    series: Arc<Series>,
    /// It was the client's end that broke.
    client_broke: AtomicBool,
}

impl<'a> Record<'a> {
    pub(super) fn new(session: &'a Session) -> Self {
        Self {
            session,
            started: Instant::now(),
            start: SystemTime::now(),
            rule: None,
            service: match &session.target.bound {
                BoundTo::Service(service) => Some(service.clone()),
                BoundTo::Workload(_) => None,
            },
            endpoint: None,
            attempts: 0,
            connected: None,
            carried: None,
            flag: Flag::LocalReset,
            reason: "the waypoint ends".to_owned(),
            notes: Vec::new(),
        }
    }

    /// What policies say without deciding.
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        self.notes = reported(verdict);
    }

    /// Another endpoint is tried.
    pub(super) fn attempt(&mut self, endpoint: &Endpoint) {
        self.endpoint = Some(endpoint.clone());
        self.attempts += 1;
    }

    /// The client's side of a connection that an endpoint has taken.
    pub(super) fn opened(&mut self, client: Prefixed) -> Metered {
        self.connected = Some(self.started.elapsed());
        let carried = Arc::new(Carried {
            series: self.series(Flag::None),
            client_broke: AtomicBool::new(false),
        });
        carried.series.open();
        self.carried = Some(carried.clone());
        Metered { client, carried }
    }

    /// It is refused, or may not go on.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.flag = refusal.flag;
        self.reason = refusal.to_string();
    }

    /// Both directions have ended, or an end broke.
    pub(super) fn ended(&mut self, result: &io::Result<()>) {
        let carried = self.carried.as_ref();
        let client_broke = carried.is_some_and(|it| it.client_broke.load(Ordering::Relaxed));
        (self.flag, self.reason) = match result {
            Ok(()) => (Flag::None, String::new()),
            Err(error) if client_broke => (Flag::DownstreamClosed, error.to_string()),
            Err(error) => (Flag::UpstreamReset, error.to_string()),
        };
    }

    fn series(&self, flag: Flag) -> Arc<Series> {
        let caller = &self.session.caller;
        let destination = self.endpoint.as_ref().map(|it| &*it.workload);
        let tunnel = self.endpoint.as_ref().is_some_and(|it| it.tunnel.is_some());
        let traffic = &self.session.shared.http.telemetry.connections;
        traffic.series(&TrafficLabels {
            reporter: Reporter::Waypoint,
            source: caller.workload.as_deref(),
            source_principal: Some(&caller.identity),
            source_waypoint: None,
            destination,
            destination_principal: destination.filter(|_| tunnel).map(|it| &it.identity),
            service: self.service.as_deref().map(|it| (&it.key, &*it.name)),
            response_flags: flag.as_str(),
            transport: ambit_core::plan::Transport::Tcp,
            security: Security::MutualTls,
        })
    }

    fn count(&self) {
        match &self.carried {
            Some(carried) if self.flag == Flag::None => carried.series.close(),
            opened => {
                let failed = self.series(self.flag);
                failed.fail();
                if opened.is_some() {
                    failed.close();
                }
            }
        }
    }

    fn write(&self) {
        let log = &self.session.shared.http.telemetry.log;
        if !log.is_on() {
            return;
        }
        fn shown<T: std::fmt::Display>(value: Option<&T>) -> Option<&dyn std::fmt::Display> {
            value.map(|it| it as &dyn std::fmt::Display)
        }
        let counters = &self.session.counters;
        let (received, sent) = match self.carried {
            Some(_) => (counters.received(), counters.sent()),
            // What was read to see what is spoken went nowhere.
            None => (0, 0),
        };
        let endpoint = self.endpoint.as_ref();
        let pod = endpoint.map(|it| &it.workload);
        log.write(&Entry {
            flags: self.flag.as_str(),
            reason: &self.reason,
            bytes_received: received,
            bytes_sent: sent,
            duration: self.started.elapsed(),
            upstream_time: self.connected,
            attempts: self.attempts,
            route: shown(self.rule.as_ref()),
            upstream: endpoint.map(|it| it.address),
            upstream_workload: pod.map(|it| (&*it.namespace, &*it.name)),
            upstream_service: shown(self.service.as_ref().map(|it| &it.key)),
            notes: &self.notes,
            ..Entry::of_connection(self.start, &self.session.parties)
        });
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.count();
        let service = self.service.as_deref();
        self.session.count_denial(self.flag, service, &self.reason);
        self.write();
    }
}

/// The client's side, counted.
pub(super) struct Metered {
    client: Prefixed,
    carried: Arc<Carried>,
}

impl Metered {
    fn broke<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &result {
            self.carried.client_broke.store(true, Ordering::Relaxed);
        }
        result
    }

    fn written(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let bytes = ready!(self.broke(result))?;
        self.carried.series.add_response_bytes(bytes as u64);
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.client).poll_read(cx, buf);
        ready!(self.broke(result))?;
        let bytes = (buf.filled().len() - before) as u64;
        self.carried.series.add_request_bytes(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.client).poll_write(cx, buf);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.client).poll_write_vectored(cx, bufs);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.client.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.client).poll_flush(cx);
        self.broke(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.client).poll_shutdown(cx);
        self.broke(result)
    }
}
