//! Deadlines of gRPC clients: the shorter of what the client says and what the route says holds.

use std::time::{Duration, Instant};

use super::call::Call;
use super::resilience::attempts;
use super::scene::{CLIENT, http_route, lab};
use super::told::{line, series};

const UNARY: &str = "/ambit.echo.Echo/Unary";

/// What a call was answered that a server of ours delays.
struct Answered {
    /// As the answer's head says it: the answer has nothing else.
    status: Option<String>,
    message: String,
    took: Duration,
}

#[test]
fn the_shorter_of_deadline_and_timeout_holds() {
    let lab = lab();
    let rules = "- matches: [{headers: [{name: x-limit, value: short}]}]\n  timeouts: {request: 400ms}\n  \
         backendRefs: [{name: v1, port: 7070}]\n\
         - matches: [{headers: [{name: x-limit, value: long}]}]\n  timeouts: {request: 20s}\n  \
         backendRefs: [{name: v1, port: 7070}]\n\
         - backendRefs: [{name: v1, port: 7070}]";
    lab.apply(&http_route("calls", "echo", rules));
    let call = |limit: &str, deadline: &str, delay: &str, tag: &str| {
        let mut call = Call::get(CLIENT, &format!("echo.mesh:7070{UNARY}"))
            .h2()
            .method("POST")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-limit", limit)
            .header("user-agent", tag)
            .header("x-echo-delay", delay);
        if !deadline.is_empty() {
            call = call.header("grpc-timeout", deadline);
        }
        let began = Instant::now();
        let answer = call.answer(&lab);
        assert_eq!(answer.status, 200, "{tag}: {answer:?}");
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/grpc"), "{tag}: {answer:?}");
        Answered {
            status: answer.header("grpc-status"),
            message: answer.header("grpc-message").unwrap_or_default(),
            took: began.elapsed(),
        }
    };
    let (least, most) = (Duration::from_millis(300), Duration::from_secs(8));
    for (name, limit, deadline) in [
        ("the deadline alone", "none", "400m"),
        ("the deadline is shorter", "long", "400m"),
        ("the timeout alone", "short", ""),
        ("the timeout is shorter", "short", "20S"),
        ("in other units", "none", "400000u"),
    ] {
        let tag = name.replace(' ', "-");
        let answered = call(limit, deadline, "10s", &tag);
        assert_eq!(answered.status.as_deref(), Some("4"), "{name}");
        assert!(!answered.message.is_empty(), "{name}");
        let took = answered.took;
        assert!(least < took && took < most, "{name}: {took:?}");
        let told = line(&lab, &[&tag]);
        assert!(told.contains("\" 200 "), "{name}: {told}");
    }
    // Nobody said anything, or something that is no time: the server has the time that it takes. It answers that it
    // was sent no message.
    for (name, deadline) in [("nothing", ""), ("no time", "4x"), ("enough", "8S")] {
        let answered = call("none", deadline, "700ms", name);
        assert!(
            answered.status.as_deref() != Some("4"),
            "{name}: {:?}",
            answered.status
        );
        assert!(answered.took >= Duration::from_millis(700), "{name}");
    }
    let before = attempts(&lab, "v1", UNARY);
    let answered = call("none", "0m", "10s", "passed");
    assert_eq!(
        answered.status.as_deref(),
        Some("4"),
        "a deadline that has passed"
    );
    assert!(answered.took < most, "{:?}", answered.took);
    assert!(attempts(&lab, "v1", UNARY) <= before + 1);
    let exceeded = series(&lab, "istio_requests_total").into_iter();
    let exceeded = exceeded.filter(|(labels, _)| labels["grpc_response_status"] == "4");
    assert_eq!(exceeded.map(|(_, count)| count).sum::<f64>(), 6.0);
}

/// A stream that has begun ends with its deadline, as its client would have it end, and its neighbours do not.
#[test]
fn a_deadline_ends_a_stream() {
    let lab = lab();
    let stream = |deadline: &str, messages: &str| {
        let header = format!("grpc-timeout: {deadline}");
        let url = "http://v1.mesh:7070";
        let arguments = [
            "grpc",
            "--json",
            "--max-errors",
            "9",
            "--method",
            "bidi",
            "-n",
            "1",
            "--messages",
            messages,
            "--timeout",
            "60s",
            "-H",
            &header,
            url,
        ];
        let began = Instant::now();
        (lab.load(CLIENT, &arguments).json(), began.elapsed())
    };
    let (short, whole) = std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| stream("20S", "200"));
        (
            stream("1S", "10000000"),
            neighbour.join().expect("a report"),
        )
    });
    let (report, took) = short;
    // In trailers: a reset would be another status, and nobody would know why.
    assert_eq!(report["errors"]["kinds"]["grpc status 4"], 1, "{report}");
    assert_eq!(report["errors"]["total"], 1, "{report}");
    let told = line(&lab, &["/ambit.echo.Echo/Bidi", "\" 200 UT "]);
    assert!(told.contains("was not over in time"), "{told}");
    let limits = Duration::from_secs(1)..Duration::from_secs(15);
    assert!(limits.contains(&took), "{took:?}: {report}");
    assert_eq!(whole.0["errors"]["total"], 0, "{}", whole.0);
}
