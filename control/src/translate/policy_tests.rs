//! AuthorizationPolicy on waypoints: targets, actions, every field, and what fails closed.

use std::sync::Arc;

use ambit_http::model::policy::PathPattern;
use ambit_http::model::{Action, Condition, Policy, Resource, TextMatch};

use crate::index::Index;
use crate::source::parse::{documents, parse};
use crate::source::{Event, Origin};
use crate::translate::Mesh;
use crate::translate::testing::{
    SERVICES, apply, conditions, index, notices, problems, resource, status,
};

const OBJECTS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: nginx, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: ambit.dev/v1alpha1
kind: ExternalAuthorizer
metadata: {name: opa, namespace: istio-system}
spec: {protocol: GRPC, backendRef: {name: web, namespace: shop, port: 80}}
";

fn of(namespace: &str, metadata: &str, spec: &str) -> Index {
    index(&format!(
        "{SERVICES}---\n{OBJECTS}---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: {namespace}{metadata}}}\nspec: {{{spec}}}\n"
    ))
}

fn policy(index: &Index, namespace: &str) -> Option<Arc<Policy>> {
    match resource(index, &format!("policy/{namespace}/p"))? {
        Resource::Policy(policy) => Some(policy),
        other => panic!("{other:?}"),
    }
}

/// A policy for Service `web`.
fn web(spec: &str) -> (Arc<Policy>, Vec<String>) {
    let index = of(
        "shop",
        "",
        &format!("targetRefs: [{{kind: Service, group: '', name: web}}], {spec}"),
    );
    let found = policy(&index, "shop").expect("a policy");
    (found, problems(&index, "AuthorizationPolicy shop/p"))
}

#[test]
fn targets() {
    let cases = [
        (
            "shop",
            "{kind: Service, group: '', name: web}",
            Some("Service(shop/web.shop.svc.cluster.local)"),
            "False/AncestorNotBound",
        ),
        (
            "shop",
            "{kind: Service, group: core, name: web}",
            Some("Service(shop/web.shop.svc.cluster.local)"),
            "False/AncestorNotBound",
        ),
        (
            "shop",
            "{kind: Service, group: '', name: gone}",
            Some("Service(shop/gone.shop.svc.cluster.local)"),
            "False/TargetNotFound",
        ),
        (
            "shop",
            "{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}",
            Some("Waypoint(shop/waypoint)"),
            "True/Accepted",
        ),
        (
            "shop",
            "{kind: Gateway, group: gateway.networking.k8s.io, name: gone}",
            Some("Waypoint(shop/gone)"),
            "False/TargetNotFound",
        ),
        (
            "shop",
            "{kind: Gateway, group: gateway.networking.k8s.io, name: edge}",
            Some("Waypoint(shop/edge)"),
            "False/Invalid",
        ),
        (
            "shop",
            "{kind: Service, group: '', name: far, namespace: other}",
            None,
            "False/Invalid",
        ),
        (
            "istio-system",
            "{kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint}",
            Some("Mesh"),
            "True/Accepted",
        ),
        (
            "shop",
            "{kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint}",
            None,
            "False/Invalid",
        ),
        (
            "istio-system",
            "{kind: GatewayClass, group: gateway.networking.k8s.io, name: nginx}",
            None,
            "False/Invalid",
        ),
        (
            "shop",
            "{kind: ServiceEntry, group: networking.istio.io, name: x}",
            None,
            "False/TargetNotFound",
        ),
        (
            "shop",
            "{kind: Deployment, group: apps, name: x}",
            None,
            "False/Invalid",
        ),
    ];
    for (namespace, target, expected, accepted) in cases {
        for spec in [
            format!("targetRefs: [{target}], rules: [{{}}]"),
            format!("targetRef: {target}, rules: [{{}}]"),
        ] {
            let index = of(namespace, "", &spec);
            let found = policy(&index, namespace).map(|p| format!("{:?}", p.targets[0]));
            assert_eq!(found.as_deref(), expected, "{spec}");
            let status =
                status(&index, &format!("AuthorizationPolicy {namespace}/p")).expect("a status");
            assert_eq!(
                conditions(&status["conditions"]),
                [format!("WaypointAccepted={accepted}")],
                "{spec}"
            );
        }
    }
}

