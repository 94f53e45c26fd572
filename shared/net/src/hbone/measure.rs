//! What is measured of connections: how long they take until they carry streams, how far their peers are, and which limits
//! peers reach. Nothing here is done for a stream.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_histogram, histogram};

const HANDSHAKE: &str = "ambit_hbone_handshake_seconds";
const ROUND_TRIP: &str = "ambit_hbone_round_trip_seconds";
const LIMITS: &str = "ambit_hbone_limits_reached_total";

/// Which end of a connection measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What a peer may do only so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// Streams at once: one more was refused.
    Streams,
    /// Bytes of a request's headers: the request was answered 431, or the connection has ended.
    Headers,
    /// Streams that are opened and reset, or refused, again and again: the connection has ended.
    Resets,
    /// Frames that carry little: the connection has ended.
    Frames,
}

impl Limit {
    const ALL: [Self; 4] = [Self::Streams, Self::Headers, Self::Resets, Self::Frames];

    fn name(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Headers => "headers",
            Self::Resets => "resets",
            Self::Frames => "frames",
        }
    }
}

/// A connection may carry streams, so long after it was begun.
pub(super) fn ready(side: Side, took: Duration) {
    let side = match side {
        Side::Client => "client",
        Side::Server => "server",
    };
    histogram!(HANDSHAKE, "side" => side).record(took.as_secs_f64());
}

/// A peer is that far away.
pub(super) fn round_trip(time: Duration) {
    histogram!(ROUND_TRIP).record(time.as_secs_f64());
}

/// A peer wanted more than it may have.
pub(super) fn reached(limit: Limit) {
    counter!(LIMITS, "limit" => limit.name()).increment(1);
}

/// Says what the metrics are, and that no limit has been reached.
pub fn describe() {
    describe_histogram!(
        HANDSHAKE,
        "Time until an HBONE connection may carry streams: TCP and TLS at the client, TLS and the client's first words at the server."
    );
    describe_histogram!(
        ROUND_TRIP,
        "The kernel's estimate of the round trip of an HBONE connection, when it ends and, at its client, now and then."
    );
    describe_counter!(
        LIMITS,
        "Streams and connections of peers that were refused or ended because of a limit of HTTP/2."
    );
    for limit in Limit::ALL {
        counter!(LIMITS, "limit" => limit.name()).absolute(0);
    }
}
