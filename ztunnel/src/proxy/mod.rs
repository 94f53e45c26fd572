//! What runs for one pod: the listeners in its network namespace and the flows behind them.
//!
//! A proxy acts for its own pod and cannot act for another: it holds that pod's sockets and, once
//! it is known who that is, a capability for its identity, and nothing of its neighbours but what
//! `local` needs.

mod accept;
mod attempts;
mod client;
mod details;
mod dial;
pub mod dns;
mod failure;
mod handshakes;
mod headers;
mod inbound;
mod local;
mod outbound;
mod passthrough;
mod pod;
mod shared;
pub mod udp;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::plan::{HBONE_PORT, OUTBOUND_PORT, PASSTHROUGH_PORT};
use ambit_net::ca::Wanted;
use ambit_net::hbone::Pool;
use ambit_net::sys::Listen;
use tokio::net::TcpListener;

pub use failure::Failure;
pub use handshakes::Handshakes;
use pod::Flow;
pub use pod::{Limits, Pod};
pub use shared::{Settings, Shared};

use ambit_proxy::Drained;
use headers::Baggage;

/// Time for an HBONE connection to say that its tunnels were cut.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Says what proxies of pods count, and that nothing has been counted where what counts is known before it does.
pub fn describe() {
    accept::describe();
    dns::describe();
    pod::describe();
    udp::describe();
}

/// The proxy of one pod, on one runtime.
pub struct PodProxy {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    pool: Arc<Pool>,
    baggage: Baggage,
    drained: Drained,
}

/// The sockets a pod is served on.
#[derive(Debug)]
pub struct Listeners {
    /// Captured outbound TCP.
    pub outbound: TcpListener,
    /// Captured inbound plaintext.
    pub passthrough: TcpListener,
    /// Inbound HBONE.
    pub hbone: TcpListener,
    /// How many of each this process has: one a runtime.
    pub each: u32,
    /// Captured DNS, if this runtime serves it.
    pub dns: Option<dns::Listeners>,
    /// Captured UDP, if this runtime serves it.
    pub udp: Option<udp::Listeners>,
}

impl Listeners {
    /// Opens all but those of DNS and UDP in the pod's network namespace. Must be called inside a tokio runtime, which
    /// drives them from then on.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn open(pod: &Pod) -> io::Result<Self> {
        let open = |port, kind| {
            let listener = pod.sockets.listen_any(port, kind);
            listener.map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {port}: {e}")))
        };
        Ok(Self {
            outbound: open(OUTBOUND_PORT, Listen::Plain)?,
            passthrough: open(PASSTHROUGH_PORT, Listen::Plain)?,
            hbone: open(HBONE_PORT, Listen::Hbone)?,
            each: 1,
            dns: None,
            udp: None,
        })
    }
}

impl PodProxy {
    /// Serves a pod until it is drained. Must be called inside the tokio runtime that drives the
    /// listeners.
    pub fn spawn(
        shared: Arc<Shared>,
        pod: Arc<Pod>,
        listeners: Listeners,
        drained: Drained,
    ) -> Arc<Self> {
        let pool = Pool::new(pod.sockets.clone(), shared.settings().hbone.clone());
        shared.watch_pool(&pool);
        let proxy = Arc::new(Self {
            shared,
            pod,
            pool,
            baggage: Baggage::default(),
            drained,
        });
        let at_once = Duration::ZERO;
        let each = listeners.each;
        let outbound = accept::Listener::new(listeners.outbound, each);
        accept::spawn(&proxy, outbound, at_once, outbound::serve);
        let passthrough = accept::Listener::new(listeners.passthrough, each);
        accept::spawn(&proxy, passthrough, at_once, passthrough::serve);
        // Tunnels that are cut are reset one by one, which the connection has yet to tell.
        let hbone = accept::Listener::new(listeners.hbone, each);
        accept::spawn(&proxy, hbone, LAST_WORDS, inbound::serve);
        if let Some(listeners) = listeners.dns {
            dns::spawn(&proxy, listeners);
        }
        if let Some(listeners) = listeners.udp {
            udp::spawn(&proxy, listeners);
        }
        proxy
    }

    /// Who this proxy's pod is. A connection that comes before that is known waits for it, within
    /// limits: a pod's first connections are as good as all others.
    async fn identity(&self) -> Result<&Wanted, Failure> {
        match self.pod.identity() {
            Ok(identity) => Ok(identity),
            Err(_) => Box::pin(self.identified()).await,
        }
    }

    async fn identified(&self) -> Result<&Wanted, Failure> {
        let mut drained = self.drained.clone();
        tokio::select! {
            identity = self.pod.identified(self.shared.settings().description_timeout) => identity,
            () = drained.begun() => Err(Failure::Cut),
        }
    }
}
