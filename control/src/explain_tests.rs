//! Questions, and who decides them.

use super::*;
use crate::translate::testing::{apply, index};

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: w}}
spec: {clusterIPs: [10.96.0.1], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}, annotations: {ambient.istio.io/redirection: enabled}}
spec: {serviceAccountName: web, containers: []}
status: {podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a-1, namespace: shop, annotations: {ambient.istio.io/redirection: enabled}}
spec: {serviceAccountName: a, containers: []}
status: {podIP: 10.0.0.2, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: w, namespace: shop}
spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{matches: [{path: {value: /old}}], filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301}}]}, {matches: [{path: {value: /read}}], backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: web}], rules: [{from: [{source: {serviceAccounts: [a]}}], to: [{operation: {methods: [GET]}}]}]}
";

const INSTANCE: &str = "---
apiVersion: v1
kind: Service
metadata: {name: w, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: w}}
spec: {clusterIPs: [10.96.0.9], selector: {gateway: w}, ports: [{port: 15008}]}
---
apiVersion: v1
kind: Pod
metadata: {name: w-1, namespace: shop, labels: {gateway: w, networking.istio.io/tunnel: http}}
spec: {serviceAccountName: w, containers: []}
status: {podIP: 10.0.0.9, conditions: [{type: Ready, status: 'True'}]}
";

impl Explanation {
    /// Fails unless this is the decision, and all of this is said.
    pub(super) fn is(&self, case: &str, decision: Decision, says: &[&str]) {
        assert_eq!(self.decision, decision, "{case}: {self}");
        let said = self.to_string();
        for text in says {
            assert!(said.contains(text), "{case}: {text}: {said}");
        }
    }
}

fn ask(objects: &str, from: &str, method: Method, path: &str) -> Explanation {
    let question = Question {
        from: from.parse().expect("a caller"),
        to: "shop/web".parse().expect("a service"),
        port: 80,
        method,
        path: path.to_owned(),
        headers: HeaderMap::new(),
    };
    explain(&index(objects), &question).expect("an answer")
}

/// The same in a mesh that was called otherwise when the policies were written.
#[test]
fn a_caller_is_denied_by_whatever_name_of_the_trust_domain() {
    let question = Question {
        from: "shop/a".parse().expect("a caller"),
        to: "shop/web".parse().expect("a service"),
        port: 80,
        method: Method::GET,
        path: "/read".to_owned(),
        headers: HeaderMap::new(),
    };
    let service = "targetRefs: [{group: '', kind: Service, name: web}], ";
    for (name, decision) in [
        ("old", Decision::Refused),
        ("new", Decision::Refused),
        ("cluster.local", Decision::Refused),
        ("other", Decision::Passes),
    ] {
        for (at, target) in [("waypoint", service), ("node proxy of the endpoint", "")] {
            let mut index = Index::new(crate::translate::Mesh::renamed("new", "old"));
            let denied = format!(
                "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                 metadata: {{name: d, namespace: shop}}\nspec: {{{target}action: DENY, \
                 rules: [{{from: [{{source: {{principals: [{name}/ns/shop/sa/a]}}}}]}}]}}\n"
            );
            apply(&mut index, &format!("{MESH}{INSTANCE}{denied}"));
            let answer = explain(&index, &question).expect("an answer");
            assert_eq!(answer.decision, decision, "{name} at {at}: {answer}");
            let last = answer.steps.last().map(|step| step.at.as_str());
            assert!(
                decision == Decision::Passes || last.is_some_and(|last| last.starts_with(at)),
                "{name} at {at}: {answer}"
            );
        }
    }
}

#[test]
fn every_decision_names_who_decided() {
    let all = format!("{MESH}{INSTANCE}");
    let node = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: n, namespace: shop}\nspec: {action: DENY, rules: [{from: [{source: {serviceAccounts: [a]}}]}]}\n";
    let denied_at_node = format!("{all}{node}");
    let cases = [
        (
            "allowed",
            &all,
            "shop/a",
            Method::GET,
            "/read",
            true,
            "rule http/shop/r/1: to shop/web.shop.svc.cluster.local port 80",
        ),
        (
            "another method",
            &all,
            "shop/a",
            Method::POST,
            "/read",
            false,
            "shop/p",
        ),
        (
            "another caller",
            &all,
            "shop/b",
            Method::GET,
            "/read",
            false,
            "shop/p",
        ),
        (
            "no rule",
            &all,
            "shop/a",
            Method::GET,
            "/admin",
            false,
            "404",
        ),
        (
            "a redirect",
            &all,
            "shop/a",
            Method::GET,
            "/old",
            false,
            "rule http/shop/r/0: 301",
        ),
        (
            "a path nobody can mean",
            &all,
            "shop/a",
            Method::GET,
            "/a%2f..%2fb",
            false,
            "400",
        ),
        (
            "no waypoint instance",
            &MESH.to_owned(),
            "shop/a",
            Method::GET,
            "/read",
            false,
            "bound to waypoint",
        ),
        (
            "the endpoint's own policy",
            &denied_at_node,
            "shop/a",
            Method::GET,
            "/read",
            false,
            "shop/n",
        ),
    ];
    for (case, objects, from, method, path, passes, says) in cases {
        let answer = ask(objects, from, method, path);
        assert_eq!(
            answer.decision == Decision::Passes,
            passes,
            "{case}: {answer}"
        );
        assert!(answer.to_string().contains(says), "{case}: {answer}");
    }
}

