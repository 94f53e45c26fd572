//! Whom resources concern, and what is told when that changes.

use super::*;
use crate::index::Index;
use crate::source::parse::{documents, parse};
use crate::source::{Event, Key, Kind, Origin};

/// Waypoints `a`, `b` and `c`; services of `shop` bound to `a` and `b`, and one that is bound to none; one of `other`
/// bound to `c`.
const BOUND: &str = "
apiVersion: v1
kind: Service
metadata: {name: one, namespace: shop, labels: {istio.io/use-waypoint: a}}
spec: {clusterIPs: [10.96.0.1], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: two, namespace: shop, labels: {istio.io/use-waypoint: b}}
spec: {clusterIPs: [10.96.0.2], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: shop}
spec: {clusterIPs: [10.96.0.3], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other, labels: {istio.io/use-waypoint: c}}
spec: {clusterIPs: [10.96.0.4], ports: [{port: 80}]}
";

fn events(text: &str) -> Vec<Event> {
    let parsed = documents(text).into_iter().flat_map(|it| {
        let parsed = parse(&it);
        assert_eq!(parsed.errors, [], "{text}");
        parsed.objects
    });
    parsed
        .map(|it| Event::Apply(it, Origin::default()))
        .collect()
}

fn delete(kind: Kind, namespace: &str, name: &str) -> Event {
    Event::Delete(Key {
        kind,
        namespace: namespace.into(),
        name: name.into(),
    })
}

/// An index of these and `BOUND`, and what it told of resources for waypoints.
fn index(text: &str) -> (Index, Vec<String>) {
    let mut index = Index::new(Mesh::default());
    let changes = index.apply(events(&format!("{BOUND}---{text}")));
    let told = told(&changes);
    (index, told)
}

/// What is told of these, and once all know that.
fn after(index: &mut Index, events: Vec<Event>) -> Vec<String> {
    let mut all = told(&index.apply(events));
    all.extend(told(&index.advance_all()));
    all
}

/// `NAME for WAYPOINTS`, `-NAME`, and `binding` for a service.
fn told(changes: &[Change]) -> Vec<String> {
    let told = changes.iter().filter_map(|change| match change {
        Change::Waypoint(resource, readers) => {
            let readers = readers.0.iter().map(|reader| match reader {
                Reader::Everyone => "all",
                Reader::Waypoint(key) => key.name.split('.').next().unwrap_or_default(),
            });
            let mut readers: Vec<&str> = readers.collect();
            readers.sort_unstable();
            Some(format!("{} for {}", resource.key(), readers.join("+")))
        }
        Change::RemoveWaypoint(key) => Some(format!("-{key}")),
        Change::Service(_) => Some("binding".to_owned()),
        _ => None,
    });
    told.collect()
}

fn route(name: &str, parent: &str, more: &str) -> String {
    format!(
        "\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{parentRefs: [{parent}], rules: [{{{more}}}]}}\n---"
    )
}

fn service(name: &str, namespace: &str) -> String {
    format!("{{group: '', kind: Service, name: {name}, namespace: {namespace}}}")
}

const GRANT: &str = "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}, {group: ambit.dev, kind: ExternalAuthorizer, namespace: istio-system}], to: [{group: '', kind: Service}]}
---";

#[test]
fn whom_a_resource_concerns() {
    let policy = |namespace: &str, target: &str, more: &str| {
        format!(
            "\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: {namespace}}}\n\
             spec: {{targetRefs: [{target}], rules: [{{}}]{more}}}\n---"
        )
    };
    let gateway = "{group: gateway.networking.k8s.io, kind: Gateway, name: a}";
    let class = "{group: gateway.networking.k8s.io, kind: GatewayClass, name: ambit-waypoint}";
    let to_far = "backendRefs: [{name: far, namespace: other, port: 80}]";
    let authorizer = "
apiVersion: ambit.dev/v1alpha1
kind: ExternalAuthorizer
metadata: {name: opa, namespace: istio-system}
spec: {protocol: GRPC, backendRef: {name: far, namespace: other, port: 80}}
---";
    let traffic = |namespace: &str, host: &str| {
        format!(
            "\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d, namespace: {namespace}}}\n\
             spec: {{host: {host}, trafficPolicy: {{loadBalancer: {{simple: RANDOM}}}}}}\n---"
        )
    };
    let far = traffic("other", "far");
    let cases = [
        (
            "a route: the waypoint of its parent",
            route("r", &service("one", "shop"), ""),
            vec!["route/http/shop/r/0 for a"],
        ),
        (
            "of each of them",
            route(
                "r",
                &format!("{}, {}", service("one", "shop"), service("two", "shop")),
                "",
            ),
            vec!["route/http/shop/r/0 for a+b"],
        ),
        (
            "a parent without a waypoint",
            route("r", &service("none", "shop"), ""),
            vec!["route/http/shop/r/0 for "],
        ),
        (
            "a consumer's route: the producer's waypoint",
            route("r", &service("far", "other"), ""),
            vec!["route/http/shop/r/0 for c"],
        ),
        (
            "a policy of a waypoint",
            policy("shop", gateway, ""),
            vec!["policy/shop/p for a"],
        ),
        (
            "a policy of a service: a pod of it may be one of the other's services",
            policy("shop", "{group: '', kind: Service, name: one}", ""),
            vec!["policy/shop/p for a+b"],
        ),
        (
            "a policy of a class",
            policy("istio-system", class, ""),
            vec!["policy/istio-system/p for all"],
        ),
        (
            "traffic of a service of its own",
            traffic("shop", "one"),
            vec!["traffic/shop/one for a+b"],
        ),
        (
            "traffic of a backend",
            far.clone() + GRANT + &route("r", &service("one", "shop"), to_far),
            vec!["traffic/other/far for a+c", "route/http/shop/r/0 for a"],
        ),
        (
            "an authorizer that nobody asks",
            authorizer.to_owned(),
            vec!["authorizer/istio-system/opa for "],
        ),
        (
            "an authorizer, and traffic to it",
            far + GRANT
                + authorizer
                + &policy("shop", gateway, ", action: CUSTOM, provider: {name: opa}"),
            vec![
                "policy/shop/p for a",
                "authorizer/istio-system/opa for a",
                "traffic/other/far for a+c",
            ],
        ),
    ];
    for (name, text, wanted) in cases {
        let told = index(&text).1;
        let told: Vec<&String> = told.iter().filter(|it| *it != "binding").collect();
        assert_eq!(told, wanted, "{name}");
    }
}

