//! The root of the authority is another one, while workloads talk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ambit_control::ca::material::Pems;
use ambit_lab::harness::{Ending, Lab, eventually, program};

use super::authority::{self, Authority};
use super::{LOADS, PATIENCE, lab, rotation, serial};
use crate::faults::errors;
use crate::fixtures::addresses;
use crate::flows::{flow_that, identity};

/// Takes the place of the authority that signs, by the steps of manifests/README.md, each when all have taken the one before.
fn rotate(lab: &Lab, old: &Authority, new: &Authority) {
    for (step, pems, signer) in authority::steps(&old.pems, &new.pems) {
        authority::plug(lab, &pems);
        eventually(step, 2 * PATIENCE, || {
            authority::everywhere(lab, &pems, signer).then_some(())
        });
    }
}

/// A key that is not that of its certificate: it is said, and who signed goes on.
fn what_does_not_hold_together_signs_nothing(lab: &Lab, old: &Authority, new: &Authority) {
    let before = serial(lab, "node-1", "client-1");
    let ca_key = new.pems.ca_key.clone();
    let torn = Pems {
        ca_key,
        ..old.pems.clone()
    };
    authority::plug(lab, &torn);
    let said = "/run/ambit-lab/mesh/ca: ca-key.pem is not the key of ca-cert.pem";
    eventually("word of what is wrong", PATIENCE, || {
        lab.logs("control").contains(said).then_some(())
    });
    let at_that_time = serial(lab, "node-1", "client-1");
    eventually(
        "another certificate of the same authority",
        PATIENCE,
        || {
            let now = serial(lab, "node-1", "client-1");
            (now != before && now != at_that_time).then_some(())
        },
    );
    assert!(authority::everywhere(lab, &old.pems, &old.pems));
    let times = lab.logs("control").matches(said).count();
    assert_eq!(times, 1, "it is said once");
}

#[test]
fn roots_rotate_under_load_without_a_failed_request() {
    let lab = lab(&["--certificate-lifetime", "10s"]);
    let folder = tempfile::tempdir().expect("a folder");
    let nth = |number: usize| folder.path().join(number.to_string());
    let first = Authority::of(&lab, nth(0));
    let [address, _] = addresses(&lab, "shop/echo-2");
    // What comes of a tunnel that somebody opens with a certificate of an authority, from where no proxy is in his way.
    let tunnel = |of: &Authority| {
        let peer = program("peer").to_string_lossy().into_owned();
        let (to, ca) = (format!("{address}:15008"), of.folder.to_string_lossy());
        let caller = identity("shop", "client-1");
        let argv = [&*peer, "tunnel", &to, "--ca", &ca, "--identity", &caller];
        lab.exec("node/node-1", &argv).json()
    };
    let good = tunnel(&first);
    assert_eq!(good["status"], 200, "{good}");

    let end = Instant::now() + Duration::from_secs(rotation());
    let stop = AtomicBool::new(false);
    let (reports, authorities) = thread::scope(|scope| {
        let running = LOADS.map(|(pod, arguments)| {
            let (lab, stop) = (&lab, &stop);
            let more = ["--json", "--duration", "8s"];
            let arguments: Vec<&str> = arguments.split(' ').chain(more).collect();
            scope.spawn(move || {
                let mut reports = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    reports.push(lab.load(&format!("shop/{pod}"), &arguments).json());
                }
                reports
            })
        });
        let ending = Ending(&stop);
        let mut authorities = vec![first, Authority::new(nth(1))];
        what_does_not_hold_together_signs_nothing(&lab, &authorities[0], &authorities[1]);
        loop {
            let [.., old, new] = &authorities[..] else {
                unreachable!("there are two")
            };
            rotate(&lab, old, new);
            if Instant::now() > end {
                break;
            }
            authorities.push(Authority::new(nth(authorities.len())));
        }
        drop(ending);
        let reports = running.map(|thread| thread.join().expect("reports"));
        (reports, authorities)
    });
    let mut requests = [0; LOADS.len()];
    for ((reports, (pod, arguments)), requests) in reports.iter().zip(LOADS).zip(&mut requests) {
        for report in reports {
            assert_eq!(errors(report), 0, "{pod} {arguments}: {report}");
            *requests += report["requests"].as_u64().unwrap_or_default();
        }
        assert!(*requests > 100, "{pod} {arguments}: {reports:?}");
    }

    let [gone @ .., last] = &authorities[..] else {
        unreachable!("there are two")
    };
    for old in gone {
        let refused = tunnel(old);
        let is_refused = refused["error"].is_string() && refused["status"].is_null();
        assert!(is_refused, "{refused}");
    }
    // All roots have one name, so what does not fit is the signature.
    let _ = flow_that(&lab, "node-2", "a refused handshake", |flow| {
        let error = flow.text("error");
        error.contains("TLS handshake") && error.contains("BadSignature")
    });
    let good = tunnel(last);
    assert_eq!(good["status"], 200, "{good}");
    // Connections that need a new handshake.
    for (client, server) in [
        ("client-late-1", "echo-late-2"),
        ("client-late-2", "echo-late-1"),
    ] {
        let answer = lab.get(&format!("shop/{client}"), &format!("http://{server}/"));
        assert_eq!(answer["hostname"], server);
    }
    let rotations = gone.len();
    eprintln!("{rotations} rotations of the root, {requests:?} requests, no errors");
}
