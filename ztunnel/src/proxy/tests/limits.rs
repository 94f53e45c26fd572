//! What a pod may use, and how it ends.

use std::time::Duration;

use ambit_net::hbone::{Pool, Stage, Target};
use ambit_net::sys::Sockets;
use ambit_net::tls;
use ambit_telemetry::metrics::Recorder;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::ServerName;

use super::super::accept::until_cut;
use super::super::{Flow, outbound, passthrough};
use super::{CLIENT, SERVER, dial, echo, exchange, line, run};
use crate::testing::{Served, World, addr, counted, pair, workload};

#[test]
fn a_silent_client_is_dropped_after_the_handshake_timeout() {
    run(async || {
        let short = Duration::from_millis(50);
        let world = World::with(|settings| settings.hbone.handshake_timeout = short);
        let _server = world.serve(&workload("server", SERVER)).await;
        let mut silent = TcpStream::connect((SERVER, 15008)).await.expect("accepted");
        assert_eq!(silent.read(&mut [0; 1]).await.expect("closed"), 0);
        let log = world.logged(1).await;
        let error = log[0]["error"].as_str().expect("an error");
        assert!(
            error.contains("TLS handshake: not completed in 50ms"),
            "{error}"
        );
        assert_eq!(handshakes_failed(&world, "timeout"), 1);
    });
}

#[test]
fn who_says_nothing_after_tls_is_dropped_and_counted() {
    run(async || {
        let short = Duration::from_secs(1);
        let world = World::with(|settings| settings.hbone.handshake_timeout = short);
        let client = world.pod(&workload("client", CLIENT));
        let server = workload("server", SERVER);
        let _server = world.serve(&server).await;
        let wanted = client.identity().expect("identified");
        let certified = wanted.get().await.expect("a certificate");
        let config = certified.client_config(&[server.identity].as_slice().into());
        let tcp = TcpStream::connect((SERVER, 15008)).await.expect("accepted");
        let name = ServerName::try_from("server").expect("a name");
        let connected = tls::Stream::connect(tcp, config.expect("a configuration"), name);
        let mut silent = connected.await.expect("TLS");
        let mut said = Vec::new();
        let _ = silent.read_to_end(&mut said).await;
        let log = world.logged(1).await;
        let error = log[0]["error"].as_str().expect("an error");
        assert!(
            error.contains("has not begun to speak HTTP/2 within 1s"),
            "{error}"
        );
        assert_eq!(handshakes_failed(&world, "http2"), 1);
        let metrics = world.metrics.render();
        let is_told = |line: &str| {
            line.starts_with("istio_tcp_connections_failed_total{")
                && line.contains("response_flags=\"H2_HANDSHAKE_FAILURE\"")
        };
        assert!(metrics.lines().any(is_told), "{metrics}");
    });
}

#[test]
fn headers_of_a_tunnel_have_a_limit() {
    run(async || {
        let world = World::new();
        let recorder = Recorder::default();
        let _counting = metrics::set_default_local_recorder(&recorder);
        let client = world.pod(&workload("client", CLIENT));
        let server = workload("server", SERVER);
        let _server = world.serve(&server).await;
        let (app, _called) = echo(SERVER).await;
        let wanted = client.identity().expect("identified");
        let certified = wanted.get().await.expect("a certificate");
        let pool = Pool::new(Sockets::default(), ambit_net::hbone::Settings::default());
        let target = Target {
            address: addr(&format!("{SERVER}:15008")),
            identities: [server.identity].as_slice().into(),
        };
        let authority = app.to_string();
        let series = "ambit_hbone_limits_reached_total{limit=\"headers\"}";
        for (size, refused) in [(60 << 10, None), (70 << 10, Some(1))] {
            let mut headers = http::HeaderMap::new();
            let long = "x".repeat(size).parse().expect("a value");
            headers.insert("x-much", long);
            let opening = pool.open(&target, &certified, &authority, headers);
            let answer = opening.await.expect("sent").established().await;
            let stage = answer.err().map(|error| error.stage());
            assert_eq!(stage, refused.map(|_| Stage::Refused(431)), "{size}");
            assert_eq!(counted(&recorder, series), refused, "{size}");
        }
    });
}

fn handshakes_failed(world: &World, reason: &str) -> u64 {
    let failed = world.shared.handshakes().failed();
    let found = failed.into_iter().find(|(name, _)| *name == reason);
    found.expect("a reason").1
}