/// Whether waypoints serve the targets, as objects come and go.
#[test]
fn a_policy_is_accepted_by_the_waypoints_of_its_targets() {
    let service = |name: &str| format!("{{kind: Service, group: '', name: {name}}}");
    let (web, v2) = (service("web"), service("web-v2"));
    let both = format!("{web}, {v2}");
    let gateway = "{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}";
    let with_gateway = format!("{web}, {gateway}");
    let label = |namespace: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{namespace}}}}}\n"
        )
    };
    let named = |name: &str, labels: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}\n\
             spec: {{clusterIPs: [10.96.0.1], ports: [{{name: http, port: 80}}]}}\n"
        )
    };
    let class = |class: &str, labels: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
             metadata: {{name: waypoint, namespace: shop, labels: {{{labels}}}}}\n\
             spec: {{gatewayClassName: {class}, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}\n"
        )
    };
    let (ours, workloads) = (
        class("ambit-waypoint", ""),
        class("ambit-waypoint", "istio.io/waypoint-for: workload"),
    );
    let theirs = class("nginx", "");
    let use_it = "istio.io/use-waypoint: waypoint";
    let (bound, unbound) = ("True/Accepted", "False/AncestorNotBound");
    let what_to_do = "Service shop/web is not bound to a waypoint: label it or its namespace istio.io/use-waypoint=NAME";
    /// What is applied, and what is said after it.
    type Step<'a> = (String, &'a str, &'a str);
    let rows: [(&str, &str, Vec<Step<'_>>); 8] = [
        (
            "the service is bound",
            &web,
            vec![
                (String::new(), unbound, what_to_do),
                (named("web", use_it), bound, ""),
                (
                    named("web", "istio.io/use-waypoint: none"),
                    unbound,
                    what_to_do,
                ),
            ],
        ),
        (
            "its namespace is",
            &web,
            vec![
                (label(use_it), bound, ""),
                (label("a: b"), unbound, what_to_do),
            ],
        ),
        (
            "the waypoint comes",
            &web,
            vec![
                (
                    named("web", "istio.io/use-waypoint: w2"),
                    unbound,
                    "Gateway shop/w2, which it names, does not exist",
                ),
                (ours.replace("name: waypoint", "name: w2"), bound, ""),
            ],
        ),
        (
            "it serves pods alone",
            &web,
            vec![
                (
                    format!("{}---\n{workloads}", label(use_it)),
                    unbound,
                    what_to_do,
                ),
                (ours.clone(), bound, ""),
            ],
        ),
        (
            "it is none",
            &web,
            vec![
                (
                    format!("{}---\n{theirs}", label(use_it)),
                    unbound,
                    "is not a waypoint",
                ),
                (ours.clone(), bound, ""),
            ],
        ),
        (
            "one of two",
            &both,
            vec![
                (
                    named("web", use_it),
                    "True/PartiallyInvalid",
                    "Service shop/web-v2 is not bound",
                ),
                (named("web-v2", use_it), bound, ""),
            ],
        ),
        (
            "a service and a waypoint",
            &with_gateway,
            vec![(String::new(), "True/PartiallyInvalid", what_to_do)],
        ),
        ("a waypoint", gateway, vec![(String::new(), bound, "")]),
    ];
    for (name, targets, steps) in rows {
        let mut index = of(
            "shop",
            "",
            &format!("targetRefs: [{targets}], rules: [{{}}]"),
        );
        for (text, expected, said) in steps {
            apply(&mut index, &text);
            let object = "AuthorizationPolicy shop/p";
            let conditions_now = &status(&index, object).expect("a status")["conditions"];
            let accepted = format!("WaypointAccepted={expected}");
            assert_eq!(conditions(conditions_now), [accepted], "{name}: {text}");
            let message = conditions_now[0]["message"].as_str().unwrap_or_default();
            assert!(message.contains(said), "{name}: {message}");
            assert_eq!(problems(&index, object), [""; 0], "{name}");
            let notices = notices(&index, object).join(" ");
            assert_eq!(notices.is_empty(), expected == bound, "{name}: {notices}");
            assert!(notices.contains(said), "{name}: {notices}");
        }
    }
}

