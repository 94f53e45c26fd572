use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::identity::Identity;
use ambit_core::index::Change;
use ambit_core::model::Workload;
use ambit_core::plan::{HBONE_PORT, OUTBOUND_PORT, PASSTHROUGH_PORT};
use ambit_net::hbone::{self, Duplex, Pool, Target};
use ambit_net::sys::{self, Netns, Sockets};
use ambit_net::zds;
use ambit_telemetry::readiness::Readiness;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use ambit_proxy::Workers;

use super::*;
use crate::capture::{self, Options};
use crate::proxy::{Limits, Listeners, Pod};
use crate::testing::{World, run, workload};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where a pod is that is reached.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 62, 0, 1));

/// Listeners at ports that the kernel chooses.
fn anywhere(_: &Pod) -> io::Result<Listeners> {
    let listen = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    Ok(Listeners {
        outbound: listen()?,
        passthrough: listen()?,
        hbone: listen()?,
        each: 1,
        dns: None,
        udp: None,
    })
}

fn nowhere(_: &Pod) -> io::Result<Listeners> {
    Err(io::Error::other("no room"))
}

fn manager(world: &World, listen: Listen) -> Manager {
    Manager::new(Host {
        origin: Origin {
            cluster_id: "Kubernetes".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            mark: 0,
            dns: false,
            limits: Limits {
                connections: 10,
                hbone_connections: 10,
                dns_queries: 10,
                udp_flows: 10,
            },
            grace: Duration::from_secs(5),
        },
        shared: world.shared.clone(),
        certificates: world.certificates.clone(),
        workers: Workers::start(2).expect("started"),
        listen,
    })
}

fn announced(name: &str) -> Announced {
    Announced {
        kind: Kind::Pod,
        name: name.to_owned(),
        namespace: "ns".to_owned(),
        service_account: name.to_owned(),
        netns: Netns::current().expect("one"),
    }
}

fn describe(world: &World, name: &str) {
    world.change([Change::Workload(Arc::new(workload(name, "10.0.0.1")))]);
}

fn states(manager: &Manager) -> Vec<(String, bool)> {
    let summaries = manager.summaries().into_iter();
    summaries
        .map(|s| (s.pod, s.state == State::Serving))
        .collect()
}

#[tokio::test]
async fn a_pod_is_served_once_announced_and_described_in_either_order() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    describe(&world, "first");
    manager.add("1", announced("first")).expect("taken");
    manager.add("2", announced("second")).expect("taken");
    assert_eq!(
        states(&manager),
        [("ns/first".into(), true), ("ns/second".into(), false)]
    );
    assert!(world.shared.serves("Kubernetes//Pod/ns/first"));
    assert!(!world.shared.serves("Kubernetes//Pod/ns/second"));
    describe(&world, "second");
    assert!(!manager.try_waiting());
    assert_eq!(states(&manager)[1], ("ns/second".into(), true));
    manager.shutdown().await;
    assert!(!world.shared.serves("Kubernetes//Pod/ns/first"));
}

#[tokio::test]
async fn a_certificate_is_kept_for_as_long_as_its_pod() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    let kept = |world: &World| -> Vec<String> {
        let all = world.certificates.snapshot().into_iter();
        all.map(|entry| entry.identity.to_string()).collect()
    };
    manager.add("1", announced("a")).expect("taken");
    assert_eq!(kept(&world), ["spiffe://cluster.local/ns/ns/sa/a"]);
    // Discovery knows better in which trust domain.
    let mut elsewhere = workload("a", "10.0.0.1");
    elsewhere.identity = Identity::new("elsewhere", "ns", "a").expect("valid");
    world.change([Change::Workload(Arc::new(elsewhere))]);
    assert!(!manager.try_waiting());
    assert_eq!(kept(&world), ["spiffe://elsewhere/ns/ns/sa/a"]);
    manager.remove("1");
    manager.shutdown().await;
    assert!(kept(&world).is_empty());
}

#[tokio::test]
async fn a_pod_deleted_while_it_waits_leaves_nothing() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    manager.add("1", announced("a")).expect("taken");
    manager.remove("1");
    describe(&world, "a");
    assert!(!manager.try_waiting());
    assert!(states(&manager).is_empty());
    assert!(!world.shared.serves("Kubernetes//Pod/ns/a"));
    manager.remove("1");
    manager.remove("never seen");
    manager.shutdown().await;
}

#[tokio::test]
async fn a_pod_with_another_service_account_is_not_served() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    describe(&world, "a");
    let impostor = Announced {
        service_account: "admin".to_owned(),
        ..announced("a")
    };
    manager.add("1", impostor).expect("taken");
    let State::Waiting(why) = &manager.summaries()[0].state else {
        panic!("it is served");
    };
    assert!(why.contains("admin") && why.contains("sa/a"), "{why}");
    manager.shutdown().await;
}

