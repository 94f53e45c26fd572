//! Which canary a service has, what is wrong with one, and what is told of it.

use super::*;
use crate::index::Index;
use crate::translate::testing::{apply, conditions, index, notices, problems, status};

/// Gateways `w` and `c` of `infra` for all, `own` for its own namespace alone, `pods` for workloads.
fn gateways() -> String {
    let gateway = |name: &str, labels: &str, from: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: infra, labels: {{{labels}}}}}\nspec: {{gatewayClassName: ambit-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {{namespaces: {{from: {from}}}}}}}]}}\n---\n"
        )
    };
    gateway("w", "", "All")
        + &gateway("c", "", "All")
        + &gateway("own", "", "Same")
        + &gateway("pods", "istio.io/waypoint-for: workload", "All")
}

const W: &str = "istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: infra";

fn canary(name: &str) -> String {
    format!("istio.io/use-waypoint-canary: {name}, istio.io/use-waypoint-canary-namespace: infra")
}

fn weight(text: &str) -> String {
    format!("istio.io/use-waypoint-canary-weight: '{text}'")
}

/// Labels and annotations of a namespace and of its service.
fn objects(namespace: (&str, &str), service: (&str, &str)) -> String {
    let metadata = |(labels, annotations): (&str, &str)| {
        format!("labels: {{{labels}}}, annotations: {{{annotations}}}")
    };
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, {}}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop, {}}}\nspec: {{clusterIPs: [10.96.0.1], ports: [{{port: 80}}]}}\n",
        metadata(namespace),
        metadata(service)
    )
}

/// `WAYPOINT=WEIGHT` of a service's waypoints, and before it what it is bound to.
fn shares(index: &Index) -> String {
    let mut services = index.services();
    let service = services.find(|it| &*it.name == "web").expect("the service");
    let name = |waypoint: &GatewayAddress| match &waypoint.destination {
        ambit_core::model::Destination::Hostname(key) => {
            key.name.split('.').next().unwrap_or_default().to_owned()
        }
        other => panic!("{other:?}"),
    };
    let weighted = service.weighted_waypoints.iter();
    let weighted = weighted.map(|it| format!(" {}={}", name(&it.waypoint), it.weight));
    let bound = service.waypoint.as_ref().map_or("-".to_owned(), name);
    bound + &weighted.collect::<String>()
}

#[test]
fn labels_say_which_canary_and_an_annotation_its_share() {
    let both = format!("{W}, {}", canary("c"));
    let c = canary("c");
    let gone = "ambit.dev/WaypointCanaryBound=False/WaypointMissing";
    let invalid = "ambit.dev/WaypointCanaryBound=False/InvalidWeight";
    let fine = "ambit.dev/WaypointCanaryBound=True/WaypointAccepted";
    let (none, five) = (("", ""), weight("5"));
    let cases = [
        ("no canary", none, (W, ""), "w", None),
        ("no weight", none, (&*both, ""), "w w=100 c=0", Some(fine)),
        ("a weight", none, (&both, &five), "w w=95 c=5", Some(fine)),
        (
            "nothing",
            none,
            (&both, &weight("0")),
            "w w=100 c=0",
            Some(fine),
        ),
        (
            "all",
            none,
            (&both, &weight("100")),
            "w w=0 c=100",
            Some(fine),
        ),
        (
            "too much",
            none,
            (&both, &weight("101")),
            "w w=100 c=0",
            Some(invalid),
        ),
        (
            "less than nothing",
            none,
            (&both, &weight("-1")),
            "w w=100 c=0",
            Some(invalid),
        ),
        (
            "a part",
            none,
            (&both, &weight("2.5")),
            "w w=100 c=0",
            Some(invalid),
        ),
        (
            "a percentage",
            none,
            (&both, &weight("5%")),
            "w w=100 c=0",
            Some(invalid),
        ),
        (
            "no number",
            none,
            (&both, &weight("")),
            "w w=100 c=0",
            Some(invalid),
        ),
        ("the weight of no canary", none, (W, &five), "w", None),
        (
            "none",
            none,
            (&format!("{W}, {}", canary("none")), &five),
            "w",
            None,
        ),
        (
            "no name",
            none,
            (&format!("{W}, {}", canary("''")), &five),
            "w",
            None,
        ),
        (
            "no such Gateway",
            none,
            (&format!("{W}, {}", canary("gone")), &five),
            "w",
            Some(gone),
        ),
        (
            "in the service's own namespace, where it is not",
            none,
            (&format!("{W}, istio.io/use-waypoint-canary: c"), &five),
            "w",
            Some(gone),
        ),
        (
            "of another namespace alone",
            none,
            (&format!("{W}, {}", canary("own")), &five),
            "w",
            Some("ambit.dev/WaypointCanaryBound=False/WaypointNotAllowed"),
        ),
        (
            "of workloads",
            none,
            (&format!("{W}, {}", canary("pods")), &five),
            "w",
            Some("ambit.dev/WaypointCanaryBound=False/UnsupportedTrafficType"),
        ),
        (
            "the waypoint itself",
            none,
            (&format!("{W}, {}", canary("w")), &five),
            "w",
            Some("ambit.dev/WaypointCanaryBound=False/CanaryIsWaypoint"),
        ),
        (
            "without a waypoint",
            none,
            (&c, &five),
            "-",
            Some("ambit.dev/WaypointCanaryBound=False/NoWaypoint"),
        ),
        (
            "of the namespace",
            (&both, &five),
            none,
            "w w=95 c=5",
            Some(fine),
        ),
        (
            "of the namespace, with its own weight",
            (&both, &five),
            ("", &weight("6")),
            "w w=94 c=6",
            Some(fine),
        ),
        (
            "its own, of the namespace's waypoint",
            (W, ""),
            (&c, &five),
            "w w=95 c=5",
            Some(fine),
        ),
        ("its own waypoint alone", (&both, &five), (W, ""), "w", None),
        (
            "its own waypoint, and its own weight",
            (&both, ""),
            (W, &five),
            "w",
            None,
        ),
        (
            "no waypoint, in a namespace that has one",
            (&both, &five),
            ("istio.io/use-waypoint: none", ""),
            "-",
            None,
        ),
        (
            "a gateway's own service",
            (&both, &five),
            ("gateway.networking.k8s.io/gateway-name: web", ""),
            "-",
            None,
        ),
    ];
    for (case, namespace, service, expected, condition) in cases {
        let index = index(&(gateways() + &objects(namespace, service)));
        assert_eq!(shares(&index), expected, "{case}");
        let status = status(&index, "Service shop/web").unwrap_or_default();
        let found = conditions(&status["conditions"]);
        let found = found.iter().find(|it| it.starts_with("ambit.dev/"));
        assert_eq!(found.map(String::as_str), condition, "{case}");
        let told = notices(&index, "Service shop/web");
        let wrong = condition.is_some_and(|it| it.contains("False"));
        assert_eq!(told.len(), usize::from(wrong), "{case}: {told:?}");
        assert_eq!(problems(&index, "Service shop/web"), [""; 0], "{case}");
    }
}