#[test]
fn peers_have_a_limit_before_they_have_said_anything() {
    run(async || {
        let world = World::new();
        let pod = world.limited_pod(&workload("server", SERVER), 1);
        let ip = SERVER.parse().expect("an address");
        let _server = world.serve_pod(pod, ip).await;
        let silent = TcpStream::connect((SERVER, 15008)).await.expect("accepted");
        while world.shared.peers() == 0 {
            tokio::task::yield_now().await;
        }
        let mut second = TcpStream::connect((SERVER, 15008)).await.expect("accepted");
        let ended = second.read(&mut [0; 1]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        let log = world.logged(1).await;
        let error = log[0]["error"].as_str().expect("an error");
        assert!(error.contains("AMBIT_HBONE_CONNECTIONS_PER_POD"), "{error}");
        assert_eq!(handshakes_failed(&world, "limit"), 1);
        drop(silent);
        while world.shared.peers() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn what_is_half_closed_and_idle_is_given_up() {
    run(async || {
        let short = Duration::from_secs(1);
        let world = World::with(|settings| settings.half_closed = short);
        let recorder = Recorder::default();
        let _counting = metrics::set_default_local_recorder(&recorder);
        let client = world.serve(&workload("client", CLIENT)).await;
        let _server = world.serve(&workload("server", SERVER)).await;
        let app = TcpListener::bind((SERVER, 0)).await.expect("a port");
        let address = app.local_addr().expect("an address");
        let mut stream = dial(&client, address).await;
        let (mut accepted, _) = app.accept().await.expect("called");
        stream.shutdown().await.expect("half-close");
        assert_eq!(accepted.read(&mut [0]).await.expect("the end"), 0);
        // The application never ends its side.
        stream.read_u8().await.expect_err("a reset");
        let log = world.logged(2).await;
        let told = |line: &Value| {
            let error = line["error"].as_str();
            error.is_some_and(|error| error.contains("AMBIT_HALF_CLOSED_TIMEOUT"))
        };
        assert!(log.iter().any(told), "{log:?}");
        let cut = counted(&recorder, "ambit_half_closed_timeouts_total");
        assert!(cut >= Some(1), "{cut:?}");
    });
}

#[test]
fn a_pod_has_a_limit_and_others_have_their_own() {
    run(async || {
        let world = World::new();
        let recorder = Recorder::default();
        let _counting = metrics::set_default_local_recorder(&recorder);
        let pod = world.limited_pod(&workload("client", CLIENT), 1);
        let client = world
            .serve_pod(pod, CLIENT.parse().expect("an address"))
            .await;
        let (app, mut called) = echo("127.61.0.5").await;
        let held = dial(&client, app).await;
        called.recv().await.expect("it is established");
        exchange(dial(&client, app).await, "hello")
            .await
            .expect_err("reset");
        let log = world.logged(1).await;
        let error = log[0]["error"].as_str().expect("an error");
        assert!(error.contains("AMBIT_CONNECTIONS_PER_POD"), "{error}");
        let series = "ambit_pod_limits_reached_total{limit=\"AMBIT_CONNECTIONS_PER_POD\"}";
        assert_eq!(counted(&recorder, series), Some(1));
        drop(held);
        world.logged(2).await;
        let back = exchange(dial(&client, app).await, "hello").await;
        assert_eq!(back.expect("there is room again"), "hello");
    });
}

#[test]
fn a_drained_pod_finishes_what_runs_and_takes_nothing_new() {
    run(async || {
        let world = World::new();
        let client = world.serve(&workload("client", CLIENT)).await;
        let server = world.serve(&workload("server", SERVER)).await;
        let (app, _) = echo(SERVER).await;
        let mut stream = dial(&client, app).await;
        let mut word = [0; 2];
        stream.write_all(b"hi").await.expect("sent");
        stream.read_exact(&mut word).await.expect("it runs");
        let Served {
            proxy,
            drain,
            drained,
            ..
        } = server;
        drop((proxy, drained));
        let draining = tokio::spawn(drain.run(Duration::from_secs(20)));
        // Listeners are gone as soon as the accept loops saw the drain.
        while TcpStream::connect((SERVER, 15008)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        stream.write_all(b"on").await.expect("sent");
        stream.read_exact(&mut word).await.expect("it still runs");
        assert_eq!(&word, b"on");
        assert!(!draining.is_finished());
        let back = exchange(stream, "end").await;
        assert_eq!(back.expect("carried"), "end");
        draining
            .await
            .expect("drained before the grace period ends");
    });
}

#[test]
fn what_outlasts_the_grace_period_is_cut_and_both_ends_learn_it() {
    run(async || {
        let world = World::new();
        let client = world.serve(&workload("client", CLIENT)).await;
        let server = world.serve(&workload("server", SERVER)).await;
        let (app, _) = echo(SERVER).await;
        let mut stream = dial(&client, app).await;
        let mut word = [0; 2];
        stream.write_all(b"hi").await.expect("sent");
        stream.read_exact(&mut word).await.expect("it runs");
        let Served {
            proxy,
            drain,
            drained,
            ..
        } = server;
        drop((proxy, drained));
        drain.run(Duration::from_millis(50)).await;
        let ended = stream.read(&mut word).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        let log = world.logged(2).await;
        let error = |direction| line(&log, direction)["error"].as_str().expect("an error");
        assert!(error("inbound").starts_with("cut"), "{log:?}");
        // The stream was reset; the connection did not just vanish.
        assert!(error("outbound").contains("stream"), "{log:?}");
    });
}

#[test]
fn plaintext_takes_no_room_of_who_comes_with_an_identity() {
    run(async || {
        let world = World::new();
        let pod = world.limited_pod(&workload("server", SERVER), 1);
        let kinds = [Flow::Plaintext, Flow::Tunnel, Flow::Outbound];
        let held = kinds.map(|kind| pod.admit_flow(kind).expect("it has room of its own"));
        for kind in kinds {
            let full = pod.admit_flow(kind).expect_err("one, not two").to_string();
            assert!(full.contains("AMBIT_UDP_FLOWS_PER_POD"), "{full}");
        }
        drop(held);
        assert!(pod.admit_flow(Flow::Plaintext).is_ok());
    });
}

#[test]
fn what_a_connection_holds_has_a_budget() {
    run(async || {
        let world = World::new();
        let client = world.serve(&workload("client", CLIENT)).await;
        let (_near, captured) = pair().await;
        let (_other, plain) = pair().await;
        let (peer, proxy) = (addr("127.61.0.9:1"), &client.proxy);
        let outbound = outbound::serve(proxy.clone(), captured, peer);
        let passthrough = passthrough::serve(proxy.clone(), plain, peer);
        let sizes = [
            (
                "outbound",
                size_of_val(&until_cut(proxy, Duration::ZERO, outbound)),
                3072,
            ),
            (
                "passthrough",
                size_of_val(&until_cut(proxy, Duration::ZERO, passthrough)),
                3072,
            ),
        ];
        for (name, size, budget) in sizes {
            assert!(size <= budget, "{name} holds {size} bytes of {budget}");
        }
    });
}
