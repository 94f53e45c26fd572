//! WebSockets of clients that speak HTTP/2 (RFC 8441).

use ambit_http::headers;
use ambit_net::hbone::{self, Duplex};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::HeaderMap;

use crate::http::h1::Raw;
use crate::http::message::Response;
use crate::http::websocket::Handshake;
use crate::io::Io;

/// A WebSocket that a client would open with an extended CONNECT (RFC 8441). Until it is open, nothing of it is read.
pub(super) struct Opening {
    stream: RecvStream,
    handshake: Handshake,
}

impl Opening {
    /// Its handshake goes on with these headers.
    pub(super) fn new(stream: RecvStream, headers: &mut HeaderMap) -> Self {
        let handshake = Handshake::begin(headers);
        Self { stream, handshake }
    }

    /// The backend has agreed: so do we, and then bytes go both ways to the end.
    pub(super) async fn open(
        self,
        backend: Raw,
        response: Response,
        mut respond: SendResponse<Bytes>,
    ) {
        let Some(record) = response.record else {
            return;
        };
        let mut head = http::Response::new(());
        *head.headers_mut() = response.headers;
        if !self.handshake.is_answered(head.headers_mut()) {
            respond.send_reset(Reason::CONNECT_ERROR);
            return record.broke(&"sec-websocket-accept does not answer our key");
        }
        headers::strip_response(head.headers_mut());
        // A client that is gone needs no answer.
        let Ok(send) = respond.send_response(head, false) else {
            return;
        };
        let stream = Io::Tunnel(Duplex::from(hbone::Stream::new(send, self.stream)));
        Raw::new(stream).carry(backend, record).await;
    }
}
