//! Changes one by one, and that they lead to the same as all at once.

use super::*;
use crate::translate::view::Outcome;

#[test]
fn one_change_is_one_resource() {
    let mut index = base();
    let ready = BASE.replacen("status: 'True'", "status: 'False'", 1);
    assert_eq!(
        names(&index.apply(events(&ready))),
        ["+Kubernetes//Pod/shop/web-abc-1"]
    );
    assert_eq!(names(&index.apply(events(&ready))), [""; 0], "nothing new");
    let annotated = ready.replacen(
        "name: web, namespace: shop",
        "name: web, namespace: shop, annotations: {a: b}",
        1,
    );
    assert_eq!(
        names(&index.apply(events(&annotated))),
        [""; 0],
        "nothing the mesh reads"
    );
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {}\n";
    assert_eq!(names(&index.apply(events(policy))), ["+policy shop/p"]);
    let selecting = policy.replace("{}", "{selector: {matchLabels: {app: web}}}");
    assert_eq!(
        names(&index.apply(events(&selecting))),
        ["+policy shop/p", "+Kubernetes//Pod/shop/web-abc-1"]
    );
    assert_eq!(
        names(&index.apply(delete(Kind::AuthorizationPolicy, "shop", "p"))),
        ["+Kubernetes//Pod/shop/web-abc-1", "-policy shop/p"]
    );
    assert_eq!(
        names(&index.apply(delete(Kind::Pod, "shop", "web-abc-1"))),
        ["-Kubernetes//Pod/shop/web-abc-1"]
    );
}

const FOR_WAYPOINTS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: w, namespace: shop}
spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: w, namespace: shop, labels: {istio.io/waypoint-for: none}}
spec: {gatewayClassName: nginx, listeners: []}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: web}, {name: w}], rules: [{filters: [{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: RateLimit, name: l}}], backendRefs: [{name: web, port: 80}, {name: far, namespace: other, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: web, port: 80}], rules: [{backendRefs: [{name: db, port: 5432}]}, {}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other}
spec: {clusterIPs: [10.96.7.7], ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: '', kind: Service}]}
---
apiVersion: ambit.dev/v1alpha1
kind: RateLimit
metadata: {name: l, namespace: shop}
spec: {requests: 10}
---
apiVersion: ambit.dev/v1alpha1
kind: ExternalAuthorizer
metadata: {name: opa, namespace: istio-system}
spec: {protocol: GRPC, backendRef: {name: far, namespace: other, port: 80}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: w}], action: CUSTOM, provider: {name: opa}, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: j, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: web}], jwtRules: [{issuer: i, jwksUri: http://far.other/keys}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: shop}
spec: {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: istio-system}
spec: {host: web.shop, trafficPolicy: {portLevelSettings: [{port: {number: 80}}]}}
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: x, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: web}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: t, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: web}], validation: {hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ca, namespace: shop}
data: {ca.crt: x}
---
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {topology.istio.io/network: east}}
---
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: home}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: e, namespace: shop, labels: {topology.istio.io/network: east}}
spec: {gatewayClassName: ambit-east-west, addresses: [{value: 192.0.2.9}], listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: w, namespace: shop, labels: {topology.istio.io/network: east}}
spec: {gatewayClassName: istio-east-west, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
";

/// Documents that get in each other's way; a step applies or deletes one of them.
fn pool() -> Vec<Object> {
    let mut text = format!("{BASE}---\n{SLICE}---\n{}---\n", gateway("all"));
    for variant in [
        BASE.replace("ambient", "none")
            .replace("zone: z", "zone: y")
            .replace("selector: {app: web}", "publishNotReadyAddresses: true")
            .replace("app: web, pod", "app: other, pod"),
        BASE.replace(
            "istio.io/dataplane-mode: ambient",
            "istio.io/use-waypoint: w",
        )
        .replace("nodeName: node-1", "nodeName: node-2")
        .replace("phase: Running", "phase: Failed"),
        SLICE
            .replace("192.0.2.1", "192.0.2.3")
            .replace("service-name: db", "service-name: web"),
        SLICE.replace("ports: [{name: sql, port: 5432}]", "selector: {app: other}"),
        gateway("workload"),
    ] {
        text.push_str(&variant);
        text.push_str("\n---\n");
    }
    text.push_str(FOR_WAYPOINTS);
    // Attached to a Service that waypoints come and go for.
    text.push_str(&format!("{}\n---\n", targeted("action: DENY, rules: [{}]")));
    let labelled = "name: web, namespace: shop, labels: {istio.io/use-waypoint: w}}";
    let bound = BASE.replace("name: web, namespace: shop}", labelled);
    text.push_str(&format!("{bound}\n---\n"));
    // And one with a canary that comes and goes, of its own or its namespace's.
    let canary = "istio.io/use-waypoint: w, istio.io/use-waypoint-canary: c";
    let weight = "annotations: {istio.io/use-waypoint-canary-weight: '30'}";
    for (of, labelled) in [
        (
            "name: web, namespace: shop}",
            format!("name: web, namespace: shop, labels: {{{canary}}}, {weight}}}"),
        ),
        (
            "labels: {istio.io/dataplane-mode: ambient}}",
            format!("labels: {{{canary}}}, {weight}}}"),
        ),
    ] {
        assert!(BASE.contains(of));
        text.push_str(&format!("{}\n---\n", BASE.replace(of, &labelled)));
    }
    text.push_str(&gateway("all").replace("name: w", "name: c"));
    text.push_str("\n---\n");
    for (namespace, selector) in [
        ("shop", "{app: web}"),
        ("shop", "{}"),
        ("istio-system", "{app: web}"),
        ("istio-system", "{}"),
    ] {
        for (kind, body) in [
            ("AuthorizationPolicy", ""),
            ("PeerAuthentication", ", mtls: {mode: STRICT}"),
            (
                "PeerAuthentication",
                ", portLevelMtls: {80: {mode: STRICT}}",
            ),
            ("PeerAuthentication", ", mtls: {mode: PERMISSIVE}"),
        ] {
            let name = if selector == "{}" { "wide" } else { "p" };
            text.push_str(&format!("apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{selector: {{matchLabels: {selector}}}{body}}}\n---\n"));
        }
    }
    objects(&text)
}

fn advance(index: &mut Index) -> Vec<Change> {
    let services: Vec<_> = index.steps().map(|step| step.service).collect();
    index.advance(&services)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn step_by_step_leads_to_the_same_as_all_at_once(steps in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.7), any::<bool>()), 1..60)) {
        let pool = pool();
        let mut stepwise = Index::new(Mesh::default());
        let mut present: BTreeMap<Key, Object> = BTreeMap::new();
        let mut mirror: BTreeMap<String, Change> = BTreeMap::new();
        let mut tell = |changes: Vec<Change>| {
            for change in changes {
                let name = names(std::slice::from_ref(&change)).remove(0);
                let (sign, name) = name.split_at(1);
                if sign == "+" {
                    mirror.insert(name.to_owned(), change);
                } else {
                    prop_assert!(mirror.remove(name).is_some(), "{name} was not there");
                }
            }
            Ok(())
        };
        for (which, apply, all_know) in steps {
            let object = which.get(&pool).clone();
            let key = object.key();
            let event = if apply {
                present.insert(key, object.clone());
                Event::Apply(object, Origin::default())
            } else {
                present.remove(&key);
                Event::Delete(key)
            };
            tell(stepwise.apply([event]))?;
            if all_know {
                tell(advance(&mut stepwise))?;
            }
        }
        tell(stepwise.advance_all())?;
        let mut at_once = Index::new(Mesh::default());
        let all = at_once.apply(present.into_values().map(|o| Event::Apply(o, Origin::default())));
        prop_assert_eq!(&stepwise.workloads, &at_once.workloads);
        prop_assert_eq!(&stepwise.services, &at_once.services);
        prop_assert_eq!(&stepwise.policies, &at_once.policies);
        prop_assert_eq!(&stepwise.reports, &at_once.reports);
        let outcomes = |index: &Index| -> BTreeMap<Key, Outcome> {
            let all = index.attached.outcomes();
            let said = all.filter(|(_, outcome)| **outcome != Outcome::default());
            said.map(|(key, outcome)| (key.clone(), outcome.clone())).collect()
        };
        prop_assert_eq!(outcomes(&stepwise), outcomes(&at_once));
        let count = at_once.workloads.len()
            + at_once.services.len()
            + at_once.policies.len()
            + at_once.for_waypoints().count();
        prop_assert_eq!(mirror.len(), count, "changes tell the same story");
        let named = |it: Change| (names(std::slice::from_ref(&it)).remove(0).split_off(1), it);
        let all: BTreeMap<String, Change> = all.into_iter().map(named).collect();
        prop_assert_eq!(mirror, all, "and of whom it concerns");
    }
}

