use ambit_core::model::Destination;
use proptest::prelude::*;

use super::*;
use crate::index::{Change, Index};
use crate::source::parse::{documents, parse};
use crate::source::{Event, Origin};
use crate::translate::Mesh;

fn events(text: &str) -> Vec<Event> {
    let objects = documents(text)
        .into_iter()
        .flat_map(|it| parse(&it).objects);
    objects
        .map(|o| Event::Apply(o, Origin::default()))
        .collect()
}

/// Service `web` with these labels and a port.
fn web(labels: &str, port: u16) -> Vec<Event> {
    let annotation = "{istio.io/use-waypoint-canary-weight: '10'}";
    events(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop, labels: {{{labels}}}, annotations: {annotation}}}\nspec: {{clusterIP: 10.96.0.1, ports: [{{port: {port}}}]}}\n"
    ))
}

fn mesh(labels: &str) -> Index {
    let mut index = Index::new(Mesh::default());
    for name in ["w1", "w2", "w3"] {
        index.apply(events(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{gatewayClassName: ambit-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}\n"
        )));
    }
    index.apply(web(labels, 80));
    index
}

fn name(waypoint: &GatewayAddress) -> String {
    match &waypoint.destination {
        Destination::Hostname(key) => key.name.split('.').next().unwrap_or_default().to_owned(),
        Destination::Address(address) => address.ip.to_string(),
    }
}

/// Where calls go, and who takes them besides.
fn shown(service: &Service) -> String {
    let mut words = vec![service.waypoint.as_ref().map_or("none".into(), name)];
    let weighted = service.weighted_waypoints.iter();
    words.extend(weighted.map(|it| format!("{}={}", name(&it.waypoint), it.weight)));
    words.extend(service.waypoint_bypass.then(|| "bypass".to_owned()));
    words.extend(service.takes_direct.then(|| "direct".to_owned()));
    words.join(" ")
}

/// Takes the next step of all that are on their way; `None` when nothing is.
fn advance(index: &mut Index) -> Option<Vec<Change>> {
    let services: Vec<_> = index.steps().map(|step| step.service).collect();
    (!services.is_empty()).then(|| index.advance(&services))
}

fn now(index: &Index) -> Service {
    let mut all = index.services();
    let found = all.find(|it| &*it.name == "web");
    found.expect("the service").as_ref().clone()
}

const LABELS: [&str; 6] = [
    "",
    "istio.io/use-waypoint: w1",
    "istio.io/use-waypoint: w2",
    "istio.io/use-waypoint: w1, ambit.dev/waypoint-bypass: allowed",
    "istio.io/use-waypoint: w1, istio.io/use-waypoint-canary: w2",
    "istio.io/use-waypoint: w2, istio.io/use-waypoint-canary: w3",
];

#[test]
fn who_takes_calls_changes_before_and_after_who_is_sent_them() {
    let [none, w1, w2, bypass, canary, other] = LABELS;
    let cases: [(&str, &str, &[&str]); 10] = [
        (none, w1, &["none w1=0 direct", "w1 direct", "w1"]),
        (w1, none, &["w1 direct", "none w1=0 direct", "none"]),
        (w1, w2, &["w1 w1=1 w2=0", "w2 w2=1 w1=0", "w2"]),
        (w1, bypass, &["w1 direct", "w1 bypass"]),
        (bypass, w1, &["w1 direct", "w1"]),
        (bypass, none, &["none w1=0 direct", "none"]),
        (w1, canary, &["w1 w1=1 w2=0", "w1 w1=90 w2=10"]),
        (canary, w1, &["w1 w1=1 w2=0", "w1"]),
        (canary, w2, &["w2 w2=1 w1=0", "w2"]),
        (
            canary,
            other,
            &[
                "w1 w1=90 w2=10 w3=0",
                "w2 w2=90 w3=10 w1=0",
                "w2 w2=90 w3=10",
            ],
        ),
    ];
    for (from, to, wanted) in cases {
        let mut index = mesh(from);
        assert_eq!(index.steps().count(), 0, "what is new is told at once");
        index.apply(web(to, 80));
        let mut told = vec![shown(&now(&index))];
        while let Some(changes) = advance(&mut index) {
            assert!(told.len() < 5, "{from} to {to}: {told:?}");
            assert!(matches!(&changes[..], [Change::Service(_)]), "{changes:?}");
            told.push(shown(&now(&index)));
        }
        assert_eq!(told, wanted, "from {from:?} to {to:?}");
        let mut at_once = mesh(to);
        assert_eq!(at_once.apply(web(to, 80)), []);
        assert_eq!(now(&at_once), now(&index));
    }
}