/// Its status has the words of Istio: whether node proxies enforce it, and what to do where they cannot as written.
#[test]
fn without_targets_it_is_for_node_proxies() {
    let l7 = "rules: [{to: [{operation: {methods: [GET]}}]}]";
    for (spec, resources, wanted, said) in [
        ("rules: [{}]", 1, "True/Accepted", "node proxies enforce"),
        (
            "selector: {matchLabels: {a: b}}, rules: [{}]",
            1,
            "True/Accepted",
            "node proxies enforce",
        ),
        (
            l7,
            1,
            "True/UnsupportedValue",
            "spec.rules[0].to[0].operation.methods: only a waypoint can judge this; \
             spec.rules[0] cannot be judged on a connection and allows nothing there; \
             node proxies allow less than is written; to have it enforced",
        ),
        (
            &format!("action: DENY, {l7}"),
            1,
            "True/UnsupportedValue",
            "methods: only a waypoint can judge this; spec.rules[0] cannot be judged on a connection and denies every \
             connection; node proxies deny more than is written; to have it enforced as it is written, name a Service \
             or Gateway in spec.targetRefs: its waypoint judges requests",
        ),
        (
            "action: DENY, selector: {matchLabels: {a: b}}, \
             rules: [{from: [{source: {namespaces: [x]}}], to: [{operation: {methods: [GET]}}]}]",
            1,
            "True/UnsupportedValue",
            "denies whatever the rest of it matches; node proxies deny more than is written; to have it enforced as it is \
             written, name a Service or Gateway in spec.targetRefs: its waypoint judges requests (and take spec.selector away)",
        ),
        (
            "action: DENY, rules: [{when: [{key: 'request.headers[a]', values: [b]}]}]",
            1,
            "True/UnsupportedValue",
            "spec.rules[0].when[0].key \"request.headers[a]\": only a waypoint can judge this; spec.rules[0] cannot",
        ),
        (
            "action: AUDIT, rules: [{}]",
            0,
            "False/UnsupportedValue",
            "action AUDIT has no effect on node proxies; to have it enforced",
        ),
        (
            "action: CUSTOM, provider: {name: opa}, rules: [{}]",
            0,
            "False/UnsupportedValue",
            "action CUSTOM has no effect on node proxies; to have it enforced",
        ),
        (
            "action: PERMIT, rules: [{}]",
            1,
            "False/Invalid",
            "everything is denied",
        ),
        (
            "rules: [{to: [{operation: {ports: [many]}}]}]",
            1,
            "False/Invalid",
            "spec.rules[0].to[0].operation.ports: \"many\" is not a port, 1-65535; the rule allows nothing",
        ),
    ] {
        let index = of("shop", "", spec);
        assert_eq!(policy(&index, "shop"), None, "{spec}");
        assert_eq!(index.policies().count(), resources, "{spec}");
        let status = status(&index, "AuthorizationPolicy shop/p").expect("a status");
        let found = &status["conditions"];
        let wanted = format!("ZtunnelAccepted={wanted}");
        assert_eq!(conditions(found), [wanted], "{spec}");
        let message = found[0]["message"].as_str().unwrap_or_default();
        assert!(message.contains(said), "{spec}: {message}");
    }
    let index = of(
        "shop",
        "",
        "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: w}], rules: [{}]",
    );
    assert_eq!(index.policies().count(), 0, "and of a waypoint it is not");
}

#[test]
fn actions() {
    assert_eq!(web("rules: []").0.action, Action::Allow);
    assert_eq!(web("action: ALLOW").0.action, Action::Allow);
    assert_eq!(web("action: DENY").0.action, Action::Deny);
    assert_eq!(web("action: AUDIT").0.action, Action::Audit);
    let (custom, found) = web("action: CUSTOM, provider: {name: opa}");
    assert_eq!(
        custom.action,
        Action::Custom("istio-system/opa".parse().expect("a name"))
    );
    assert_eq!(found, [""; 0]);
    let (_, found) = web("action: CUSTOM, provider: {name: gone}");
    assert_eq!(found.len(), 1, "an unknown provider: {found:?}");
    let (nobody, found) = web("action: CUSTOM");
    assert!(matches!(&nobody.action, Action::Custom(key) if &*key.name == "-"));
    assert_eq!(found.len(), 1);
    let (unknown, found) = web("action: PERMIT, rules: [{}]");
    assert_eq!(unknown.action, Action::Deny);
    assert!(unknown.undecodable.is_some());
    assert_eq!(found.len(), 1);
    let (both, _) = web("selector: {matchLabels: {a: b}}");
    assert!(both.undecodable.is_some(), "a selector as well");
}

#[test]
fn a_dry_run_is_an_annotation() {
    for (value, expected) in [("'true'", true), ("'false'", false)] {
        let annotation = format!(", annotations: {{istio.io/dry-run: {value}}}");
        let index = of(
            "shop",
            &annotation,
            "targetRefs: [{kind: Service, group: '', name: web}]",
        );
        assert_eq!(policy(&index, "shop").map(|p| p.dry_run), Some(expected));
    }
}

