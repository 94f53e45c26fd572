//! Sessions against rustls itself, over loopback, and what hostile records come to.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ContentType, PeerMisbehaved};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Stream;
use crate::grpc::testing::Authority;
use crate::tls::Certified;
use crate::tls::record::{self, Content, OVERHEAD};

/// More than any buffer on the way, and no multiple of a record.
const BULK: usize = 5_000_011;

fn certified() -> Certified {
    let authority = Authority::new();
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    let name = "spiffe://cluster.local/ns/shop/sa/one".try_into();
    params.subject_alt_names = vec![rcgen::SanType::URI(name.expect("a URI"))];
    let leaf = params.signed_by(&key, authority.issuer()).expect("signed");
    Certified::from_pem(&[leaf.pem(), authority.root_pem()], &key.serialize_pem())
        .expect("certified")
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("connected"), far.expect("accepted").0)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("127.0.0.1").expect("a name")
}

/// Ours as the client, rustls as the server.
async fn to_rustls() -> (Stream, tokio_rustls::TlsStream<TcpStream>) {
    let certified = certified();
    let (near, far) = tcp().await;
    let peers = [certified.identity().clone()].into();
    let client = certified.client_config(&peers).expect("a configuration");
    let acceptor = TlsAcceptor::from(certified.server_config().expect("a configuration"));
    let (ours, theirs) = tokio::join!(Stream::connect(near, client, name()), acceptor.accept(far));
    (ours.expect("client"), theirs.expect("server").into())
}

/// Ours as the server, rustls as the client.
async fn from_rustls() -> (Stream, tokio_rustls::TlsStream<TcpStream>) {
    let certified = certified();
    let (near, far) = tcp().await;
    let peers = [certified.identity().clone()].into();
    let client = certified.client_config(&peers).expect("a configuration");
    let server = certified.server_config().expect("a configuration");
    let connector = TlsConnector::from(client);
    let (ours, theirs) = tokio::join!(Stream::accept(far, server), connector.connect(name(), near));
    (ours.expect("server"), theirs.expect("client").into())
}

/// Ours on both sides.
async fn pair() -> (Stream, Stream) {
    let certified = Arc::new(certified());
    let (near, far) = tcp().await;
    let peers = [certified.identity().clone()].into();
    let client = certified.client_config(&peers).expect("a configuration");
    let server = certified.server_config().expect("a configuration");
    let (one, other) = tokio::join!(
        Stream::connect(near, client, name()),
        Stream::accept(far, server)
    );
    (one.expect("client"), other.expect("server"))
}

fn bulk() -> Vec<u8> {
    (0..BULK).map(|at| (at % 251) as u8).collect()
}

/// Sends bulk both ways, and an end.
async fn exchange(
    one: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
    other: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
) {
    fn run(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let sending = async {
                write.write_all(&bulk()).await.expect("written");
                write.shutdown().await.expect("ended");
            };
            let receiving = async {
                let mut got = Vec::new();
                read.read_to_end(&mut got).await.expect("read to the end");
                assert!(got == bulk(), "{} bytes arrived", got.len());
            };
            tokio::join!(sending, receiving);
        })
    }
    let (one, other) = (run(one), run(other));
    one.await.expect("intact");
    other.await.expect("intact");
}

#[tokio::test]
async fn bulk_arrives_in_both_roles() {
    let (ours, theirs) = to_rustls().await;
    exchange(ours, theirs).await;
    let (ours, theirs) = from_rustls().await;
    exchange(ours, theirs).await;
    let (one, other) = pair().await;
    exchange(one, other).await;
}

#[tokio::test]
async fn small_reads_and_gathered_writes_keep_the_order() {
    let (mut ours, mut theirs) = to_rustls().await;
    let text = &bulk()[..300_000];
    let sending = async {
        let mut at = 0;
        while at < text.len() {
            let mut rest = &text[at..];
            let parts = [9, 300, 0, 20_000, 1].map(|n| {
                let (part, later) = rest.split_at(n.min(rest.len()));
                rest = later;
                io::IoSlice::new(part)
            });
            at += ours.write_vectored(&parts).await.expect("written");
        }
        ours.flush().await.expect("flushed");
    };
    let mut got = vec![0; text.len()];
    let (read, ()) = tokio::join!(theirs.read_exact(&mut got), sending);
    read.expect("all of it");
    assert!(got == text);

    let sending = async {
        theirs.write_all(text).await.expect("written");
        theirs.flush().await.expect("flushed");
    };
    let mut got = vec![0; text.len()];
    let receiving = async {
        let (mut at, mut n) = (0, 1);
        while at < text.len() {
            let end = text.len().min(at + n);
            at += ours.read(&mut got[at..end]).await.expect("read");
            n = n * 3 % 30_011;
        }
    };
    tokio::join!(sending, receiving);
    assert!(got == text);
}

