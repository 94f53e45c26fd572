//! `load` in all its modes.

use tokio::net::TcpSocket;

use crate::start::{Echo, report};

#[test]
fn request_modes_count_every_request() {
    let echo = Echo::start(&[""]);
    let address = echo.v4(0).to_string();
    let url = format!("http://{address}/?size=10");
    // Where connections are counted there are so many requests that every client gets to make one.
    for (count, arguments) in [
        (2000, vec!["http", &url, "-c", "4"]),
        (100, vec!["http", &url, "-c", "4", "--new-connections"]),
        (2000, vec!["http", &url, "-c", "2", "--body-size", "10000"]),
        (100, vec!["http", &url, "-c", "2", "--h2", "--streams", "8"]),
        (
            100,
            vec!["http", &url, "-c", "2", "--h2", "--new-connections"],
        ),
        (2000, vec!["http", &url, "-c", "2", "--rate", "2000"]),
        (100, vec!["rr", &address, "-c", "3", "--size", "100Ki"]),
        (100, vec!["rr", &address, "--new-connections"]),
        (
            100,
            vec!["rr", &address, "-c", "3", "--udp", "--size", "30Ki"],
        ),
        (500, vec!["websocket", &url, "-c", "2", "--size", "70Ki"]),
        (100, vec!["grpc", &url, "-c", "2", "--method", "unary"]),
        (
            100,
            vec!["grpc", &url, "-c", "2", "--method", "server-stream"],
        ),
        (
            100,
            vec!["grpc", &url, "-c", "2", "--method", "client-stream"],
        ),
        (100, vec!["grpc", &url, "-c", "2", "--method", "bidi"]),
    ] {
        let requests = count.to_string();
        let report = report(&[&arguments[..], &["-n", &requests]].concat(), true);
        assert_eq!(report["requests"], count, "{arguments:?}: {report}");
        let latency = &report["latency_us"];
        assert!(
            latency["p50"].as_f64() <= latency["max"].as_f64(),
            "{report}"
        );
    }
    let stats = echo.stats(0);
    assert_eq!(stats["websocket"]["connections"], 2);
    assert_eq!(
        stats["http/1.1"]["connections"],
        4 + 100 + 2 + 2 + 2 + 1,
        "{stats}"
    );
}

#[test]
fn connections_are_reused_or_not_as_asked() {
    let echo = Echo::start(&[""]);
    let url = format!("http://{}/?close=1", echo.v4(0));
    report(&["http", &url, "-n", "10"], true);
    assert_eq!(
        echo.stats(0)["http/1.1"]["connections"],
        11,
        "the server closes each"
    );
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let echo = Echo::start(&[""]);
    let url = format!("http://{}/?size=1", echo.v4(0));
    let report = report(
        &["http", &url, "-c", "8", "--rate", "400", "-d", "500ms"],
        true,
    );
    assert_eq!(report["requests"], 200, "{report}");
}

#[test]
fn a_stalled_server_shows_in_an_open_loop() {
    let echo = Echo::start(&[""]);
    // One connection, 100 requests a second, each takes 50 ms: the queue grows by 40 ms a request.
    let url = format!("http://{}/?delay=50ms", echo.v4(0));
    let report = report(&["http", &url, "--rate", "100", "-n", "10"], true);
    assert!(
        report["latency_us"]["max"].as_f64() > Some(350_000.0),
        "{report}"
    );
}

#[test]
fn grpc_tells_who_answered_and_how_it_failed() {
    let echo = Echo::start(&[""]);
    let url = format!("http://{}", echo.v6(0));
    let good = report(&["grpc", &url, "-n", "1"], true);
    assert_eq!(good["about"]["pod"], "echo-0", "{good}");
    assert_eq!(good["about"]["path"], "/ambit.echo.Echo/Unary");
}

#[test]
fn errors_are_counted_by_kind_and_decide_the_exit_status() {
    // A port that is taken, and that nobody listens on.
    let taken = TcpSocket::new_v4().expect("a socket");
    taken.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let refused = report(&["rr", &address, "-n", "3"], false);
    assert_eq!(
        refused["errors"]["kinds"]["connect: connection refused"], 3,
        "{refused}"
    );
    report(&["rr", &address, "-n", "3", "--max-errors", "3"], true);
    let echo = Echo::start(&["hang"]);
    let address = echo.v4(0).to_string();
    let hung = report(&["rr", &address, "-n", "1", "--timeout", "50ms"], false);
    assert_eq!(hung["errors"]["kinds"]["receive: timeout"], 1, "{hung}");
}

#[test]
fn bulk_transfers_arrive_intact() {
    let echo = Echo::start(&[""]);
    let address = echo.v4(0).to_string();
    let bytes = 5_000_000_u64;
    for (direction, sent, received) in [("send", 3, 0), ("receive", 0, 3), ("both", 3, 3)] {
        let arguments = [
            "bulk",
            &address,
            "--streams",
            "3",
            "--bytes",
            "5000000",
            "--direction",
            direction,
        ];
        let report = report(&[&arguments[..], &["--checksum"]].concat(), true);
        let transfer = &report["transfer"];
        assert_eq!(transfer["sent_bytes"], sent * bytes, "{report}");
        assert_eq!(transfer["received_bytes"], received * bytes, "{report}");
        assert_eq!(transfer["verified"], true, "{report}");
        let timed = ["bulk", &address, "-d", "50ms", "--direction", direction];
        assert!(
            crate::start::report(&timed, true)["transfer"]["gbit_per_second"].as_f64() > Some(0.0)
        );
    }
}

#[test]
fn held_connections_are_open_at_once_and_still_good_at_the_end() {
    let echo = Echo::start(&[""]);
    let address = echo.v4(0).to_string();
    // Standard input has ended already, so they are let go as soon as all are open.
    let report = report(&["hold", &address, "-c", "200"], true);
    assert_eq!(report["requests"], 200, "{report}");
    assert_eq!(echo.stats(0)["echo"]["connections"], 200);
}

#[test]
fn silent_connections_are_held_and_not_proved() {
    let echo = Echo::start(&["hang"]);
    let address = echo.v4(0).to_string();
    let arguments = ["hold", &address, "-c", "20", "--timeout", "50ms"];
    let proved = report(&arguments, false);
    assert_eq!(proved["errors"]["total"], 20, "{proved}");
    let silent = report(&[&arguments[..], &["--silent"]].concat(), true);
    assert_eq!(silent["requests"], 20, "{silent}");
}
