//! What is the node proxy's own: pods, limits, threads.

use std::path::PathBuf;
use std::time::Duration;

use ambit_core::plan::OutboundTrafficPolicy;
use ambit_net::hbone;
use ambit_net::sys::PROXY_MARK;
use serde::Serialize;

use ambit_proxy::config::Reader;
use ambit_proxy::config::value::{self, Cpus, Value, Workers, word, word_of};

/// The pods of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// Socket on which the node agent announces pods.
    pub inpod_uds: PathBuf,
    /// Mark of every packet the proxy sends.
    pub packet_mark: u32,
    /// Servers are dialled from the client's address.
    pub original_source: bool,
    /// How a pod reaches another one of this node.
    pub node_local: NodeLocal,
    /// What becomes of their connections to what the mesh does not know.
    pub outbound_policy: OutboundTrafficPolicy,
}

/// How a pod reaches another one of the same node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeLocal {
    /// One relay between two sockets, both ends authorized by what the kernel knows of them.
    Direct,
    /// Mutual TLS, as to any other node.
    Tunnel,
}

impl Value for NodeLocal {
    const ACCEPTS: &'static str = "direct or tunnel";

    fn read(text: &str) -> Result<Self, String> {
        word(text, &NODE_LOCAL)
    }

    fn show(&self) -> String {
        word_of(*self, &NODE_LOCAL)
    }
}

const NODE_LOCAL: [(&str, NodeLocal); 2] =
    [("direct", NodeLocal::Direct), ("tunnel", NodeLocal::Tunnel)];

impl Pods {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            inpod_uds: reader.value(
                "INPOD_UDS",
                "socket on which the node agent announces pods",
                "/var/run/ztunnel/ztunnel.sock".into(),
            ),
            packet_mark: reader.value(
                "PACKET_MARK",
                "mark of every packet the proxy sends",
                PROXY_MARK,
            ),
            original_source: reader.value(
                "ENABLE_ORIG_SRC",
                "servers are dialled from the client's address",
                true,
            ),
            node_local: reader.value(
                "AMBIT_NODE_LOCAL",
                "how a pod reaches another one of the same node",
                NodeLocal::Direct,
            ),
            outbound_policy: reader.value(
                "AMBIT_OUTBOUND_TRAFFIC_POLICY",
                "whether pods may connect to what is no service and no workload that the mesh knows",
                OutboundTrafficPolicy::AllowAny,
            ),
        }
    }
}

/// What peers and pods may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Bytes a stream may have in flight if its peer is far.
    pub stream_window: u32,
    /// Bytes all streams of a connection may have in flight at least.
    pub connection_window: u32,
    /// Largest frame accepted.
    pub frame_size: u32,
    /// Streams on one connection before another is opened.
    pub streams_per_connection: u32,
    /// Connections to one peer over which streams are spread before they share.
    pub pool_spread: u32,
    /// Idle connections to peers are closed after this.
    #[serde(serialize_with = "value::duration")]
    pub pool_idle: Duration,
    /// TCP, TLS and HTTP/2 handshakes together, either side.
    #[serde(serialize_with = "value::duration")]
    pub handshake_timeout: Duration,
    /// TCP to a server or a plain destination.
    #[serde(serialize_with = "value::duration")]
    pub connect_timeout: Duration,
    /// A connection of which one direction has ended is given up when the other is idle for this long.
    #[serde(serialize_with = "value::duration")]
    pub half_closed: Duration,
    /// Connections of a pod that the control plane has not described yet wait for this long.
    #[serde(serialize_with = "value::duration")]
    pub description_timeout: Duration,
    /// A peer's answer to a CONNECT.
    #[serde(serialize_with = "value::duration")]
    pub answer_timeout: Duration,
    /// Connections may go on for this long after a certificate of them has expired.
    #[serde(serialize_with = "value::duration")]
    pub expired_grace: Duration,
    /// Connections a pod may have at a time, each direction.
    pub connections_per_pod: u32,
    /// HBONE connections that peers may have to a pod at a time.
    pub hbone_connections_per_pod: u32,
}