#[test]
fn a_question_about_nothing_is_an_error() {
    let question = Question {
        from: "shop/a".parse().expect("a caller"),
        to: "shop/gone".parse().expect("a service"),
        port: 80,
        method: Method::GET,
        path: "/".to_owned(),
        headers: HeaderMap::new(),
    };
    let error = explain(&index(MESH), &question).expect_err("no such service");
    assert_eq!(error, "Service shop/gone does not exist");
}

#[test]
fn what_could_not_be_asked_is_no_yes() {
    let bare = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n";
    let answer = ask(bare, "shop/a", Method::GET, "/");
    assert_eq!(answer.decision, Decision::Undecided, "{answer}");
    assert!(
        answer
            .to_string()
            .ends_with("Undecided: not every proxy on the way could be asked.\n")
    );
    let all = format!("{MESH}{INSTANCE}");
    for method in [Method::GET, Method::POST] {
        assert_ne!(
            ask(&all, "shop/a", method, "/read").decision,
            Decision::Undecided
        );
    }
}

#[test]
fn an_endpoint_that_is_a_host_is_named() {
    let host = "---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: far, namespace: shop, labels: {app: far}}
spec: {address: db.example.com, ports: {http: 8443}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.2], selector: {app: far}, ports: [{name: http, port: 80}]}
";
    let a = "---
apiVersion: v1
kind: Pod
metadata: {name: a-1, namespace: shop, annotations: {ambient.istio.io/redirection: enabled}}
spec: {serviceAccountName: a, containers: []}
status: {podIP: 10.0.0.2, conditions: [{type: Ready, status: 'True'}]}
";
    let answer = ask(&(host.to_owned() + a), "shop/a", Method::GET, "/");
    let said = answer.to_string();
    assert!(
        said.contains("as plain TCP to db.example.com:8443 shop/far, which is not captured"),
        "{said}"
    );
}

#[test]
fn a_canary_is_asked_as_well_and_may_decide_otherwise() {
    let canary = "use-waypoint: w, istio.io/use-waypoint-canary: c}, annotations: {istio.io/use-waypoint-canary-weight: '30'}}";
    let shared = MESH.replace("use-waypoint: w}}", canary);
    let gateway = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: c, namespace: shop}\n\
                   spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n";
    let instance = INSTANCE
        .replace("name: w", "name: c")
        .replace("gateway: w", "gateway: c")
        .replace("gateway-name: w", "gateway-name: c")
        .replace("10.0.0.9", "10.0.0.8")
        .replace("10.96.0.9", "10.96.0.8");
    let all = format!("{shared}{INSTANCE}{gateway}{instance}");
    let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: d, namespace: shop}\n\
                spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: c}], action: DENY, rules: [{}]}\n";
    let without = format!("{shared}{INSTANCE}{gateway}");
    let nobody = format!("{all}{}", deny.replace("name: c}", "name: w}"));
    for (case, objects, decision, says) in [
        (
            "both pass",
            all.clone(),
            Decision::Passes,
            &[
                "70 % of new connections",
                "shop/w-1",
                "30 % of new connections",
                "shop/c-1",
            ][..],
        ),
        (
            "the canary denies",
            format!("{all}{deny}"),
            Decision::Depends,
            &["waypoint shop/c", "shop/d", "It depends on the waypoint"],
        ),
        (
            "both deny",
            format!("{nobody}{}", deny.replace("name: d,", "name: e,")),
            Decision::Refused,
            &["The request is refused."],
        ),
        (
            "without an instance of its own the waypoint has its share",
            without,
            Decision::Passes,
            &[
                "30 % of new connections      are for waypoint shop/c",
                "shop/w-1",
            ],
        ),
    ] {
        ask(&objects, "shop/a", Method::GET, "/read").is(case, decision, says);
    }
}

