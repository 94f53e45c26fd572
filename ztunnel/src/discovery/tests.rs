use ambit_core::index::Applicable;
use ambit_net::xds::Resource;
use ambit_proto::security::{Authorization, Clause, Match, Rule, StringMatch, string_match};
use ambit_proto::workload as proto;

use super::*;
use crate::testing::{World, described, push, resource, service, workload};

fn pod(name: &str, ip: &str) -> Resource {
    described(&workload(name, ip))
}

fn policy(name: &str, principal: Option<&str>) -> Resource {
    let exact = |text: &str| string_match::MatchType::Exact(text.to_owned());
    let principals = vec![StringMatch {
        match_type: principal.map(exact),
    }];
    let matches = vec![Match {
        principals,
        ..Match::default()
    }];
    let authorization = Authorization {
        name: name.to_owned(),
        namespace: "ns".to_owned(),
        scope: 1,
        action: 1,
        rules: vec![Rule {
            clauses: vec![Clause { matches }],
        }],
        ..Authorization::default()
    };
    resource(&format!("ns/{name}"), &authorization)
}

struct Test {
    world: World,
    departed: Arc<Departed>,
    discovery: Discovery,
    changed: watch::Receiver<u64>,
}

fn test() -> Test {
    let world = World::new();
    let departed = Arc::new(Departed::default());
    let (discovery, changed) = Discovery::new(world.shared.clone(), departed.clone());
    Test {
        world,
        departed,
        discovery,
        changed,
    }
}

#[tokio::test]
async fn a_push_is_applied_as_a_whole_and_told_once() {
    let Test {
        world,
        mut discovery,
        changed,
        ..
    } = test();
    let web = service("web", "10.1.0.1", 80);
    let resources = vec![
        pod("a", "10.0.0.1"),
        pod("b", "10.0.0.2"),
        resource(&web.key.to_string(), &proto::Address::from(&web)),
    ];
    discovery
        .apply(push(ADDRESS_TYPE, resources, &[]))
        .expect("all good");
    let index = world.shared.index();
    assert_eq!(
        (index.workloads().count(), index.services().count()),
        (2, 1)
    );
    assert_eq!(*changed.borrow(), 1);
}

#[tokio::test]
async fn what_does_not_decode_is_named_and_the_rest_is_in_force() {
    let Test {
        world,
        mut discovery,
        ..
    } = test();
    let broken = Resource {
        body: vec![0xff].into(),
        ..pod("b", "10.0.0.2")
    };
    let pushed = push(ADDRESS_TYPE, vec![pod("a", "10.0.0.1"), broken], &[]);
    let rejected = discovery.apply(pushed).expect_err("one is bad");
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].name, "Kubernetes//Pod/ns/b");
    assert_eq!(world.shared.index().workloads().count(), 1);

    let good = policy("good", Some("td/ns/a/sa/a"));
    let empty = policy("empty", None);
    let pushed = push(AUTHORIZATION_TYPE, vec![good, empty], &[]);
    let rejected = discovery.apply(pushed).expect_err("one is bad");
    assert_eq!(rejected[0].name, "ns/empty");
    let index = world.shared.index();
    let key = "ns/empty".parse().expect("a key");
    let in_force = index
        .policy(&key)
        .expect("it denies until it is understood");
    assert!(
        matches!(in_force, Applicable::Undecodable(_)),
        "{in_force:?}"
    );
    assert_eq!(index.policies().count(), 2);
}

#[tokio::test]
async fn the_first_answer_about_policies_counts_even_when_it_is_empty() {
    let Test {
        world,
        mut discovery,
        ..
    } = test();
    world.shared.publish(Index::default());
    discovery
        .apply(push(ADDRESS_TYPE, vec![], &[]))
        .expect("nothing");
    assert!(!world.shared.index().policies_synced());
    discovery
        .apply(push(AUTHORIZATION_TYPE, vec![], &[]))
        .expect("nothing");
    assert!(world.shared.index().policies_synced());
}

#[tokio::test]
async fn a_type_that_was_not_asked_for_is_rejected() {
    let Test { mut discovery, .. } = test();
    let rejected = discovery.apply(push(
        "type.googleapis.com/x",
        vec![pod("a", "10.0.0.1")],
        &[],
    ));
    assert_eq!(rejected.expect_err("not ours").len(), 1);
}

#[tokio::test]
async fn an_owner_departs_with_its_last_workload() {
    let Test {
        world,
        departed,
        mut discovery,
        ..
    } = test();
    let mut second = workload("a-2", "10.0.0.2");
    second.workload_name = "a".into();
    let both = vec![pod("a", "10.0.0.1"), described(&second)];
    discovery
        .apply(push(ADDRESS_TYPE, both, &[]))
        .expect("good");
    let uid = "Kubernetes//Pod/ns/a";
    discovery
        .apply(push(ADDRESS_TYPE, vec![], &[uid]))
        .expect("good");
    assert!(
        departed.take(&world.shared.index()).is_empty(),
        "one is left"
    );
    discovery
        .apply(push(ADDRESS_TYPE, vec![], &["Kubernetes//Pod/ns/a-2"]))
        .expect("good");
    let gone = departed.take(&world.shared.index());
    assert_eq!(
        gone.into_iter().collect::<Vec<_>>(),
        [("ns".into(), "a".into())]
    );
    assert!(departed.take(&world.shared.index()).is_empty(), "told once");
}
