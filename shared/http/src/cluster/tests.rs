use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};

use ambit_core::balance::Seeded;
use ambit_core::index::{Change, Index};
use ambit_core::model::Health;

use super::*;
use crate::fixtures::{key, pod, service, start};
use crate::model::traffic::{Balance, RetryBudget};
use crate::retry::Outcome;

/// Two failures in a row are enough for half a minute of rest.
fn policy(change: impl FnOnce(&mut TrafficPolicy)) -> Arc<TrafficPolicy> {
    let mut policy = TrafficPolicy {
        key: key("web"),
        service: key("web"),
        port: None,
        balance: Balance::Random,
        slow_start: None,
        outlier: Some(Outlier {
            consecutive_errors: 2,
            consecutive_gateway_errors: 0,
            base_ejection: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            max_ejected_percent: 50,
        }),
        limits: Limits::default(),
        retry_budget: RetryBudget::default(),
    };
    change(&mut policy);
    Arc::new(policy)
}

/// A waypoint, the service `web` with some pods, and time that moves only when it is told to.
struct World {
    index: Index,
    traffic: Option<Arc<TrafficPolicy>>,
    local: Arc<Workload>,
    clusters: Clusters,
    now: Instant,
    picker: Seeded,
    looks: Cell<usize>,
}

impl World {
    fn new(pods: &[&str]) -> Self {
        let mut world = Self {
            index: Index::default(),
            traffic: Some(policy(|_| {})),
            local: Arc::new(pod("gw", "gw")),
            clusters: Clusters::default(),
            now: start(),
            picker: Seeded::new(1),
            looks: Cell::new(0),
        };
        world.change(Change::Service(service("web").into()));
        for name in pods {
            world.change(Change::Workload(pod(name, "web").into()));
        }
        world
    }

    fn change(&mut self, change: Change) {
        self.index.apply(change);
    }

    fn try_pick(&mut self, tried: &[Arc<str>]) -> Result<Chosen, Refusal> {
        let view = View {
            service: self.index.service(&key("web")).expect("known"),
            endpoints: self.index.endpoints(&key("web")),
            traffic: self.traffic.as_ref(),
            local: &self.local,
        };
        let wish = Wish {
            tried,
            ..Wish::default()
        };
        let cluster = self.clusters.of(&key("web"), 80, self.now);
        let able = |_: &Endpoint| {
            self.looks.set(self.looks.get() + 1);
            true
        };
        cluster.pick(
            &view,
            Kind::Request,
            &wish,
            self.now,
            &mut self.picker,
            able,
        )
    }

    fn pick(&mut self) -> Chosen {
        self.try_pick(&[]).expect("an endpoint")
    }

    /// A request to the pod of this name that ends with this status.
    fn answer(&mut self, name: &str, status: u16) -> Option<Duration> {
        let endpoints = self.index.endpoints(&key("web")).expect("known");
        let uids = endpoints.iter().map(|it| it.workload().uid.clone());
        let others: Vec<_> = uids.filter(|uid| **uid != *name).collect();
        let chosen = self.try_pick(&others).expect("an endpoint");
        assert_eq!(*chosen.endpoint().workload().name, *name);
        chosen.report(&Outcome::Response { status, grpc: None }, self.now)
    }