#[tokio::test]
async fn keys_are_renewed_by_either_side() {
    for ours_is_client in [true, false] {
        let (mut ours, mut theirs) = match ours_is_client {
            true => to_rustls().await,
            false => from_rustls().await,
        };
        let mut got = [0; 4];
        for _ in 0..3 {
            // rustls renews, and asks us to do the same.
            let renewed = match &mut theirs {
                tokio_rustls::TlsStream::Client(client) => {
                    client.get_mut().1.refresh_traffic_keys()
                }
                tokio_rustls::TlsStream::Server(server) => {
                    server.get_mut().1.refresh_traffic_keys()
                }
            };
            renewed.expect("renewed");
            theirs.write_all(b"ping").await.expect("written");
            theirs.flush().await.expect("flushed");
            ours.read_exact(&mut got).await.expect("read");
            assert_eq!(&got, b"ping");
            // We renew of our own accord.
            let renewed = ours.traffic.renew(&mut ours.output);
            renewed.expect("renewed");
            ours.write_all(b"pong").await.expect("written");
            ours.flush().await.expect("flushed");
            theirs.read_exact(&mut got).await.expect("read");
            assert_eq!(&got, b"pong");
        }
    }
}

#[tokio::test]
async fn who_asks_for_new_keys_many_times_gets_them_once() {
    let (mut ours, theirs) = to_rustls().await;
    let tokio_rustls::TlsStream::Server(mut theirs) = theirs else {
        unreachable!("we are the client")
    };
    let mut got = [0; 4];
    for _ in 0..100 {
        let renewed = theirs.get_mut().1.refresh_traffic_keys();
        renewed.expect("renewed");
        theirs.write_all(b"ping").await.expect("written");
        theirs.flush().await.expect("flushed");
        ours.read_exact(&mut got).await.expect("read");
        assert_eq!(ours.output.pending(), 0, "nothing is collected");
    }
    ours.write_all(b"pong").await.expect("written");
    let update = 5 + OVERHEAD;
    assert_eq!(ours.output.pending(), update + 4 + OVERHEAD);
    ours.flush().await.expect("flushed");
    theirs.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"pong");
}

#[tokio::test]
async fn what_was_changed_on_the_way_is_refused_and_the_peer_is_told() {
    // Too little room to open it there, and enough.
    for (at, room) in [(5, 1), (20, 1), (5, 100), (OVERHEAD + 3, 100)] {
        let (mut ours, mut theirs) = pair().await;
        let record = ours.output.extend(4 + OVERHEAD);
        ours.traffic
            .seal
            .seal(Content::Data, b"text", record)
            .expect("sealed");
        record[at] ^= 1;
        ours.flush().await.expect("flushed");
        let mut got = vec![0; room];
        let error = theirs.read(&mut got).await.expect_err("not authentic");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(refused(&error), &rustls::Error::DecryptError);
        let error = ours.read(&mut [0; 16]).await.expect_err("an alert");
        let told = rustls::Error::AlertReceived(AlertDescription::BadRecordMac);
        assert_eq!(refused(&error), &told);
    }
}

fn refused(error: &io::Error) -> &rustls::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.expect("an error of TLS")
}

#[tokio::test]
async fn a_peer_that_leaves_without_an_end_is_no_end() {
    let (mut ours, theirs) = pair().await;
    drop(theirs);
    let error = ours.read(&mut [0; 16]).await.expect_err("cut");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);

    let (mut ours, mut theirs) = pair().await;
    ours.write_all(b"last").await.expect("written");
    ours.shutdown().await.expect("ended");
    let mut got = Vec::new();
    theirs.read_to_end(&mut got).await.expect("an end");
    assert_eq!(got, b"last");
}

#[tokio::test]
async fn what_is_no_tls_is_refused_at_once() {
    use rustls::InvalidMessage::{InvalidContentType, MessageTooLarge, UnknownProtocolVersion};
    let certified = certified();
    for (said, expected) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], InvalidContentType),
        (&[22, 2, 1, 1, 0, 1], UnknownProtocolVersion),
        (&[22, 3, 1, 255, 255, 1], MessageTooLarge),
    ] {
        let (mut near, far) = tcp().await;
        near.write_all(said).await.expect("written");
        let server = certified.server_config().expect("a configuration");
        // The peer stays, and says no more.
        let error = Stream::accept(far, server).await.err();
        let error = error.expect("no handshake");
        assert_eq!(refused(&error), &rustls::Error::InvalidMessage(expected));
        let mut told = Vec::new();
        near.read_to_end(&mut told).await.expect("an answer");
        assert_eq!(told.first(), Some(&21), "an alert: {told:?}");
    }
}

/// A record that `ours` seals, and what `theirs` makes of it.
async fn receive(records: &[(Content, &[u8])]) -> Result<Vec<u8>, rustls::Error> {
    let (mut ours, mut theirs) = pair().await;
    for (content, payload) in records {
        let record = ours.output.extend(payload.len() + OVERHEAD);
        let sealed = ours.traffic.seal.seal(*content, payload, record);
        sealed.expect("sealed");
    }
    ours.shutdown().await.expect("ended");
    let mut got = Vec::new();
    match theirs.read_to_end(&mut got).await {
        Ok(_) => Ok(got),
        Err(error) => Err(refused(&error).clone()),
    }
}

