//! Profiles for pprof: what they show, and that nobody feels that one is taken.

use ambit_lab::harness::Lab;

use crate::fixtures::{AMBIENT, client, echo, namespace, service};
use crate::flows::start;

const ADMIN: &str = "http://127.0.0.1:15000/debug/pprof";

fn scene(more: &[&str]) -> Lab {
    let mut manifests = namespace("shop", AMBIENT);
    manifests += &client("shop", "client-1", "node-1");
    manifests += &echo("shop", "echo-2", "node-2");
    manifests += &service("shop", "echo-2", "name: echo-2");
    start(manifests, more)
}

/// A profile of the proxy of `node`, unpacked; what is no text is lost.
fn profile(lab: &Lab, node: &str, path: &str) -> String {
    let unpacked = format!("load get --fail --timeout 60s '{ADMIN}/{path}' | gunzip");
    lab.exec(&format!("node/{node}"), &["sh", "-c", &unpacked])
        .success()
}

// The unwinder of other processors begins at a wrong place.
#[cfg(target_arch = "x86_64")]
#[test]
fn profiles_show_who_works_and_cost_no_request() {
    let lab = &scene(&[]);
    std::thread::scope(|scope| {
        let words = [
            "http",
            "http://echo-2/?size=20000",
            "-c",
            "16",
            "-d",
            "8s",
            "--json",
        ];
        let load = scope.spawn(move || lab.load("shop/client-1", &words).json());
        let taken = ["node-1", "node-2"]
            .map(|node| scope.spawn(move || profile(lab, node, "profile?seconds=4&hz=1000")));
        for profile in taken.map(|it| it.join().expect("no panic")) {
            // Which of the workers has the one connection between the nodes is chance.
            for wanted in ["worker-", "ambit_ztunnel", "start_thread"] {
                assert!(profile.contains(wanted), "{wanted} in {profile}");
            }
        }
        let load = load.join().expect("no panic");
        assert_eq!(load["errors"]["total"], 0, "{load}");
        assert!(load["requests"].as_u64() > Some(100), "{load}");
    });
}

#[test]
fn who_holds_memory_is_shown_if_the_process_was_started_for_it() {
    let sampled = "_RJEM_MALLOC_CONF=prof:true,lg_prof_sample:14";
    let lab = scene(&["--ztunnel-env", sampled]);
    let heap = profile(&lab, "node-2", "heap");
    for wanted in ["inuse_space", "ambit_ztunnel"] {
        assert!(heap.contains(wanted), "{wanted} in {heap}");
    }
}

#[test]
fn memory_is_not_sampled_otherwise() {
    let lab = scene(&[]);
    let url = format!("{ADMIN}/heap");
    let refused = lab.load("node/node-1", &["get", "-i", &url]).success();
    for wanted in ["501", "_RJEM_MALLOC_CONF=prof:true"] {
        assert!(refused.contains(wanted), "{wanted} in {refused}");
    }
}
