//! What logs and metrics say of a connection that failed.

use std::io::{Error, ErrorKind};

use ambit_core::hbone::datagram::CapsuleError;
use ambit_core::plan::{Refusal, ResponseFlag};
use ambit_net::ca::CaError;
use ambit_net::hbone::{server, testing};
use ambit_net::relay;

use super::super::Failure;
use super::*;

/// Every failure that there is. A new one does not compile until it has a name here, and so a row below.
fn name(failure: &Failure) -> &'static str {
    match failure {
        Failure::Refused(_) => "refused",
        Failure::Closed(_) => "closed",
        Failure::Identity(_) => "identity",
        Failure::Limit { .. } => "limit",
        Failure::Cut => "cut",
        Failure::Accept(_) => "accept",
        Failure::Handshake(_) => "handshake",
        Failure::Http2(_) => "http2",
        Failure::Dial { .. } => "dial",
        Failure::Tunnel(_) => "tunnel",
        Failure::Relay(relay::Error::Near(_)) => "relay, near",
        Failure::Relay(relay::Error::Far(_)) => "relay, far",
        Failure::Relay(relay::Error::Tunnel(_)) => "relay, tunnel",
        Failure::Relay(relay::Error::Stream(_)) => "relay, stream",
        Failure::Relay(relay::Error::Capsules(_)) => "relay, capsules",
        Failure::Relay(relay::Error::HalfClosed(_)) => "relay, half-closed",
    }
}

fn broken() -> Error {
    ErrorKind::ConnectionReset.into()
}

fn tunnel(stage: Stage) -> Failure {
    testing::error(stage, broken()).into()
}

fn late(stage: Stage) -> Failure {
    testing::error(stage, Error::from(ErrorKind::TimedOut)).into()
}

#[test]
fn every_failure_has_its_flag() {
    let http2 = || h2::Error::from(h2::Reason::PROTOCOL_ERROR);
    let identity = workload("client", CLIENT).identity;
    let second = Duration::from_secs(1);
    let target = addr("10.0.0.1:80");
    let limit = Failure::Limit {
        limit: 1,
        variable: "AMBIT_CONNECTIONS_PER_POD",
    };
    let no_certificate = CaError::NotYet {
        identity,
        waited: second,
    };
    let error = broken();
    let relayed = |error: relay::Error| Failure::from(error);
    let refused_there = testing::error(Stage::Refused(401), broken());
    // As the reference has them; `-` is for what was established, and broke or was ended later.
    let rows = [
        ("refused", Refusal::denied("a policy").into(), "DENY", 401),
        ("refused", Refusal::bad_request("it").into(), "CONNECT", 400),
        ("refused", Refusal::unavailable("it").into(), "CONNECT", 503),
        (
            "closed",
            Failure::Closed(Refusal::denied("a policy")),
            "DENY",
            401,
        ),
        ("identity", no_certificate.into(), "IDENTITY_ERROR", 503),
        ("limit", limit, "CONNECT", 503),
        ("cut", Failure::Cut, "-", 503),
        ("accept", Failure::Accept(broken()), "CONNECT", 503),
        (
            "handshake",
            Failure::Handshake(broken()),
            "TLS_FAILURE",
            503,
        ),
        (
            "http2",
            Failure::Http2(server::Error::Silent(second)),
            "H2_HANDSHAKE_FAILURE",
            503,
        ),
        (
            "http2",
            Failure::Http2(server::Error::Handshake(http2())),
            "H2_HANDSHAKE_FAILURE",
            503,
        ),
        (
            "http2",
            Failure::Http2(http2().into()),
            "H2_HANDSHAKE_FAILURE",
            503,
        ),
        ("dial", Failure::Dial { target, error }, "CONNECT", 503),
        ("tunnel", tunnel(Stage::Connect), "CONNECT", 503),
        ("tunnel", late(Stage::Connect), "NETWORK_POLICY", 503),
        ("tunnel", tunnel(Stage::Tls), "TLS_FAILURE", 503),
        ("tunnel", late(Stage::Tls), "TLS_FAILURE", 503),
        ("tunnel", tunnel(Stage::Http2), "H2_HANDSHAKE_FAILURE", 503),
        ("tunnel", tunnel(Stage::Open), "CONNECT", 503),
        ("tunnel", tunnel(Stage::Response), "CONNECT", 503),
        ("tunnel", late(Stage::Response), "CONNECT", 503),
        ("tunnel", tunnel(Stage::Refused(401)), "DENY", 503),
        ("tunnel", tunnel(Stage::Refused(503)), "CONNECT", 503),
        ("relay, tunnel", relayed(refused_there.into()), "DENY", 503),
        (
            "relay, near",
            relayed(relay::Error::Near(broken())),
            "-",
            503,
        ),
        ("relay, far", relayed(relay::Error::Far(broken())), "-", 503),
        (
            "relay, stream",
            relayed(relay::Error::Stream(http2())),
            "-",
            503,
        ),
        (
            "relay, capsules",
            relayed(CapsuleError::CutOff.into()),
            "-",
            503,
        ),
        (
            "relay, half-closed",
            relayed(relay::Error::HalfClosed(second)),
            "-",
            503,
        ),
    ];
    for (kind, failure, flag, status) in rows {
        assert_eq!(name(&failure), kind);
        assert_eq!(failure.flag().as_str(), flag, "{kind}: {failure}");
        assert_eq!(failure.status().as_u16(), status, "{kind}: {failure}");
    }
    for flag in [
        ResponseFlag::None,
        ResponseFlag::Deny,
        ResponseFlag::Connect,
        ResponseFlag::TlsFailure,
        ResponseFlag::H2HandshakeFailure,
        ResponseFlag::NetworkPolicy,
        ResponseFlag::IdentityError,
    ] {
        let refused: Failure = Refusal::new(503, flag, "so").into();
        assert_eq!(refused.flag(), flag);
    }
}