#[tokio::test]
async fn records_that_are_no_data_are_judged() {
    use rustls::{Error, HandshakeType, InvalidMessage};
    let inappropriate = |got_type| Error::InappropriateHandshakeMessage {
        expect_types: vec![HandshakeType::KeyUpdate],
        got_type,
    };
    let update = &[24, 0, 0, 1, 0][..];
    type Case<'a> = (&'a str, &'a [(Content, &'a [u8])], Result<&'a [u8], Error>);
    let cases: [Case<'_>; 11] = [
        ("nothing", &[(Content::Data, b"")], Ok(b"")),
        (
            "an alert that only warns",
            &[(Content::Alert, &[1, 90]), (Content::Data, b"on")],
            Ok(b"on"),
        ),
        (
            "data after the end",
            &[(Content::Alert, &[1, 0]), (Content::Data, b"late")],
            Ok(b""),
        ),
        (
            "an alert that ends",
            &[(Content::Alert, &[2, 40])],
            Err(Error::AlertReceived(AlertDescription::HandshakeFailure)),
        ),
        (
            "half an alert",
            &[(Content::Alert, &[1])],
            Err(InvalidMessage::MessageTooShort.into()),
        ),
        (
            "new keys in the middle of a record",
            &[(Content::Handshake, &[24, 0, 0, 1, 0, 24])],
            Err(PeerMisbehaved::KeyEpochWithPendingFragment.into()),
        ),
        (
            "new keys that make no sense",
            &[(Content::Handshake, &[24, 0, 0, 1, 2])],
            Err(InvalidMessage::InvalidKeyUpdate.into()),
        ),
        (
            "a message that data interrupts",
            &[(Content::Handshake, &update[..3]), (Content::Data, b"x")],
            Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into()),
        ),
        (
            "a message without end",
            &[(Content::Handshake, &[4, 255, 255, 255])],
            Err(InvalidMessage::HandshakePayloadTooLarge.into()),
        ),
        (
            "a ticket from a client",
            &[(Content::Handshake, &[4, 0, 0, 0])],
            Err(inappropriate(HandshakeType::NewSessionTicket)),
        ),
        (
            "a second handshake",
            &[(Content::Handshake, &[1, 0, 0, 0])],
            Err(inappropriate(HandshakeType::ClientHello)),
        ),
    ];
    for (case, records, expected) in cases {
        let got = receive(records).await;
        assert_eq!(got, expected.map(<[u8]>::to_vec), "{case}");
    }
    let empty: Vec<_> = (0..33).map(|_| (Content::Data, &b""[..])).collect();
    let got = receive(&empty).await;
    assert_eq!(got, Err(PeerMisbehaved::TooManyEmptyFragments.into()));
}

#[tokio::test]
async fn a_message_that_records_cut_is_put_together() {
    let (mut ours, mut theirs) = pair().await;
    for part in [&[24][..], &[0, 0], &[1, 0]] {
        let record = ours.output.extend(part.len() + OVERHEAD);
        let sealed = ours.traffic.seal.seal(Content::Handshake, part, record);
        sealed.expect("sealed");
    }
    let (sequence, secrets) = ours.traffic.schedule.next_send().expect("secrets");
    ours.traffic.seal = record::Protection::new(sequence, &secrets).expect("keys");
    ours.write_all(b"new keys").await.expect("written");
    ours.flush().await.expect("flushed");
    let mut got = [0; 8];
    theirs.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"new keys");
}

#[test]
fn lengths() {
    use rustls::Error;
    let cleartext = |got_type| {
        Err(Error::InappropriateMessage {
            expect_types: vec![ContentType::ApplicationData],
            got_type,
        })
    };
    type Length = Result<Option<usize>, Error>;
    let cases: [(&str, &[u8], Length); 8] = [
        ("nothing", &[], Ok(None)),
        ("half a header", &[23, 3, 3, 0], Ok(None)),
        ("the shortest", &[23, 3, 3, 0, 17], Ok(Some(22))),
        (
            "no room for a type",
            &[23, 3, 3, 0, 16],
            Err(Error::DecryptError),
        ),
        ("the longest", &[23, 3, 3, 65, 0], Ok(Some(16645))),
        (
            "too long",
            &[23, 3, 3, 65, 1],
            Err(Error::PeerSentOversizedRecord),
        ),
        (
            "an alert in the clear",
            &[21, 3, 3, 0, 2],
            cleartext(ContentType::Alert),
        ),
        (
            "a change of cipher",
            &[20, 3, 3, 0, 1],
            cleartext(ContentType::ChangeCipherSpec),
        ),
    ];
    for (case, bytes, expected) in cases {
        assert_eq!(record::length(bytes), expected, "{case}");
    }
}