#[tokio::test]
async fn one_that_cannot_be_announced_concerns_no_other() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    describe(&world, "a");
    manager.add("1", announced("a")).expect("taken");
    let nameless = Announced {
        service_account: String::new(),
        ..announced("b")
    };
    let error = manager.add("2", nameless).expect_err("no identity");
    assert!(error.contains("ns/b"), "{error}");
    assert_eq!(states(&manager), [("ns/a".into(), true)]);
    manager.shutdown().await;
}

#[tokio::test]
async fn a_pod_whose_listeners_cannot_be_opened_is_refused_and_tried_again() {
    let world = World::new();
    let mut manager = manager(&world, nowhere);
    // The agent is told: it does not let such a pod start.
    let error = manager.add("1", announced("a")).expect_err("no room");
    assert_eq!(error, "pod ns/a: no room");
    manager.add("1", announced("a")).expect_err("still no room");
    assert!(manager.try_waiting(), "to be tried again");
    assert_eq!(
        manager.summaries()[0].state,
        State::Waiting("no room".to_owned())
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn a_reconnected_agent_names_what_is_left() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    for (uid, name) in [("1", "a"), ("2", "b"), ("3", "c")] {
        describe(&world, name);
        manager.add(uid, announced(name)).expect("taken");
    }
    let before = world.shared.pod("Kubernetes//Pod/ns/a").expect("served");
    manager.announcement();
    manager.add("1", announced("a")).expect("known");
    manager.keep("2").expect("known");
    manager.keep("4").expect_err("never sent");
    manager.snapshot_sent();
    let names: Vec<String> = states(&manager).into_iter().map(|(pod, _)| pod).collect();
    assert_eq!(names, ["ns/a", "ns/b"]);
    let after = world.shared.pod("Kubernetes//Pod/ns/a").expect("served");
    assert!(Arc::ptr_eq(&before, &after), "it was not touched");
    manager.shutdown().await;
}

/// A manager that follows an agent, which has announced the pod `a` as `1`.
struct Followed {
    agent: zds::Server,
    readiness: Readiness,
    summaries: watch::Receiver<Vec<Summary>>,
    changes: watch::Sender<u64>,
    synced: oneshot::Sender<()>,
    end: oneshot::Sender<()>,
    manager: JoinHandle<Manager>,
    _folder: TempDir,
}

fn followed(world: &World) -> Followed {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("zds.sock");
    let agent = zds::Server::bind(&path, PATIENCE).expect("bound");
    agent.restore("1", pod("a"));
    let running = agent.clone();
    tokio::spawn(async move { running.run().await });
    let readiness = Readiness::default();
    let (told, summaries) = watch::channel(Vec::new());
    let (changes, changed) = watch::channel(0);
    let (synced, is_synced) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let surroundings = Surroundings {
        changed,
        synced: Box::pin(happened(is_synced)),
        ready: readiness.task("pods"),
        summaries: told,
    };
    let manager = manager(world, anywhere);
    let following = async move { follow(&path, manager, surroundings, happened(ended)).await };
    Followed {
        agent,
        readiness,
        summaries,
        changes,
        synced,
        end,
        manager: tokio::spawn(following),
        _folder: folder,
    }
}

async fn happened(event: oneshot::Receiver<()>) {
    event.await.expect("the test goes on");
}

fn pod(name: &str) -> zds::Pod {
    let netns = Netns::current().expect("one");
    let netns = netns.as_fd().try_clone_to_owned().expect("a copy");
    zds::Pod {
        info: zds::WorkloadInfo {
            name: name.to_owned(),
            namespace: "ns".to_owned(),
            service_account: name.to_owned(),
        },
        netns: Arc::new(netns),
    }
}

impl Followed {
    async fn see(&mut self, wanted: impl Fn(&[Summary]) -> bool) {
        let seen = self.summaries.wait_for(|all| wanted(all));
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        seen.expect("no hang").expect("it follows");
    }

    async fn end(self) {
        self.end.send(()).expect("it follows");
        self.manager.await.expect("ended").shutdown().await;
    }
}

fn one_waits(all: &[Summary]) -> bool {
    matches!(all, [one] if one.state != State::Serving)
}

fn one_is_served(all: &[Summary]) -> bool {
    matches!(all, [one] if one.state == State::Serving)
}

#[tokio::test]
async fn readiness_waits_for_the_snapshot_and_for_discovery() {
    let world = World::new();
    let mut followed = followed(&world);
    followed.see(one_waits).await;
    describe(&world, "a");
    followed.changes.send_replace(1);
    followed.see(one_is_served).await;
    assert_eq!(
        followed.readiness.pending(),
        ["pods"],
        "discovery has not synchronized"
    );
    followed.end().await;
}

#[tokio::test]
async fn a_pod_deleted_while_it_waits_does_not_hold_up_readiness() {
    let world = World::new();
    let mut followed = followed(&world);
    followed.see(one_waits).await;
    followed.agent.delete("1", Instant::now() + PATIENCE).await;
    followed.see(<[Summary]>::is_empty).await;
    let (never, _) = oneshot::channel();
    let synced = std::mem::replace(&mut followed.synced, never);
    synced.send(()).expect("it follows");
    let ready = async {
        while !followed.readiness.pending().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("ready");
    followed.end().await;
}

/// Listeners as in a pod, at an address of the test's own namespace.
fn on_loopback(_: &Pod) -> io::Result<Listeners> {
    let listen = |port| Sockets::default().listen((SERVER, port).into(), sys::Listen::Hbone);
    Ok(Listeners {
        outbound: listen(OUTBOUND_PORT)?,
        passthrough: listen(PASSTHROUGH_PORT)?,
        hbone: listen(HBONE_PORT)?,
        each: 1,
        dns: None,
        udp: None,
    })
}

#[test]
fn peers_of_a_removed_pod_are_told_to_open_no_more_and_finish_what_runs() {
    run(async || {
        let world = World::new();
        let server = Workload {
            addresses: vec![SERVER],
            ..workload("server", "10.0.0.1")
        };
        world.change([Change::Workload(Arc::new(server.clone()))]);
        let mut manager = manager(&world, on_loopback);
        manager.add("1", announced("server")).expect("taken");
        let app = TcpListener::bind((SERVER, 0)).await.expect("a port");
        let authority = app.local_addr().expect("an address").to_string();
        let client = workload("client", "10.0.0.2").identity;
        let client = world.certificates.want(&client);
        let certified = client.get().await.expect("a certificate");
        let one = hbone::Settings {
            spread: 1,
            ..hbone::Settings::default()
        };
        let pool = Pool::new(Sockets::default(), one);
        let target = Target {
            address: (SERVER, HBONE_PORT).into(),
            identities: [server.identity].as_slice().into(),
        };
        let open = async || {
            let headers = http::HeaderMap::new();
            let opening = pool.open(&target, &certified, &authority, headers).await?;
            opening.established().await
        };
        let (running, _) = open().await.expect("agreed");
        let (mut accepted, _) = app.accept().await.expect("called");
        manager.remove("1");
        // Until it is told, the pool goes on with the connection it has.
        let refused = loop {
            if let Err(error) = open().await {
                break error;
            }
        };
        assert!(refused.nothing_sent(), "{refused}");
        let mut running = Duplex::from(running);
        running.write_all(b"on").await.expect("it still runs");
        accepted.read_exact(&mut [0; 2]).await.expect("carried");
        drop((running, accepted));
        manager.shutdown().await;
    });
}

#[test]
fn a_machine_is_captured_from_its_listeners_on_and_released_at_the_end() {
    run(async || {
        let options = Options {
            machine: true,
            ..Options::default()
        };
        let netns = Netns::current().expect("one");
        let missing = || capture::verify(&netns, &options).expect("listed");
        let who = |netns| Announced {
            kind: Kind::Machine,
            netns,
            ..announced("vm")
        };
        let machine = Machine::new(who, options.clone()).expect("it may capture");
        assert_eq!(missing()[0], "table inet ambit is missing");
        let world = World::new();
        let mut manager = manager(&world, anywhere);
        let (_changes, changed) = watch::channel(0);
        let (told, mut summaries) = watch::channel(Vec::new());
        let readiness = Readiness::default();
        let surroundings = Surroundings {
            changed,
            synced: Box::pin(std::future::ready(())),
            ready: readiness.task("this machine"),
            summaries: told,
        };
        let (end, ended) = oneshot::channel();
        let watching = async {
            let serves = summaries.wait_for(|all| !all.is_empty());
            assert!(one_waits(&serves.await.expect("it serves")));
            assert!(missing().is_empty(), "before anybody has described it");
            // As a firewall does that is loaded again.
            capture::remove(&netns).expect("removed");
            while !missing().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(readiness.pending(), ["this machine"]);
            end.send(()).expect("it serves");
        };
        let serving = machine.serve(&mut manager, surroundings, happened(ended));
        let (served, ()) = tokio::join!(serving, watching);
        served.expect("in order");
        let yields = missing();
        assert!(
            !yields.is_empty() && yields[0] != "table inet ambit is missing",
            "{yields:?}"
        );
        manager.shutdown().await;
        machine.release().expect("released");
        assert_eq!(missing()[0], "table inet ambit is missing");
    });
}