#[test]
fn what_a_change_tells_and_in_which_order() {
    let text = route("r", &service("one", "shop"), "")
        + GRANT
        + &route(
            "s",
            &service("two", "shop"),
            "backendRefs: [{name: far, namespace: other, port: 80}]",
        )
        + "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: other}
spec: {host: far, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: other}
spec: {targetRefs: [{group: '', kind: Service, name: far}], rules: [{}]}
";
    let mut index = index(&text).0;
    let mut after = |events: Vec<Event>| after(&mut index, events);
    let bind = |name: &str, waypoint: &str| {
        let text = documents(BOUND)
            .into_iter()
            .map(|it| it.text)
            .find(|it| it.contains(&format!("name: {name},")));
        let text = text
            .expect("a service")
            .replace("use-waypoint: b", waypoint);
        events(&text.replace("use-waypoint: c", waypoint))
    };
    assert_eq!(
        after(events(&route(
            "r",
            &service("one", "shop"),
            "matches: [{path: {value: /new}}]"
        ))),
        ["route/http/shop/r/0 for a"],
        "a changed route"
    );
    assert_eq!(
        after(bind("two", "use-waypoint: a")),
        [
            "traffic/other/far for a+b+c",
            "route/http/shop/s/0 for a+b",
            "binding",
            "binding",
            "binding",
            "route/http/shop/s/0 for a",
            "traffic/other/far for a+c",
        ],
        "a service moves: told before it is bound, taken away after it is not"
    );
    assert_eq!(
        after(bind("far", "other: label")),
        ["binding", "policy/other/p for ", "traffic/other/far for a"],
        "a service with a policy of its own leaves, in one step"
    );
    assert_eq!(
        after(vec![delete(Kind::HTTPRoute, "shop", "s")]),
        ["traffic/other/far for ", "-route/http/shop/s/0"],
        "the last that referred to a backend"
    );
    assert_eq!(
        after(events(
            "
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {istio.io/use-waypoint: d}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: d, namespace: other, labels: {istio.io/waypoint-for: all}}
spec: {gatewayClassName: ambit-waypoint, listeners: []}
"
        )),
        ["policy/other/p for d", "traffic/other/far for d", "binding"],
        "a namespace joins"
    );
}

#[test]
fn a_canary_is_told_what_its_waypoint_is_told() {
    let gateway = |name: &str| {
        format!(
            "\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: pair}}\n\
             spec: {{gatewayClassName: ambit-waypoint, listeners: []}}\n---"
        )
    };
    let bound = |more: &str, weight: &str| {
        format!(
            "\napiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: pair, labels: {{istio.io/use-waypoint: p{more}}}, \
             annotations: {{istio.io/use-waypoint-canary-weight: '{weight}'}}}}\n\
             spec: {{clusterIPs: [10.96.0.9], ports: [{{port: 80}}]}}\n---"
        )
    };
    let canary = ", istio.io/use-waypoint-canary: q";
    let rest = route("r", &service("s", "pair"), "")
        .replace("namespace: shop}", "namespace: pair}")
        + "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: pair}
spec: {targetRefs: [{group: '', kind: Service, name: s}], rules: [{}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: pair}
spec: {host: s, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
";
    let text = gateway("p") + &gateway("q") + &bound(canary, "0") + &rest;
    let (mut index, told_first) = index(&text);
    let told_first: Vec<&String> = told_first.iter().filter(|it| *it != "binding").collect();
    assert_eq!(
        told_first,
        [
            "policy/pair/a for p+q",
            "traffic/pair/s for p+q",
            "route/http/pair/r/0 for p+q",
        ]
    );
    let mut after = |text: &str| after(&mut index, events(text));
    assert_eq!(after(&bound(canary, "40")), ["binding"], "another weight");
    assert_eq!(
        after(&bound("", "40")),
        [
            "binding",
            "binding",
            "route/http/pair/r/0 for p",
            "policy/pair/a for p",
            "traffic/pair/s for p",
        ],
        "no canary: it is told after it has nothing to do with the service"
    );
    assert_eq!(
        after(&bound(canary, "40")),
        [
            "policy/pair/a for p+q",
            "traffic/pair/s for p+q",
            "route/http/pair/r/0 for p+q",
            "binding",
            "binding",
        ],
        "and before it has"
    );
}