#[test]
fn a_service_entry_has_one_too() {
    let entry = |weight: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: web, namespace: shop, labels: {{{W}, {}}}, annotations: {{{weight}}}}}\n\
             spec: {{hosts: [web.example.com], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{{address: 192.0.2.1}}]}}\n",
            canary("c")
        )
    };
    let mut index = index(&(gateways() + &entry(&weight("40"))));
    assert_eq!(shares(&index), "w w=60 c=40");
    assert_eq!(notices(&index, "ServiceEntry shop/web"), [""; 0]);
    apply(&mut index, &entry(&weight("forty")));
    assert_eq!(shares(&index), "w w=100 c=0");
    let told = notices(&index, "ServiceEntry shop/web");
    assert_eq!(
        told,
        [
            "annotation istio.io/use-waypoint-canary-weight of canary infra/c is \"forty\", and not an integer from 0 to 100; \
          all new connections take the waypoint of the label istio.io/use-waypoint"
        ]
    );
}

#[test]
fn statuses_name_both() {
    let bound = format!("{W}, {}", canary("c"));
    let index = index(&(gateways() + &objects(("", ""), (&bound, &weight("30")))));
    let status = status(&index, "Service shop/web").expect("a status");
    let said = |at: usize| status["conditions"][at]["message"].as_str();
    assert_eq!(
        said(0),
        Some("bound to waypoint infra/w; canary infra/c takes 30 % of new connections")
    );
    assert_eq!(
        said(1),
        Some("canary infra/c takes 30 % of new connections")
    );
}

#[test]
fn it_follows_every_object_that_it_depends_on() {
    let bound = format!("{W}, {}", canary("late"));
    let mut index = index(&(gateways() + &objects((&bound, &weight("30")), ("", ""))));
    assert_eq!(shares(&index), "w");
    let late = gateways().replace("name: c,", "name: late,");
    apply(&mut index, &late);
    assert_eq!(shares(&index), "w w=70 late=30");
    assert_eq!(notices(&index, "Service shop/web"), [""; 0]);
    let only_the_namespace = |weight: &str| {
        let all = objects((&bound, weight), ("", ""));
        all.split("---").next().expect("the namespace").to_owned()
    };
    apply(&mut index, &only_the_namespace(&weight("60")));
    assert_eq!(shares(&index), "w w=40 late=60");
    apply(&mut index, &late.replace("from: All", "from: Same"));
    assert_eq!(shares(&index), "w", "a name that nobody has");
    assert_eq!(notices(&index, "Service shop/web").len(), 1);
}