    fn seen(&mut self) -> Vec<String> {
        let names = (0..100).map(|_| self.pick().endpoint().workload().name.to_string());
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

#[test]
fn an_endpoint_that_fails_rests_through_changes_of_everything() {
    let mut world = World::new(&["a", "b"]);
    assert_eq!(world.seen(), ["a", "b"]);
    assert_eq!(world.answer("a", 500), None);
    assert_eq!(world.answer("a", 500), Some(Duration::from_secs(30)));
    assert_eq!(world.seen(), ["b"]);
    world.change(Change::Workload(pod("c", "web").into()));
    assert_eq!(world.seen(), ["b", "c"], "endpoints changed");
    let mut renamed = service("web");
    renamed.canonical = true;
    world.change(Change::Service(renamed.into()));
    assert_eq!(world.seen(), ["b", "c"], "the service changed");
    world.traffic = Some(policy(|it| it.balance = Balance::RoundRobin));
    assert_eq!(world.seen(), ["b", "c"], "the policy changed");
    world.now += Duration::from_secs(31);
    assert_eq!(world.seen(), ["a", "b", "c"], "it has rested");
}

#[test]
fn a_good_answer_forgives_and_without_a_policy_nobody_rests() {
    let mut world = World::new(&["a", "b"]);
    for status in [500, 200, 500, 404, 500] {
        assert_eq!(world.answer("a", status), None, "{status}");
    }
    world.traffic = None;
    for _ in 0..5 {
        assert_eq!(world.answer("a", 500), None);
    }
}

#[test]
fn what_is_chosen_from_is_made_when_it_changes_and_not_otherwise() {
    let mut world = World::new(&["a", "b"]);
    world.seen();
    assert_eq!(world.looks.get(), 2, "each endpoint was looked at once");
    world.change(Change::Service(service("other").into()));
    world.change(Change::Workload(pod("x", "other").into()));
    world.seen();
    assert_eq!(world.looks.get(), 2, "others do not matter");
    world.change(Change::RemoveAddress("b".into()));
    assert_eq!(world.seen(), ["a"]);
    assert_eq!(world.looks.get(), 3);
    world.change(Change::Workload(pod("b", "web").into()));
    assert_eq!(world.seen(), ["a", "b"]);
    assert_eq!(world.looks.get(), 5);
}

/// Polls once.
fn poll<F: Future>(future: Pin<&mut F>, waker: &Arc<Woken>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&waker.clone().into()))
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_request_waits_for_a_connection_unless_too_many_do() {
    let mut world = World::new(&["a"]);
    world.traffic = Some(policy(|it| {
        it.limits.connections = Some(1);
        it.limits.pending = Some(1);
    }));
    let cluster = world.clusters.of(&key("web"), 80, world.now);
    let [mut first, mut second, mut third] = [world.pick(), world.pick(), world.pick()];
    let woken = Arc::<Woken>::default();
    assert_eq!(poll(pin!(first.connect()), &woken), Poll::Ready(Ok(())));
    {
        let mut waiting = pin!(second.connect());
        assert!(poll(waiting.as_mut(), &woken).is_pending());
        let Poll::Ready(Err(refusal)) = poll(pin!(third.connect()), &woken) else {
            panic!("one waits already");
        };
        assert_eq!(refusal.flag, Flag::UpstreamOverflow);
        assert!(!woken.0.load(Ordering::Relaxed), "nothing has ended");
        drop(first);
        assert!(woken.0.load(Ordering::Relaxed));
        assert_eq!(poll(waiting, &woken), Poll::Ready(Ok(())));
    }
    {
        // Whoever gives up is counted no more.
        let mut waiting = Box::pin(third.connect());
        assert!(poll(waiting.as_mut(), &woken).is_pending());
        assert_eq!(cluster.current(Kind::Pending), 1);
    }
    assert_eq!(cluster.current(Kind::Pending), 0);
    drop(second);
    assert_eq!(cluster.current(Kind::Connection), 0);
}

#[test]
fn each_port_has_a_retry_budget_of_its_own_that_outlives_changes() {
    let now = start();
    let clusters = Clusters::default();
    let limited = |min_per_second, seconds| {
        policy(|it| {
            it.retry_budget = RetryBudget {
                percent: 0,
                interval: Duration::from_secs(seconds),
                min_per_second,
            };
        })
    };
    let (one, three) = (limited(1, 10), limited(3, 20));
    let granted = |port, traffic: Option<&TrafficPolicy>| {
        let cluster = clusters.of(&key("web"), port, now);
        cluster.budget(traffic, now).try_retry(now)
    };
    // Policies of two ports, by turns.
    let turns = [0; 5].map(|_| (granted(80, Some(&one)), granted(81, Some(&three))));
    let wanted = [
        (true, true),
        (false, true),
        (false, true),
        (false, false),
        (false, false),
    ];
    assert_eq!(turns, wanted);
    assert!(
        granted(80, Some(&limited(2, 10))),
        "what was used still counts"
    );
    assert!(!granted(80, Some(&limited(2, 10))));
    let of_nobody = (0..20).filter(|_| granted(82, None)).count();
    assert_eq!(of_nobody, 10, "the default");
}

#[test]
fn limits_hold_across_a_change_of_them() {
    let mut world = World::new(&["a"]);
    let limited = |requests| policy(|it| it.limits.requests = requests);
    world.traffic = Some(limited(Some(2)));
    let held = [world.pick(), world.pick()];
    let refusal = world.try_pick(&[]).expect_err("two are held");
    assert_eq!(
        (refusal.status, refusal.flag),
        (503, Flag::UpstreamOverflow)
    );
    world.traffic = Some(limited(Some(3)));
    let third = world.pick();
    assert!(world.try_pick(&[]).is_err(), "three are held");
    world.traffic = None;
    drop(world.pick());
    drop(held);
    drop(third);
    let cluster = world.clusters.of(&key("web"), 80, world.now);
    assert_eq!(cluster.current(Kind::Request), 0, "all were given back");
}

#[test]
fn connections_are_counted_by_themselves() {
    let world = World::new(&[]);
    let cluster = world.clusters.of(&key("web"), 80, world.now);
    let limits = Limits {
        connections: Some(1),
        ..Limits::default()
    };
    let one = cluster
        .count(Kind::Connection, Some(&limits))
        .expect("the first");
    assert!(cluster.count(Kind::Connection, Some(&limits)).is_err());
    assert!(cluster.count(Kind::Pending, Some(&limits)).is_ok());
    drop(one);
    assert!(cluster.count(Kind::Connection, Some(&limits)).is_ok());
}

#[test]
fn without_an_endpoint_the_reason_is_said_and_nothing_stays_counted() {
    let refused = |world: &mut World, why: &str| {
        let refusal = world.try_pick(&[]).expect_err("none");
        assert_eq!(
            (refusal.status, refusal.flag),
            (503, Flag::NoHealthyUpstream)
        );
        assert!(refusal.reason.contains(why), "{refusal}");
        let cluster = world.clusters.of(&key("web"), 80, world.now);
        assert_eq!(cluster.current(Kind::Request), 0);
    };
    let mut world = World::new(&[]);
    refused(&mut world, "service ns/web has no endpoints");
    let mut ill = pod("a", "web");
    ill.health = Health::Unhealthy;
    world.change(Change::Workload(ill.into()));
    refused(
        &mut world,
        "none of the 1 endpoints of service ns/web is ready",
    );
}

#[test]
fn what_was_tried_is_left_out_while_there_is_another() {
    let mut world = World::new(&["a", "b"]);
    for _ in 0..50 {
        let chosen = world.try_pick(&["a".into()]).expect("another");
        assert_eq!(&*chosen.endpoint().workload().name, "b");
    }
    let both = ["a".into(), "b".into()];
    assert!(
        world.try_pick(&both).is_ok(),
        "better one of them than none"
    );
}

#[test]
fn a_service_that_is_gone_is_forgotten() {
    let world = World::new(&["a"]);
    let web = world.clusters.of(&key("web"), 80, world.now);
    let other = world.clusters.of(&key("web"), 81, world.now);
    assert!(!Arc::ptr_eq(&web, &other), "one a port");
    assert!(Arc::ptr_eq(
        &web,
        &world.clusters.of(&key("web"), 80, world.now)
    ));
    world
        .clusters
        .sweep(|service| world.index.service(service).is_some());
    assert!(Arc::ptr_eq(
        &web,
        &world.clusters.of(&key("web"), 80, world.now)
    ));
    world.clusters.sweep(|_| false);
    assert!(!Arc::ptr_eq(
        &web,
        &world.clusters.of(&key("web"), 80, world.now)
    ));
}
