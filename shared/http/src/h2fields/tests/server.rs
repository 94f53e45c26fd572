//! `h2` reads what goes on: requests that are good arrive as they were sent, those that are not are reset alone.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Response};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const RESET: u8 = 3;
const GOAWAY: u8 = 7;
/// PROTOCOL_ERROR (RFC 9113 section 7).
const PROTOCOL_ERROR: u32 = 1;
/// Stands for a value that fills much of the table.
const LONG: &str = "long";

/// A request: its fields besides the first four, and how it is written.
#[derive(Debug, Clone)]
struct Sent {
    fields: Vec<Field>,
    /// Sizes that the table has first.
    sizes: Vec<usize>,
    /// Where its block is cut.
    cuts: Vec<Index>,
    padding: Option<u8>,
    /// It depends on a stream, or on itself.
    depends: Option<bool>,
}

/// What became of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Its fields, in order.
    Received(Vec<(Vec<u8>, Vec<u8>)>),
    Reset(u32),
}

fn field() -> impl Strategy<Value = Field> {
    let good = vec![
        ("x", "1"),
        ("x", "2"),
        ("y", ""),
        ("y", LONG),
        ("accept", "*/*"),
        ("cookie", "a=b"),
        ("cookie", "c=d"),
        ("te", "trailers"),
    ];
    let bad = vec![
        ("x", "\n"),
        ("x", "3\0"),
        ("X", "1"),
        ("X-Upper", LONG),
        ("a b", "1"),
        ("", "1"),
        ("accept", "\r\n"),
        (":other", ""),
        (":method", "GET /"),
        ("connection", "close"),
        (":path", "/late"),
    ];
    let field = prop_oneof![9 => select(good), 1 => select(bad)];
    let how = select(vec![How::Kept, How::Kept, How::Plain, How::Never]);
    let written = (any::<bool>(), prop::bool::weighted(0.8));
    (field, how, written).prop_map(|((name, value), how, (is_huffman, is_referred))| {
        let long = "1".repeat(1_500);
        let value = if value == LONG { &long } else { value };
        Field {
            is_huffman,
            is_referred,
            ..Field::new(name, value, how)
        }
    })
}

fn request() -> impl Strategy<Value = Sent> {
    let fields = prop::collection::vec(field(), 0..6);
    // Few entries fit into a small table: there the size of each tells.
    let size = prop_oneof![1 => Just(4_096), 1 => 0..=4_096usize, 4 => 60..200usize];
    let sizes = prop::collection::vec(size, 1..3);
    let sizes = prop::option::weighted(0.3, sizes).prop_map(Option::unwrap_or_default);
    let cuts = prop::collection::vec(any::<Index>(), 1..=CONTINUATIONS);
    let cuts = prop::option::weighted(0.3, cuts).prop_map(Option::unwrap_or_default);
    let padding = prop::option::weighted(0.2, any::<u8>());
    let depends = prop::option::weighted(0.2, prop::bool::weighted(0.3));
    (fields, sizes, cuts, padding, depends).prop_map(|(fields, sizes, cuts, padding, depends)| {
        Sent {
            fields,
            sizes,
            cuts,
            padding,
            depends,
        }
    })
}

