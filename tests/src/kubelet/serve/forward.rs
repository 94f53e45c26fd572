//! Ports of pods over WebSocket, as kubelets forward them: subprotocol `v4.channel.k8s.io`, where the first byte of a
//! message names a channel. The port of number `i` in the query has the channel `2i` for its bytes and `2i + 1` for a
//! word on why there are none (any more). Each begins with the port's number, as two bytes, the lower first.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use ambit_net::sys::{Netns, Sockets};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Answer, text};
use crate::programs::websocket::accept_key;

const PROTOCOL: &str = "v4.channel.k8s.io";
/// Ports of one request.
const PORTS: usize = 16;
/// The longest message of a caller, in bytes.
const LONGEST: usize = 1 << 20;
/// Bytes of a message to a caller.
const CHUNK: usize = 32 << 10;
/// Messages that wait for a slow end.
const WAITING: usize = 4;

/// Changes to WebSocket, and forwards until either end is done.
pub(super) fn answer(netns: &Path, mut request: Request<Incoming>) -> Result<Answer, Box<Answer>> {
    let bad = |said: &str| text(StatusCode::BAD_REQUEST, said);
    let Some(key) = key(request.headers()) else {
        return Err(bad(&format!(
            "a kubelet of the lab forwards ports over WebSocket with {PROTOCOL}, and not over SPDY"
        )));
    };
    let ports = ports(request.uri().query().unwrap_or_default()).map_err(|said| bad(&said))?;
    let accept = HeaderValue::from_str(&accept_key(key));
    let accept = accept.map_err(|error| bad(&error.to_string()))?;
    let netns = Netns::open(netns);
    let netns = netns.map_err(|error| text(StatusCode::CONFLICT, &error.to_string()))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let sockets = Sockets {
                    netns: Some(netns),
                    mark: None,
                };
                carry(TokioIo::new(upgraded), &ports, &sockets).await;
            }
            Err(error) => tracing::debug!(%error, "a port is not forwarded"),
        }
    });
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(answer)
}

/// The ports of a query, `port=N,N`.
fn ports(query: &str) -> Result<Vec<u16>, String> {
    let values = query.split('&').filter_map(|it| it.strip_prefix("port="));
    // A comma is escaped in a query.
    let values: Vec<String> = values.map(|it| it.replace("%2C", ",")).collect();
    let ports = values.iter().flat_map(|it| it.split(','));
    let number = |port: &str| match port.parse() {
        Ok(0) | Err(_) => Err(format!("port {port:?} is none")),
        Ok(port) => Ok(port),
    };
    let ports: Vec<u16> = ports.map(number).collect::<Result<_, _>>()?;
    match ports.len() {
        1..=PORTS => Ok(ports),
        count => Err(format!("{count} ports: 1 to {PORTS} can be forwarded")),
    }
}

/// The key of a handshake that offers the protocol (RFC 6455 section 4.2.1).
fn key(headers: &HeaderMap) -> Option<&[u8]> {
    let is = |name, wanted: &str| {
        let found = headers.get(name).and_then(|it| it.to_str().ok());
        let mut all = found.into_iter().flat_map(|it| it.split(','));
        all.any(|it| it.trim().eq_ignore_ascii_case(wanted))
    };
    let offered = is(header::UPGRADE, "websocket")
        && is(header::SEC_WEBSOCKET_VERSION, "13")
        && is(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    key.filter(|_| offered).map(HeaderValue::as_bytes)
}

/// Carries the bytes of all ports until they are done or the caller is gone.
async fn carry(io: impl AsyncRead + AsyncWrite + Unpin, ports: &[u16], sockets: &Sockets) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST));
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let (messages, mut outgoing) = mpsc::channel(WAITING);
    let mut pods = Vec::new();
    let mut tasks = JoinSet::new();
    for (channel, port) in (0u8..).step_by(2).zip(ports) {
        let [low, high] = port.to_le_bytes();
        for channel in [channel, channel + 1] {
            let begin = Message::binary(vec![channel, low, high]);
            if sink.send(begin).await.is_err() {
                return;
            }
        }
        let (to_pod, from_caller) = mpsc::channel(WAITING);
        pods.push(to_pod);
        let (sockets, port, messages) = (sockets.clone(), *port, messages.clone());
        tasks.spawn(async move {
            let ended = one(channel, port, &sockets, &messages, from_caller).await;
            if let Err(error) = ended {
                let mut said = vec![channel + 1];
                said.extend(format!("port {port}: {error}").bytes());
                // Nobody may be there to hear.
                let _ = messages.send(Message::binary(said)).await;
            }
        });
    }
    drop(messages);
    let outwards = async {
        while let Some(message) = outgoing.recv().await {
            sink.send(message).await?;
        }
        sink.close().await
    };
    let inwards = async {
        while let Some(message) = stream.next().await {
            let Message::Binary(message) = message? else {
                continue;
            };
            let channel = message.first().map(|it| usize::from(*it));
            let pod = channel.filter(|it| it % 2 == 0);
            if let Some(pod) = pod.and_then(|it| pods.get(it / 2)) {
                // It may have ended, which the caller is told.
                let _ = pod.send(message.slice(1..)).await;
            }
        }
        Ok::<_, Error>(())
    };
    // Neither direction waits for the other. Whatever ends first ends all: the tasks with their set.
    let ended = tokio::select! {
        ended = outwards => ended,
        ended = inwards => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a port is no longer forwarded");
    }
}