impl Limits {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            stream_window: reader.number(
                "HTTP2_STREAM_WINDOW_SIZE",
                "bytes a stream may have in flight if its peer is far, and at least 512 KiB of it if it is near",
                4 << 20,
                (64 << 10)..=(1 << 30),
            ),
            connection_window: reader.number(
                "HTTP2_CONNECTION_WINDOW_SIZE",
                "bytes all streams of a connection may have in flight at least",
                16 << 20,
                (64 << 10)..=(1 << 30),
            ),
            frame_size: reader.number(
                "HTTP2_FRAME_SIZE",
                "largest HTTP/2 frame accepted",
                1 << 20,
                (16 << 10)..=((16 << 20) - 1),
            ),
            streams_per_connection: reader.number(
                "POOL_MAX_STREAMS_PER_CONNECTION",
                "streams on one connection before another is opened",
                100,
                1..=100_000,
            ),
            pool_spread: reader.number(
                "AMBIT_POOL_SPREAD",
                "connections to one peer over which a pod's streams are spread before they share",
                2,
                1..=64,
            ),
            pool_idle: reader.value(
                "POOL_UNUSED_RELEASE_TIMEOUT",
                "idle connections to peers are closed after this",
                Duration::from_secs(5 * 60),
            ),
            handshake_timeout: reader.value(
                "AMBIT_HANDSHAKE_TIMEOUT",
                "limit for TCP, TLS and HTTP/2 handshakes together",
                Duration::from_secs(10),
            ),
            connect_timeout: reader.value(
                "AMBIT_CONNECT_TIMEOUT",
                "limit for TCP to a server or a plain destination",
                Duration::from_secs(10),
            ),
            half_closed: reader.value(
                "AMBIT_HALF_CLOSED_TIMEOUT",
                "a connection of which one direction has ended is given up when the other is idle for this long; 0 is never",
                Duration::from_secs(60 * 60),
            ),
            description_timeout: reader.value(
                "AMBIT_DESCRIPTION_TIMEOUT",
                "how long connections of a new pod wait for the control plane to describe it",
                Duration::from_secs(10),
            ),
            answer_timeout: reader.value(
                "AMBIT_ANSWER_TIMEOUT",
                "limit for a peer's answer to a CONNECT, which dials the application first",
                Duration::from_secs(20),
            ),
            expired_grace: reader.value(
                "AMBIT_EXPIRED_GRACE",
                "time connections have to end after a certificate of either end has expired",
                Duration::from_secs(60 * 60),
            ),
            connections_per_pod: reader.number(
                "AMBIT_CONNECTIONS_PER_POD",
                "connections a pod may have at a time, each direction",
                100_000,
                1..=10_000_000,
            ),
            hbone_connections_per_pod: reader.number(
                "AMBIT_HBONE_CONNECTIONS_PER_POD",
                "HBONE connections that peers may have to a pod at a time",
                20_000,
                1..=10_000_000,
            ),
        }
    }

    /// The limits of tunnels.
    #[must_use]
    pub fn hbone(&self) -> hbone::Settings {
        hbone::Settings {
            stream_window: self.stream_window,
            connection_window: self.connection_window,
            frame_size: self.frame_size,
            streams_per_connection: self.streams_per_connection as usize,
            spread: self.pool_spread as usize,
            handshake_timeout: self.handshake_timeout,
            answer_timeout: self.answer_timeout,
            expired_grace: self.expired_grace,
            idle_timeout: self.pool_idle,
            takes_udp: true,
            ..hbone::Settings::default()
        }
    }
}

/// Worker threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Threads {
    /// How many carry traffic.
    pub workers: usize,
}

impl Threads {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let limit: Option<Cpus> = reader.optional(
            "ZTUNNEL_RESOURCE_CPU_LIMIT",
            "CPU limit of the container, if any",
        );
        let cpus: Option<Cpus> = reader.optional("ZTUNNEL_CPU_LIMIT", "CPUs that can be used");
        let request: Option<Cpus> = reader.optional(
            "ZTUNNEL_RESOURCE_CPU_REQUEST",
            "CPU request of the container, if any",
        );
        let about = "worker threads; not set: the CPU limit, else a quarter of the processors and \
                     at least 2 and at least the CPU request";
        let workers: Option<Workers> = reader.optional("ZTUNNEL_WORKER_THREADS", about);
        let processors = || match limit.or(cpus) {
            Some(Cpus(count)) => count,
            None => std::thread::available_parallelism()
                .map_or(2, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        };
        let request = request.map_or(0, |Cpus(count)| count);
        let workers = match (workers, limit) {
            (Some(Workers::Count(0)), _) => processors(),
            (Some(Workers::Count(count)), _) => count,
            (Some(Workers::Percent(percent)), _) => (processors() * percent).div_ceil(100),
            (None, Some(Cpus(limit))) => limit.max(request),
            (None, None) => processors().div_ceil(4).max(2).max(request),
        };
        Self {
            workers: workers.max(1) as usize,
        }
    }
}