#[test]
fn policies_come_before_routes_and_go_after_them() {
    let mut index = Index::new(Mesh::default());
    let text = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: w}}
spec: {clusterIPs: [10.96.0.1], ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: web}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: web}], rules: [{}]}
";
    let service = "+shop/web.shop.svc.cluster.local";
    assert_eq!(
        names(&index.apply(events(text))),
        ["+policy/shop/p", "+route/http/shop/r/0", service]
    );
    let gone = [
        delete(Kind::AuthorizationPolicy, "shop", "p"),
        delete(Kind::HTTPRoute, "shop", "r"),
    ];
    assert_eq!(
        names(&index.apply(gone.into_iter().flatten())),
        ["-route/http/shop/r/0", "-policy/shop/p"]
    );
}

#[test]
fn one_route_of_many_is_one_change() {
    let mut index = Index::new(Mesh::default());
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIPs: [10.96.0.1], ports: [{port: 80}]}\n";
    index.apply(events(service));
    let route = |number: usize, path: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{number}, namespace: shop}}\nspec: {{parentRefs: [{{group: '', kind: Service, name: web}}], rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: web, port: 80}}]}}]}}\n"
        )
    };
    let all: String = (0..500).map(|number| route(number, "/a")).collect();
    assert_eq!(index.apply(events(&all)).len(), 500);
    assert_eq!(
        names(&index.apply(events(&route(7, "/b")))),
        ["+route/http/shop/r7/0"]
    );
    assert_eq!(names(&index.apply(events(&route(7, "/b")))), [""; 0]);
}