/// One port, until the pod has said all.
async fn one(
    channel: u8,
    port: u16,
    sockets: &Sockets,
    messages: &mpsc::Sender<Message>,
    mut from_caller: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (mut read, mut write) = sockets.connect(own, None).await?.into_split();
    let inwards = async {
        while let Some(bytes) = from_caller.recv().await {
            // A pod that reads no more may still have something to say.
            if write.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = write.shutdown().await;
        std::future::pending().await
    };
    let outwards = async {
        loop {
            let mut message = Vec::with_capacity(1 + CHUNK);
            message.push(channel);
            let length = read.read_buf(&mut message).await?;
            if length == 0 || messages.send(Message::binary(message)).await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::select! {
        ended = outwards => ended,
        never = inwards => never,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[test]
    fn a_query_names_ports() {
        let many = ["port=1"; PORTS].join("&");
        for (query, expected) in [
            ("port=15000", Some(vec![15000])),
            ("x=1&port=1%2C2&port=3", Some(vec![1, 2, 3])),
            (many.as_str(), Some(vec![1; PORTS])),
            (&format!("{many}&port=2"), None),
            ("", None),
            ("port=", None),
            ("port=0", None),
            ("port=65536", None),
            ("ports=1", None),
        ] {
            assert_eq!(ports(query).ok(), expected, "{query}");
        }
    }

    #[test]
    fn a_handshake_offers_the_protocol() {
        let offer = |changed: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("connection", "Upgrade"),
                ("upgrade", "WebSocket"),
                ("sec-websocket-version", "13"),
                (
                    "sec-websocket-protocol",
                    "v5.channel.k8s.io, v4.channel.k8s.io",
                ),
                ("sec-websocket-key", "key"),
            ]
            .iter()
            .chain(changed)
            {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            key(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(offer(&[]), Some(b"key".to_vec()));
        for bad in [
            ("upgrade", "SPDY/3.1"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-protocol", "v5.channel.k8s.io"),
        ] {
            assert_eq!(offer(&[bad]), None, "{bad:?}");
        }
    }

    /// The next message, and that it is no more than that.
    async fn next(caller: &mut WebSocketStream<tokio::io::DuplexStream>) -> Vec<u8> {
        match caller.next().await.expect("a message").expect("sound") {
            Message::Binary(message) => message.to_vec(),
            Message::Close(_) => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn bytes_are_carried_and_failures_told() {
        let pod = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let open = pod.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let (mut stream, _) = pod.accept().await.expect("dialled");
            let mut asked = [0; 8];
            stream.read_exact(&mut asked).await.expect("asked");
            stream.write_all(&asked).await.expect("answered");
        });
        // Taken, and nobody listens there.
        let closed = TcpSocket::new_v4().expect("a socket");
        closed.bind(([127, 0, 0, 1], 0).into()).expect("bound");
        let shut = closed.local_addr().expect("bound").port();

        let (near, far) = duplex(1 << 16);
        tokio::spawn(async move { carry(far, &[open, shut], &Sockets::default()).await });
        let mut caller = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        for (channel, port) in [(0, open), (1, open), (2, shut), (3, shut)] {
            let [low, high] = port.to_le_bytes();
            assert_eq!(next(&mut caller).await, [channel, low, high]);
        }
        let said = next(&mut caller).await;
        assert_eq!(said[0], 3, "the second port's channel of failures");
        let said = String::from_utf8_lossy(&said[1..]).into_owned();
        assert!(said.starts_with(&format!("port {shut}: ")), "{said}");
        // To channels that are nobody's nothing happens.
        for message in [&b"\x00half"[..], b"\x01x", b"\x09x", b"", b"\x00more"] {
            let message = Message::binary(message.to_vec());
            caller.send(message).await.expect("it is taken");
        }
        let mut answered = Vec::new();
        while answered.len() < 8 {
            let message = next(&mut caller).await;
            assert_eq!(message[0], 0, "{message:?}");
            answered.extend_from_slice(&message[1..]);
        }
        assert_eq!(answered, b"halfmore");
        assert_eq!(next(&mut caller).await, b"", "both are over");
    }
}