#[test]
fn every_backend_of_a_rule_is_asked_and_has_its_share() {
    let backends =
        |text: &str| MESH.replace("backendRefs: [{name: web, port: 80}]", text) + INSTANCE;
    let second = "---
apiVersion: v1
kind: Service
metadata: {name: v2, namespace: shop}
spec: {clusterIPs: [10.96.0.2], selector: {app: v2}, ports: [{port: 81, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: v2-1, namespace: shop, labels: {app: v2}, annotations: {ambient.istio.io/redirection: enabled}}
spec: {serviceAccountName: web, containers: []}
status: {podIP: 10.0.0.5, conditions: [{type: Ready, status: 'True'}]}
";
    let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: d, namespace: shop}\n\
                spec: {selector: {matchLabels: {app: v2}}, action: DENY, rules: [{}]}\n";
    let split = backends(
        "backendRefs: [{name: web, port: 80, weight: 90}, {name: v2, port: 81, weight: 10}]",
    ) + second;
    for (case, objects, decision, says) in [
        (
            "a split",
            split.clone(),
            Decision::Passes,
            &[
                "rule http/shop/r/1: to 2 backends",
                "90 % of requests             go to shop/web.shop.svc.cluster.local port 80",
                "(shop/web-1 port 8080)",
                "10 % of requests             go to shop/v2.shop.svc.cluster.local port 81",
                "(shop/v2-1 port 8080)",
            ][..],
        ),
        (
            "one of them refuses",
            format!("{split}{deny}"),
            Decision::Depends,
            &[
                "denied by policy shop/d, rule 0 (shop/v2-1 port 8080)",
                "or the backend that the request is drawn for",
            ],
        ),
        (
            "one of them is not there",
            backends(
                "backendRefs: [{name: web, port: 80, weight: 2}, {name: gone, port: 81, weight: 1}]",
            ),
            Decision::Depends,
            &["66.67 % of requests", "33.33 % of requests          500: "],
        ),
        (
            "the first of them is not there",
            backends(
                "backendRefs: [{name: gone, port: 81, weight: 1}, {name: web, port: 80, weight: 2}]",
            ),
            Decision::Depends,
            &["66.67 % of requests", "33.33 % of requests          500: "],
        ),
        (
            "a weight of 0 is no share",
            backends(
                "backendRefs: [{name: v2, port: 81, weight: 0}, {name: web, port: 80, weight: 3}]",
            ) + second
                + deny,
            Decision::Passes,
            &["rule http/shop/r/1: to shop/web.shop.svc.cluster.local port 80"],
        ),
        (
            "how long and how often",
            backends(
                "backendRefs: [{name: web, port: 80}], timeouts: {request: 10s, backendRequest: 2s}, \
                 retry: {attempts: 3, codes: [503], backoff: 100ms}",
            ),
            Decision::Passes,
            &[
                "waypoint shop/w              timeouts: request 10s, each attempt 2s; retries: up to 3, of attempts that break \
                 or time out or are answered 503, after 100ms or more\n",
            ],
        ),
        (
            "by default",
            backends("backendRefs: [{name: web, port: 80}]"),
            Decision::Passes,
            &["timeouts: none; retries: the default, up to 2, of what no backend has acted on\n"],
        ),
    ] {
        ask(&objects, "shop/a", Method::GET, "/read").is(case, decision, says);
    }
}

/// Annotations by which pods go past their proxies are heeded as the node's agent does.
#[test]
fn what_is_left_alone_is_seen_by_nobody() {
    let all = |pod: &str, annotation: &str| {
        let with = format!("annotations: {{ambit.dev/{annotation}, ");
        let name = format!("name: {pod}, ");
        let documents = format!("{MESH}{INSTANCE}");
        let documents = documents.split("\n---\n").map(|document| {
            if document.contains(&name) {
                document.replace("annotations: {", &with)
            } else {
                document.to_owned()
            }
        });
        documents.collect::<Vec<_>>().join("\n---\n")
    };
    let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: s, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n";
    // Without what its waypoint enforces, which node proxies would stand in for.
    let unbound = |objects: &str| {
        let objects = objects.replace("labels: {istio.io/use-waypoint: w}", "labels: {}");
        let documents = objects.split("\n---\n");
        let kept = documents.filter(|document| !document.contains("kind: AuthorizationPolicy"));
        kept.collect::<Vec<_>>().join("\n---\n")
    };
    for (case, objects, decision, says) in [
        (
            "past the waypoint that the Service requires",
            all("a-1", "exclude-outbound-ports: '80'"),
            Decision::Refused,
            "exclude-outbound-ports of pod shop/a-1 leaves 10.96.0.1:80 alone",
        ),
        (
            "in plain text",
            unbound(&all("a-1", "exclude-outbound-ip-ranges: 10.96.0.0/16")),
            Decision::Passes,
            "(shop/web-1 port 8080, in plain text)",
        ),
        (
            "in plain text that is refused",
            unbound(&all("a-1", "exclude-outbound-ip-ranges: 10.96.0.0/16")) + "\n" + strict,
            Decision::Refused,
            "(shop/web-1 port 8080, in plain text)",
        ),
        (
            "another port",
            all("a-1", "exclude-outbound-ports: '443'"),
            Decision::Passes,
            "in a tunnel to waypoint instance shop/w-1",
        ),
        (
            "a port that anybody reaches",
            all("web-1", "exclude-inbound-ports: '8080'"),
            Decision::Passes,
            "exclude-inbound-ports of pod shop/web-1 lets anybody in",
        ),
        (
            "one that does not read",
            all("a-1", "exclude-outbound-ports: web"),
            Decision::Passes,
            "captures everything: annotation ambit.dev/exclude-outbound-ports=",
        ),
    ] {
        ask(&objects, "shop/a", Method::GET, "/read").is(case, decision, &[says]);
    }
}