impl Sent {
    fn write(&self, encoder: &mut Encoder, stream: u32) -> Vec<u8> {
        let mut block = Vec::new();
        for size in &self.sizes {
            encoder.resize(&mut block, *size);
        }
        let path = format!("/{stream}");
        let first = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", &path),
        ];
        for (name, value) in first {
            encoder.write(&mut block, &Field::new(name, value, How::Kept));
        }
        for field in &self.fields {
            encoder.write(&mut block, field);
        }
        let mut cuts: Vec<_> = self.cuts.iter().map(|it| it.index(block.len())).collect();
        cuts.extend([0, block.len()]);
        cuts.sort_unstable();
        let mut pieces = cuts.windows(2).map(|pair| &block[pair[0]..pair[1]]);
        let mut payload = Vec::from_iter(self.padding);
        let mut flags = END_STREAM;
        if let Some(itself) = self.depends {
            let on = if itself { stream } else { 0 };
            payload.extend(on.to_be_bytes());
            payload.push(15);
            flags |= PRIORITY;
        }
        payload.extend(pieces.next().expect("a piece"));
        if let Some(padding) = self.padding {
            payload.resize(payload.len() + usize::from(padding), 0);
            flags |= PADDED;
        }
        let last = |more: usize| if more == 0 { END_HEADERS } else { 0 };
        let mut bytes = frame(HEADERS, flags | last(pieces.len()), stream, &payload);
        while let Some(piece) = pieces.next() {
            bytes.extend(frame(CONTINUATION, last(pieces.len()), stream, piece));
        }
        bytes
    }

    fn outcome(&self) -> Outcome {
        let good = |field: &Field| {
            HeaderName::from_lowercase(&field.name).is_ok_and(|it| it != "connection")
                && HeaderValue::from_bytes(&field.value).is_ok()
        };
        if self.depends == Some(true) || !self.fields.iter().all(good) {
            return Outcome::Reset(PROTOCOL_ERROR);
        }
        let fields = self.fields.iter();
        received(fields.map(|it| (it.name.clone(), it.value.clone())))
    }
}

fn received(fields: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Outcome {
    let mut fields: Vec<_> = fields.collect();
    fields.sort();
    Outcome::Received(fields)
}

/// Answers all requests, and says what it received on which path.
async fn serve(io: DuplexStream) -> BTreeMap<String, Outcome> {
    let mut all = BTreeMap::new();
    let mut connection = h2::server::handshake(io).await.expect("a greeting");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let fields = request.headers().iter();
        let fields = fields.map(|(name, value)| (name.as_str().into(), value.as_bytes().into()));
        all.insert(request.uri().path().to_owned(), received(fields));
        respond
            .send_response(Response::new(()), true)
            .expect("sent");
    }
    all
}

/// Sends `bytes`, and waits until as many streams have an answer or a reset: the resets.
async fn send(io: DuplexStream, bytes: &[u8], streams: usize) -> BTreeMap<u32, u32> {
    let (mut reader, mut writer) = tokio::io::split(io);
    writer.write_all(bytes).await.expect("room");
    let mut resets = BTreeMap::new();
    let mut ended = 0;
    while ended < streams {
        let mut head = [0; frame::HEAD];
        reader.read_exact(&mut head).await.expect("a frame");
        let head = Head::parse(&head).expect("a head");
        let mut payload = vec![0; head.length];
        reader.read_exact(&mut payload).await.expect("a frame");
        match head.kind {
            HEADERS => ended += 1,
            RESET => {
                let reason = u32::from_be_bytes(payload[..4].try_into().expect("a reason"));
                resets.insert(head.stream, reason);
                ended += 1;
            }
            GOAWAY => panic!("the connection ended: {payload:?}"),
            _ => {}
        }
    }
    resets
}

/// What becomes of each stream of a connection.
fn outcomes(bytes: &[u8], streams: usize) -> BTreeMap<u32, Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let (client, server) = duplex(1 << 20);
    let (received, resets) = runtime
        .expect("a runtime")
        .block_on(async { tokio::join!(serve(server), send(client, bytes, streams)) });
    let received = received.into_iter().map(|(path, outcome)| {
        let stream = path[1..].parse().expect("a stream");
        (stream, outcome)
    });
    let resets = resets
        .into_iter()
        .map(|(stream, reason)| (stream, Outcome::Reset(reason)));
    received.chain(resets).collect()
}

proptest! {
    #[test]
    fn a_bad_request_is_reset_and_a_good_one_arrives(
        requests in prop::collection::vec(request(), 1..12),
        piece in 1..2_000usize,
    ) {
        let mut encoder = Encoder::default();
        let mut expected = BTreeMap::new();
        let mut frames = Vec::new();
        for (at, request) in requests.iter().enumerate() {
            let stream = at as u32 * 2 + 1;
            frames.push(request.write(&mut encoder, stream));
            expected.insert(stream, request.outcome());
        }
        let bytes = connection(&frames);
        let bytes = sifted(bytes.chunks(piece));
        prop_assert_eq!(outcomes(&bytes, requests.len()), expected);
    }
}