#[test]
fn every_field_of_a_rule() {
    let fields = [
        "from: [{source: {principals: [td/ns/a/sa/b], notPrincipals: ['*/sa/x']}}]",
        "from: [{source: {requestPrincipals: ['*'], notRequestPrincipals: [iss/sub]}}]",
        "from: [{source: {namespaces: [a], notNamespaces: ['b*']}}]",
        "from: [{source: {serviceAccounts: [a/b, c], notServiceAccounts: [d]}}]",
        "from: [{source: {ipBlocks: [10.0.0.0/8], notIpBlocks: [10.0.0.1]}}]",
        "from: [{source: {remoteIpBlocks: [10.0.0.0/8], notRemoteIpBlocks: [10.0.0.1]}}]",
        "to: [{operation: {hosts: [A.example.com., '*.b'], notHosts: [c]}}]",
        "to: [{operation: {ports: ['80'], notPorts: ['81']}}]",
        "to: [{operation: {methods: [GET], notMethods: [PUT]}}]",
        "to: [{operation: {paths: [/a, /b*, '*.png', '/x/{*}/y/{**}'], notPaths: ['*']}}]",
        "when: [{key: 'request.headers[X-A]', values: [a], notValues: [b]}]",
        "when: [{key: source.ip, values: [10.0.0.1], notValues: [10.0.0.2]}]",
        "when: [{key: remote.ip, values: [10.0.0.1]}]",
        "when: [{key: source.namespace, values: [a]}]",
        "when: [{key: source.principal, values: [a]}]",
        "when: [{key: source.serviceAccount, values: [a/b]}]",
        "when: [{key: request.auth.principal, values: [a]}]",
        "when: [{key: request.auth.audiences, values: [a]}]",
        "when: [{key: request.auth.presenter, values: [a]}]",
        "when: [{key: 'request.auth.claims[realm][roles]', values: [a]}]",
        "when: [{key: destination.ip, values: [10.0.0.1]}]",
        "when: [{key: destination.port, values: ['80']}]",
        "when: [{key: connection.sni, values: [a]}]",
    ];
    let mut shown = String::new();
    for field in fields {
        let (policy, problems) = web(&format!("rules: [{{{field}}}]"));
        assert_eq!(problems, [""; 0], "{field}");
        let rule = serde_json::to_string(&policy.rules[0]).expect("a rule");
        shown.push_str(&format!("{field}\n  {rule}\n"));
    }
    insta::assert_snapshot!("fields", shown);
}

#[test]
fn paths_are_compared_as_requests_have_them() {
    let (policy, problems) = web("rules: [{to: [{operation: {paths: ['/{a}|*']}}]}]");
    assert_eq!(problems, [""; 0]);
    let paths = &policy.rules[0].to[0].paths.any;
    let escaped = TextMatch::Prefix("/%7Ba%7D%7C".into());
    assert_eq!(*paths, [PathPattern::Text(escaped)]);
}

#[test]
fn a_wrong_value_never_widens_access() {
    let wrong = [
        "from: [{source: {principals: ['spiffe://td/ns/a/sa/b']}}]",
        "from: [{source: {namespaces: ['a*b']}}]",
        "from: [{source: {serviceAccounts: [a/b/c]}}]",
        "from: [{source: {ipBlocks: [10.0.0.0/33]}}]",
        "from: [{source: {}}]",
        "to: [{operation: {hosts: ['a:80']}}]",
        "to: [{operation: {ports: [http]}}]",
        "to: [{operation: {methods: ['']}}]",
        "to: [{operation: {paths: ['/a/{**}/b']}}]",
        "to: [{operation: {paths: ['/a{*}']}}]",
        "to: [{operation: {}}]",
        "when: [{key: source.ip, values: [here]}]",
        "when: [{key: source.ip}]",
        "when: [{key: source.colour, values: [red]}]",
        "when: [{key: 'request.headers[]', values: [a]}]",
        "when: [{key: 'request.headers[a][b]', values: [a]}]",
        "when: [{key: 'request.auth.claims[a]b', values: [a]}]",
    ];
    for field in wrong {
        let (allow, problems) = web(&format!("action: ALLOW, rules: [{{{field}}}, {{}}]"));
        assert_eq!(allow.rules.len(), 1, "{field}: the rule allows nothing");
        assert_eq!(problems.len(), 1, "{field}: {problems:?}");
        for action in ["DENY", "AUDIT", "CUSTOM, provider: {name: opa}"] {
            let (other, problems) = web(&format!("action: {action}, rules: [{{{field}}}]"));
            let rule = &other.rules[0];
            let wide = rule.from.iter().all(|s| *s == Default::default())
                && rule.to.iter().all(|o| *o == Default::default())
                && rule.when.iter().all(holds_for_all);
            assert!(wide, "{action} {field}: {rule:?}");
            assert_eq!(problems.len(), 1, "{action} {field}");
        }
    }
}

