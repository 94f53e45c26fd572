//! The TCP modes, on ports of their own and chosen by a line on the shared port.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use ambit_lab::harness::eventually;
use serde_json::Value;

use crate::start::{Echo, load};

const PATIENCE: Duration = Duration::from_secs(20);
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn converse(address: std::net::SocketAddr, input: &str) -> String {
    let output = load(&["tcp", &address.to_string()], input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{input:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn modes() {
    let echo = Echo::start(&["", "echo", "discard", "count", "sum", "half-close"]);
    for (index, input, expected) in [
        (0, "hello", "hello".to_owned()),
        (0, "!echo\nGET / HTTP/1.1\n", "GET / HTTP/1.1\n".to_owned()),
        (
            0,
            "!sum\nabc",
            format!("{{\"bytes\":3,\"sha256\":\"{ABC}\"}}\n"),
        ),
        (0, "!count\nabc", "{\"bytes\":3}\n".to_owned()),
        (0, "!discard\nabc", String::new()),
        (1, "!echo\nGET /", "!echo\nGET /".to_owned()),
        (2, "abc", String::new()),
        (3, "", "{\"bytes\":0}\n".to_owned()),
        (4, "abc", format!("{{\"bytes\":3,\"sha256\":\"{ABC}\"}}\n")),
        (5, "", String::new()),
    ] {
        assert_eq!(
            converse(echo.v4(index), input),
            expected,
            "port {index}: {input:?}"
        );
    }
}

#[test]
fn a_server_that_speaks_first_names_both_ends() {
    let echo = Echo::start(&["info"]);
    let mut stream = TcpStream::connect(echo.v6(0)).expect("connects");
    let ends = (
        stream.local_addr().expect("ours"),
        stream.peer_addr().expect("theirs"),
    );
    let mut text = String::new();
    stream.shutdown(Shutdown::Write).expect("half-closes");
    stream.read_to_string(&mut text).expect("reads");
    let info: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(info["remote_address"], ends.0.to_string());
    assert_eq!(info["local_address"], ends.1.to_string());
    assert_eq!(info["pod"], "echo-0");
}

#[test]
fn a_half_closed_server_still_reads() {
    let echo = Echo::start(&["", "half-close"]);
    let mut stream = TcpStream::connect(echo.v4(1)).expect("connects");
    assert_eq!(
        stream.read(&mut [0; 8]).expect("reads"),
        0,
        "the server has ended its side"
    );
    stream.write_all(b"abc").expect("writes");
    stream.shutdown(Shutdown::Write).expect("half-closes");
    // The connection is over on the server's side once it is no longer open.
    let stats = eventually("the connection to be over", PATIENCE, || {
        let stats = echo.stats(0);
        (stats["half-close"]["open"] == 0).then_some(stats)
    });
    assert_eq!(stats["half-close"]["last_sha256"], ABC);
    assert_eq!(stats["half-close"]["received_bytes"], 3);
}

#[test]
fn a_client_ends_after_the_server_or_resets() {
    let echo = Echo::start(&[""]);
    let address = echo.v4(0).to_string();
    let over = |mode: &str| {
        eventually("the connection to be over", PATIENCE, || {
            let stats = echo.stats(0)[mode].take();
            (stats["connections"] == 1 && stats["open"] == 0).then_some(stats)
        })
    };
    let arguments = ["tcp", &address, "--keep-open"];
    let after = ["--send", "!half-close\n", "--send-after", "abc"];
    let output = load(&[&arguments[..], &after].concat(), "");
    assert!(output.status.success(), "{output:?}");
    let stats = over("half-close");
    assert_eq!(stats["last_sha256"], ABC);
    assert_eq!(stats["resets"], 0);
    let output = load(
        &[&arguments[..], &["--send", "abc", "--reset"]].concat(),
        "",
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"abc");
    assert_eq!(over("echo")["resets"], 1);
    // One that has ended cannot be reset any more.
    let output = load(&["tcp", &address, "--send", "!discard\n", "--reset"], "");
    assert!(!output.status.success());
}

#[test]
fn a_reset_is_an_error_and_not_an_end() {
    let echo = Echo::start(&["reset"]);
    let output = load(&["tcp", &echo.v4(0).to_string()], "x");
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("Connection reset by peer"), "{errors}");
}