#[test]
fn what_changes_on_the_way_waits_for_the_next_step() {
    let [none, w1, w2, ..] = LABELS;
    let mut index = mesh(none);
    let step = |index: &Index| index.steps().map(|it| (it.told, it.leaves)).next();
    index.apply(web(w1, 80));
    let first = index.told();
    assert_eq!(step(&index), Some((first, false)));
    // What has nothing to do with the way is told at once.
    index.apply(web(w1, 8080));
    assert_eq!(now(&index).ports[0].service_port, 8080);
    assert_eq!(shown(&now(&index)), "none w1=0 direct");
    // Its target becomes another one meanwhile: nothing is told of that until the first step is known.
    assert_eq!(index.apply(web(w2, 8080)), []);
    assert_eq!(
        step(&index),
        Some((first, false)),
        "the step is as old as it was"
    );
    advance(&mut index);
    assert_eq!(shown(&now(&index)), "none w1=0 w2=0 direct");
    assert_eq!(step(&index), Some((index.told(), false)));
    advance(&mut index);
    assert_eq!(shown(&now(&index)), "w2 w2=1 w1=0 direct");
    assert_eq!(step(&index), Some((index.told(), true)));
    index.apply(vec![Event::Delete(crate::source::Key {
        kind: crate::source::Kind::Service,
        namespace: "shop".into(),
        name: "web".into(),
    })]);
    assert_eq!(index.steps().count(), 0, "what is gone goes nowhere");
}

#[test]
fn whoever_goes_back_before_anybody_was_sent_elsewhere_is_there_at_once() {
    let [none, w1, w2, ..] = LABELS;
    for (from, to, told) in [
        (w1, none, "w1 direct"),
        (none, w1, "none w1=0 direct"),
        (w1, w2, "w1 w1=1 w2=0"),
    ] {
        let mut index = mesh(from);
        let before = now(&index);
        index.apply(web(to, 80));
        assert_eq!(shown(&now(&index)), told);
        index.apply(web(from, 80));
        assert_eq!((now(&index), index.steps().count()), (before, 0));
    }
    let mut index = mesh(none);
    index.apply(web(w1, 80));
    advance(&mut index);
    index.apply(web(none, 80));
    assert_eq!(shown(&now(&index)), "w1 direct", "calls were sent there");
}

#[test]
fn with_policies_of_its_own_a_service_is_at_a_waypoint_at_once_or_not_at_all() {
    let [none, w1, w2, ..] = LABELS;
    let policy = |name: &str| {
        events(&format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{targetRefs: [{{kind: Service, group: '', name: {name}}}], rules: [{{}}]}}\n"
        ))
    };
    let mut index = mesh(none);
    index.apply(policy("web"));
    for (to, wanted) in [(w1, "w1"), (none, "none"), (w1, "w1")] {
        index.apply(web(to, 80));
        assert_eq!(shown(&now(&index)), wanted);
        assert_eq!(index.steps().count(), 0);
    }
    // From one to another nobody judges direct calls.
    index.apply(web(w2, 80));
    assert_eq!(shown(&now(&index)), "w1 w1=1 w2=0");
    index.advance_all();
    let bypass = "istio.io/use-waypoint: w2, ambit.dev/waypoint-bypass: allowed";
    index.apply(web(bypass, 80));
    assert_eq!(shown(&now(&index)), "w2 bypass");
    index.apply(web(w1, 80));
    advance(&mut index);
    assert_eq!(
        shown(&now(&index)),
        "w1",
        "nor does it become so on the way"
    );

    index.apply(policy("other"));
    index.apply(web(w2, 80));
    index.advance_all();
    index.apply(web(none, 80));
    assert_eq!(shown(&now(&index)), "w2 direct");
    let told = index.apply(policy("web"));
    assert_eq!(
        shown(&now(&index)),
        "none",
        "a policy that comes on the way"
    );
    assert!(
        told.iter().any(|it| matches!(it, Change::Service(_))),
        "{told:?}"
    );
    assert_eq!(index.steps().count(), 0);
}

/// Whether all calls that are sent by one are taken by the other.
fn takes(other: &Service, sent: &Service) -> bool {
    let takers = Takers::of(other);
    let mut ways = sent.sent_to();
    let direct = sent.waypoint.is_none() || sent.waypoint_bypass;
    ways.all(|it| takers.waypoints.contains(it)) && (!direct || takers.direct)
}

proptest! {
    #[test]
    fn who_knows_a_step_and_who_knows_the_next_take_each_others_calls(
        first in prop::sample::select(&LABELS[..]),
        moves in prop::collection::vec((prop::sample::select(&LABELS[..]), 0_usize..4), 1..12),
    ) {
        let mut index = mesh(first);
        let mut before = now(&index);
        let mut last = first;
        for (labels, steps) in moves {
            last = labels;
            // What is told here is the first step from what all know, or nothing of the way.
            let all_know = index.steps().next().is_none();
            index.apply(web(labels, 80));
            let told = now(&index);
            let stays = sent(&told) == sent(&before);
            prop_assert!(all_know || shown(&told) == shown(&before) || (stays && index.steps().next().is_none()));
            for _ in 0..=steps {
                let told = now(&index);
                prop_assert!(takes(&told, &before) && takes(&before, &told), "{} then {}", shown(&before), shown(&told));
                before = told;
                advance(&mut index);
            }
            let told = now(&index);
            prop_assert!(takes(&told, &before) && takes(&before, &told));
            before = told;
        }
        index.advance_all();
        prop_assert_eq!(now(&index), now(&mesh(last)));
    }
}