fn holds_for_all(condition: &Condition) -> bool {
    match condition {
        Condition::SourceIp(values) => values.is_empty(),
        Condition::Unknown(_) => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn principals_are_written_out_under_every_name_of_the_trust_domain() {
    let mut index = Index::new(Mesh::renamed("new", "old"));
    let rules = "[{from: [{source: {principals: [old/ns/a/sa/b], notPrincipals: [new/ns/*]}}], \
                 when: [{key: source.principal, values: [cluster.local/ns/a/sa/b]}]}]";
    apply(
        &mut index,
        &format!(
            "{SERVICES}---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: p, namespace: shop}}\n\
             spec: {{targetRefs: [{{kind: Service, group: '', name: web}}], rules: {rules}}}\n"
        ),
    );
    let found = policy(&index, "shop").expect("a policy");
    let exact = |text: &str| TextMatch::Exact(text.into());
    let of = |name: &str| exact(&format!("{name}/ns/a/sa/b"));
    let principals = &found.rules[0].from[0].principals;
    assert_eq!(principals.any, ["old", "new"].map(of));
    let prefix = |text: &str| TextMatch::Prefix(text.into());
    assert_eq!(principals.none, ["new/ns/", "old/ns/"].map(prefix));
    let [Condition::SourcePrincipal(when)] = &found.rules[0].when[..] else {
        panic!("{found:?}");
    };
    assert_eq!(when.any, ["cluster.local", "new", "old"].map(of));
}

/// What stands for a policy that cannot be read does not say that all is well.
#[test]
fn what_cannot_be_read_is_not_accepted() {
    let target = "targetRefs: [{kind: Service, group: '', name: web}], ";
    for (targets, condition) in [("", "ZtunnelAccepted"), (target, "WaypointAccepted")] {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop, generation: 7}}\n\
             spec: {{{targets}rules: [{{form: []}}]}}\n"
        );
        let parsed = parse(&documents(&text)[0]);
        assert_eq!(parsed.errors.len(), 1, "{text}");
        let mut index = index(SERVICES);
        let instead = parsed.instead.into_iter();
        index.apply(instead.map(|it| Event::Apply(it, Origin::default())));
        let status = status(&index, "AuthorizationPolicy shop/p").expect("a status");
        let found = &status["conditions"];
        assert_eq!(conditions(found), [format!("{condition}=False/Unreadable")]);
        assert_eq!(found[0]["observedGeneration"], 7);
        let message = found[0]["message"].as_str().unwrap_or_default();
        let why = "cannot be read: spec.rules[0].form: unknown field `form`, expected one of `from`, `to`, `when`; until";
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn a_wrong_value_is_told_with_its_field() {
    for (field, said) in [
        (
            "from: [{source: {notIpBlocks: [10.0.0.0/33]}}]",
            "spec.rules[0].from[0].source.notIpBlocks: \"10.0.0.0/33\" is not an IP address or range",
        ),
        (
            "to: [{operation: {ports: ['80', http]}}]",
            "spec.rules[0].to[0].operation.ports: \"http\" is not a port, 1-65535",
        ),
        (
            "when: [{key: source.ip, notValues: [here]}]",
            "spec.rules[0].when[0].notValues: \"here\" is not an IP address",
        ),
        (
            "when: [{key: source.colour, values: [red]}]",
            "spec.rules[0].when[0].key: \"source.colour\" is no attribute: write source.ip, ",
        ),
        (
            "to: [{operation: {}}]",
            "spec.rules[0].to[0].operation says nothing",
        ),
    ] {
        let (_, at_waypoints) = web(&format!("action: DENY, rules: [{{{field}}}]"));
        let at_nodes = of("shop", "", &format!("action: DENY, rules: [{{{field}}}]"));
        let at_nodes = problems(&at_nodes, "AuthorizationPolicy shop/p");
        for problems in [at_waypoints, at_nodes] {
            assert!(problems[0].starts_with(said), "{field}: {problems:?}");
        }
    }
}
