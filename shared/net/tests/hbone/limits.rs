//! What peers may have, that they get no more, and what is counted.

use super::support::frames::{
    self, Frame, GOAWAY, PREFACE, RST_STREAM, SETTINGS, connect, secured, write,
};
use ambit_telemetry::metrics::Recorder;
use tokio::sync::mpsc;

use super::*;

/// The value of a series; 0 where there is none.
fn counted(recorder: &Recorder, series: &str) -> u64 {
    let mut text = String::new();
    recorder.render(&mut text);
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.unwrap_or(0)
}

fn reached(recorder: &Recorder, limit: &str) -> u64 {
    counted(
        recorder,
        &format!("ambit_hbone_limits_reached_total{{limit=\"{limit}\"}}"),
    )
}

/// A server that agrees to nothing and holds every CONNECT, with what it holds.
async fn holding(
    ca: &Ca,
    settings: Settings,
) -> (SocketAddr, mpsc::UnboundedReceiver<server::Connect>) {
    let (held, holding) = mpsc::unbounded_channel();
    let on_connect = move |connect, _| held.send(connect).map_err(drop).expect("the test goes on");
    let server = ca.certified(SERVER);
    let address = serve(server, settings, never_drain(), on_connect).await;
    (address, holding)
}

/// What is asked for next.
async fn next(held: &mut mpsc::UnboundedReceiver<server::Connect>) -> server::Connect {
    let next = tokio::time::timeout(Duration::from_secs(20), held.recv()).await;
    next.expect("in time").expect("a tunnel is asked for")
}

/// What a client says first, and these frames.
fn opening(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(Frame::new(SETTINGS, 0, 0, []).bytes());
    bytes.extend(frames.iter().flat_map(Frame::bytes));
    bytes
}

#[tokio::test]
async fn one_stream_more_than_a_peer_may_have_is_refused_and_counted() {
    let recorder = Recorder::default();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let ca = Ca::new();
    let two = Settings {
        max_streams: 2,
        ..Settings::default()
    };
    let (address, mut held) = holding(&ca, two).await;
    let mut stream = secured(&ca, CLIENT, SERVER, address).await;
    let three = [1, 3, 5].map(|stream| connect(stream, "10.0.0.1:80"));
    write(&mut stream, &opening(&three)).await;
    let refused = loop {
        let frame = frames::read(&mut stream).await.expect("the connection");
        if frame.kind == RST_STREAM {
            break frame;
        }
    };
    let reason = h2::Reason::from(refused.word(0));
    assert_eq!((refused.stream, reason), (5, h2::Reason::REFUSED_STREAM));
    assert_eq!(reached(&recorder, "streams"), 1);
    // The first two are with the server, and what ends makes room.
    for _ in 0..2 {
        let connect = next(&mut held).await;
        connect.refuse(StatusCode::FORBIDDEN);
        while frames::read(&mut stream).await.expect("it goes on").kind != RST_STREAM {}
    }
    write(&mut stream, &connect(7, "10.0.0.1:80").bytes()).await;
    let _there_is_room_again = next(&mut held).await;
    assert_eq!(reached(&recorder, "streams"), 1);
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_end_the_connection_and_are_counted() {
    let recorder = Recorder::default();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let ca = Ca::new();
    let (address, _held) = holding(&ca, Settings::default()).await;
    let mut stream = secured(&ca, CLIENT, SERVER, address).await;
    let cancel = u32::from(h2::Reason::CANCEL).to_be_bytes();
    let both = |stream| {
        let reset = Frame::new(RST_STREAM, 0, stream, cancel);
        [connect(stream, "10.0.0.1:80"), reset]
    };
    let flood: Vec<_> = (0..100).flat_map(|number| both(2 * number + 1)).collect();
    write(&mut stream, &opening(&flood)).await;
    let mut said = None;
    while let Some(frame) = frames::read(&mut stream).await {
        if frame.kind == GOAWAY {
            said = Some(h2::Reason::from(frame.word(4)));
        }
    }
    assert_eq!(said, Some(h2::Reason::ENHANCE_YOUR_CALM));
    assert_eq!(reached(&recorder, "resets"), 1);
}

#[tokio::test]
async fn headers_that_are_too_large_are_answered_so_and_counted() {
    let recorder = Recorder::default();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let ca = Ca::new();
    let (address, mut held) = holding(&ca, Settings::default()).await;
    let mut requests = lives::raw_client(&ca, address).await;
    let connect = |header: usize| {
        let request = http::Request::connect("10.0.0.1:80").header("x-much", "x".repeat(header));
        request.body(()).expect("a request")
    };
    let (answer, _send) = requests
        .send_request(connect(70 << 10), false)
        .expect("sent");
    let status = answer.await.expect("an answer").status();
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(reached(&recorder, "headers"), 1);
    // The connection goes on.
    let (_answer, _send) = requests
        .send_request(connect(60 << 10), false)
        .expect("sent");
    let _ = next(&mut held).await;
    assert_eq!(reached(&recorder, "headers"), 1);
}

#[tokio::test]
async fn handshakes_and_round_trips_of_both_ends_are_measured() {
    let recorder = Recorder::default();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let ca = Ca::new();
    let target = target(&ca, &Settings::default()).await;
    let certified = ca.certified(CLIENT);
    let app = doubling_app().await.to_string();
    let short = Settings {
        idle_timeout: Duration::from_millis(500),
        spread: 1,
        ..Settings::default()
    };
    let pool = Pool::new(Sockets::default(), short);
    let mut held = Vec::new();
    for _ in 0..2 {
        let opening = pool.open(&target, &certified, &app, HeaderMap::new()).await;
        held.push(opening.expect("open").established().await.expect("agreed"));
    }
    let handshakes = |side: &str| {
        let count = format!("ambit_hbone_handshake_seconds_count{{side=\"{side}\"}}");
        counted(&recorder, &count)
    };
    let round_trips = || counted(&recorder, "ambit_hbone_round_trip_seconds_count");
    let connections = pool.connections() as u64;
    for side in ["client", "server"] {
        assert_eq!(handshakes(side), connections, "{side}");
    }
    // While it runs, and each end when it is over.
    let limit = Duration::from_secs(10);
    let measured = async |more: u64| {
        while round_trips() < more {
            tokio::task::yield_now().await;
        }
    };
    let timely = |wait| tokio::time::timeout(limit, wait);
    timely(measured(1)).await.expect("measured while it runs");
    let before = round_trips();
    held.clear();
    drop(pool);
    let ends = timely(measured(before + 2 * connections)).await;
    ends.expect("measured at both ends");
}
