//! What is left alone, with packets: both families, and while the rules change.

use super::*;

fn with(exclusions: Exclusions) -> Options {
    Options {
        exclusions,
        ..Options::default()
    }
}

fn inbound(ports: &[u16]) -> Options {
    with(Exclusions {
        inbound_ports: ports.iter().copied().collect(),
        ..Exclusions::default()
    })
}

#[test]
fn ports_of_the_pod_take_plain_text_and_the_others_do_not() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        let (plain, hbone) = within(&pod, || (listen(INBOUND_PORT), listen(HBONE_PORT)));
        let apps = within(&pod, || [80, 9090].map(listen));
        let options = inbound(&[80]);
        apply(&netns, &options).expect("applied");
        assert_eq!(verify(&netns, &options).expect("listed"), [""; 0]);
        for (host, caller) in POD.into_iter().zip(NODE) {
            let _client = connect(at(host, 80)).expect("connected");
            let (_, from) = apps[0].accept().expect("straight to the app");
            assert_eq!(peer(from), ip(caller));
            let _client = connect(at(host, 9090)).expect("captured");
            let (accepted, _) = plain.accept().expect("accepted");
            assert_eq!(original(&accepted), at(host, 9090));
            // Callers of the mesh go on in tunnels, and the proxy reaches the app as ever.
            let _client = connect(at(host, HBONE_PORT)).expect("connected");
            hbone.accept().expect("not captured");
            let proxy = within(&pod, || proxy_connect(at(host, 80), Some(ip(caller))));
            talk(&proxy, &apps[0].accept().expect("accepted").0);
        }
    });
}

#[test]
fn what_the_pod_dials_is_left_alone_by_port_and_by_address() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        let servers = [80, 443].map(listen);
        let ranges = ["192.0.2.0/24", NODE[1]];
        let options = with(Exclusions {
            outbound_ports: [443].into(),
            outbound_ranges: ranges
                .map(|text| text.parse().unwrap_or_else(|_| ip(text).into()))
                .into(),
            ..Exclusions::default()
        });
        apply(&netns, &options).expect("applied");
        assert_eq!(verify(&netns, &options).expect("listed"), [""; 0]);
        within(&pod, || {
            let proxy = listen(OUTBOUND_PORT);
            for (host, port, alone) in [
                (NODE[0], 80, false),
                (NODE[0], 443, true),
                (NODE[1], 80, true),
                (NODE[1], 443, true),
            ] {
                let _client = connect(at(host, port)).expect("connected");
                proxy.set_nonblocking(alone).expect("set");
                let captured = proxy.accept().ok().map(|it| original(&it.0));
                assert_eq!(captured, (!alone).then(|| at(host, port)));
            }
            // Nobody is there, and the proxy does not answer in their place.
            let patience = Duration::from_millis(300);
            TcpStream::connect_timeout(&at("192.0.2.7", 80), patience).expect_err("captured");
        });
        for (server, expected) in servers.iter().zip([1, 2]) {
            server.set_nonblocking(true).expect("set");
            let came = std::iter::from_fn(|| server.accept().ok());
            let callers: Vec<IpAddr> = came.map(|(_, from)| peer(from)).collect();
            assert_eq!(callers.len(), expected, "{callers:?}");
        }
    });
}

#[test]
fn connections_go_on_when_something_else_is_left_alone() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        let (plain, app) = within(&pod, || (listen(INBOUND_PORT), listen(80)));
        let into = |host, listener: &TcpListener| {
            let client = connect(at(host, 80)).expect("connected");
            (client, listener.accept().expect("accepted").0)
        };
        let mut all = Vec::new();
        for ports in [&[][..], &[80], &[], &[80, 9090], &[9090]] {
            let options = inbound(ports);
            apply(&netns, &options).expect("applied");
            assert_eq!(verify(&netns, &options).expect("listed"), [""; 0]);
            let listener = if ports.contains(&80) { &app } else { &plain };
            all.extend(POD.map(|host| into(host, listener)));
            for (one, other) in &all {
                talk(one, other);
                talk(other, one);
            }
        }
        assert!(
            !verify(&netns, &Options::default())
                .expect("listed")
                .is_empty()
        );
    });
}
