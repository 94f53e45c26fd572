//! UDP of pods that ask for it to be captured: flows of datagrams between two addresses, planned, judged and told of as
//! connections are.
//!
//! A flow begins with a datagram and ends when there has been none for a while. What finds no room on the way is not kept and
//! not waited for: it is dropped and counted, as UDP may be.

mod end;
mod flows;
mod outbound;
mod relay;
mod serve;
mod table;

use std::io;
use std::time::Duration;

use ambit_core::plan::{OUTBOUND_PORT, PASSTHROUGH_PORT};
use ambit_net::hbone::Datagrams;
use ambit_net::relay::{Counters, Error};
use ambit_net::sys::Capturing;
use metrics::{Counter, counter, describe_counter};
use tokio::net::UdpSocket;

use super::Pod;
use end::End;
pub(super) use serve::spawn;

/// How flows are served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A flow of which nothing has come for so long has ended (RFC 4787, REQ-5).
    pub idle: Duration,
}

/// Where a pod's captured UDP arrives.
#[derive(Debug)]
pub struct Listeners {
    outbound: Capturing,
    passthrough: Capturing,
}

impl Listeners {
    /// Opens them in the pod's network namespace, in the tokio runtime that is entered. Whether anything is led there is the
    /// node agent's business, and may change while the pod runs.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn open(pod: &Pod) -> io::Result<Self> {
        let open = |port| {
            pod.sockets.capture(port).map_err(|error| {
                let text = format!("cannot receive UDP on {port}: {error}");
                io::Error::new(error.kind(), text)
            })
        };
        Ok(Self {
            outbound: open(OUTBOUND_PORT)?,
            passthrough: open(PASSTHROUGH_PORT)?,
        })
    }
}

/// Joins an application's socket with the tunnel that its caller has opened.
///
/// # Errors
/// How the flow ends, other than in order.
pub(super) async fn relay_tunnel(
    server: UdpSocket,
    far: Datagrams,
    counters: &Counters,
    idle: Duration,
) -> Result<(), Error> {
    let far = End::Tunnel(Box::new(far));
    relay::relay(End::Socket(server), far, counters, idle).await
}

const DROPPED: &str = "ambit_udp_datagrams_dropped_total";

/// Why a datagram was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// The other proxy takes no more for now.
    Window,
    /// A socket takes no more for now, or not so much at once.
    Socket,
    /// Its flow has not begun to carry, or is not quick enough.
    Queue,
    /// The pod has as many flows as it may have.
    Limit,
    /// Its flow has been refused, or has failed, just now.
    Refused,
    /// It was sent to a port of the proxy.
    OwnPort,
}

impl Lost {
    const ALL: [Self; 6] = [
        Self::Window,
        Self::Socket,
        Self::Queue,
        Self::Limit,
        Self::Refused,
        Self::OwnPort,
    ];

    fn counter(self) -> Counter {
        let reason = match self {
            Self::Window => "window",
            Self::Socket => "socket",
            Self::Queue => "queue",
            Self::Limit => "limit",
            Self::Refused => "refused",
            Self::OwnPort => "own_port",
        };
        counter!(DROPPED, "reason" => reason)
    }

    fn count(self) {
        self.counter().increment(1);
    }
}

/// Says what the metrics are, and that nothing was dropped.
pub(super) fn describe() {
    for lost in Lost::ALL {
        lost.counter().absolute(0);
    }
    describe_counter!(
        DROPPED,
        "UDP datagrams that were captured or came by tunnels and were not passed on: window (the other proxy takes no more, or not so \
         much at once), socket, queue (the flow has not begun, or is not quick enough), limit (AMBIT_UDP_FLOWS_PER_POD), refused (the flow \
         was, just now), own_port (sent to a port of the proxy)."
    );
}
