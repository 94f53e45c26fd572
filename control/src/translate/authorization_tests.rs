//! One table a rule of the API. Policies are written as users write them.

use ambit_core::model::{ServiceAccountMatch, StringMatch};

use super::*;

/// A spec in namespace `shop`.
fn of(spec: &str) -> PolicyOutcome {
    in_namespace("shop", spec)
}

fn in_namespace(namespace: &str, spec: &str) -> PolicyOutcome {
    in_mesh(&Mesh::default(), namespace, spec)
}

fn in_mesh(mesh: &Mesh, namespace: &str, spec: &str) -> PolicyOutcome {
    let text = format!("metadata: {{name: p}}\nspec: {spec}\n");
    let policy: AuthorizationPolicy = serde_saphyr::from_str(&text).expect("a policy");
    translate(namespace, "p", &policy, &Objects::default(), mesh)
}

#[test]
fn principals_are_written_out_under_every_name_of_the_trust_domain() {
    let renamed = Mesh::renamed("new", "old");
    let cases: [(&str, &str); 6] = [
        (
            "from: [{source: {principals: [old/ns/a/sa/b]}}]",
            "principal=old/ns/a/sa/b+new/ns/a/sa/b",
        ),
        (
            "from: [{source: {principals: [new/ns/*], notPrincipals: [cluster.local/ns/a/sa/b]}}]",
            "principal=new/ns/*+old/ns/*,!principal=cluster.local/ns/a/sa/b+new/ns/a/sa/b+old/ns/a/sa/b",
        ),
        (
            "when: [{key: source.principal, values: [old*], notValues: ['*w/ns/a/sa/b']}]",
            "principal=old*+new/*,!principal=*w/ns/a/sa/b+old/ns/a/sa/b",
        ),
        (
            "from: [{source: {principals: ['*/sa/x', '*', other/ns/a/sa/b]}}]",
            "principal=*/sa/x+*+other/ns/a/sa/b",
        ),
        ("from: [{source: {serviceAccounts: [a/b]}}]", "sa=a/b"),
        ("from: [{source: {namespaces: [old]}}]", "ns=old"),
    ];
    for (rule, expected) in cases {
        for action in ["ALLOW", "DENY"] {
            let spec = format!("{{action: {action}, rules: [{{{rule}}}]}}");
            let outcome = in_mesh(&renamed, "shop", &spec);
            assert_eq!(rules(&outcome), [expected], "{spec}");
            assert_eq!(outcome.problems, [""; 0], "{spec}");
        }
    }
}

/// Rules as text: clauses joined by `&`, matches by `|`, fields by `,`. `always` has no clause.
fn rules(outcome: &PolicyOutcome) -> Vec<String> {
    let policy = outcome.policy.as_ref().expect("a resource");
    policy.rules.iter().map(rule).collect()
}

fn rule(rule: &model::Rule) -> String {
    if rule.clauses.is_empty() {
        return "always".to_owned();
    }
    let clauses = rule.clauses.iter().map(|clause| {
        let matches: Vec<_> = clause.matches.iter().map(one).collect();
        matches.join("|")
    });
    clauses.collect::<Vec<_>>().join("&")
}

fn one(found: &Match) -> String {
    let text = |value: &StringMatch| match value {
        StringMatch::Exact(text) => text.to_string(),
        StringMatch::Prefix(text) => format!("{text}*"),
        StringMatch::Suffix(text) => format!("*{text}"),
        StringMatch::Presence => "*".to_owned(),
    };
    let account =
        |value: &ServiceAccountMatch| format!("{}/{}", value.namespace, value.service_account);
    let mut fields = Vec::new();
    let mut add = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            fields.push(format!("{name}={}", values.join("+")));
        }
    };
    add("ns", found.namespaces.iter().map(text).collect());
    add("!ns", found.not_namespaces.iter().map(text).collect());
    add("principal", found.principals.iter().map(text).collect());
    add(
        "!principal",
        found.not_principals.iter().map(text).collect(),
    );
    add("sa", found.service_accounts.iter().map(account).collect());
    add(
        "!sa",
        found.not_service_accounts.iter().map(account).collect(),
    );
    add(
        "ip",
        found.source_ips.iter().map(ToString::to_string).collect(),
    );
    add(
        "!ip",
        found
            .not_source_ips
            .iter()
            .map(ToString::to_string)
            .collect(),
    );
    add(
        "dip",
        found
            .destination_ips
            .iter()
            .map(ToString::to_string)
            .collect(),
    );
    add(
        "!dip",
        found
            .not_destination_ips
            .iter()
            .map(ToString::to_string)
            .collect(),
    );
    add(
        "port",
        found
            .destination_ports
            .iter()
            .map(ToString::to_string)
            .collect(),
    );
    add(
        "!port",
        found
            .not_destination_ports
            .iter()
            .map(ToString::to_string)
            .collect(),
    );
    fields.join(",")
}

#[test]
fn rules_read_as_the_api_says() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("no rules", "{}", &[]),
        ("empty rules", "{rules: []}", &[]),
        ("an empty rule", "{rules: [{}]}", &["always"]),
        (
            "values are alternatives",
            "{rules: [{from: [{source: {namespaces: [a, b*, '*c', '*']}}]}]}",
            &["ns=a+b*+*c+*"],
        ),
        (
            "fields hold together",
            "{rules: [{from: [{source: {namespaces: [a], notPrincipals: [td/ns/a/sa/x]}}]}]}",
            &["ns=a,!principal=td/ns/a/sa/x"],
        ),
        (
            "sources are alternatives",
            "{rules: [{from: [{source: {namespaces: [a]}}, {source: {ipBlocks: [10.0.0.0/8, '::1']}}]}]}",
            &["ns=a|ip=10.0.0.0/8+::1/128"],
        ),
        (
            "from, to and when hold together",
            "{rules: [{from: [{source: {principals: ['*']}}], to: [{operation: {ports: ['80', '81']}}], when: [{key: source.ip, notValues: [10.0.0.1]}]}]}",
            &["principal=*&port=80+81&!ip=10.0.0.1/32"],
        ),
        (
            "rules are alternatives",
            "{rules: [{to: [{operation: {notPorts: ['80']}}]}, {from: [{source: {notNamespaces: [a], notIpBlocks: [10.0.0.0/8]}}]}]}",
            &["!port=80", "!ns=a,!ip=10.0.0.0/8"],
        ),
        (
            "service accounts",
            "{rules: [{from: [{source: {serviceAccounts: [web, other/web], notServiceAccounts: [bad]}}]}]}",
            &["sa=shop/web+other/web,!sa=shop/bad"],
        ),
        (
            "every L4 condition",
            "{rules: [{when: [{key: source.namespace, values: [a]}, {key: source.principal, values: [p*]}, {key: source.serviceAccount, values: [a/b]}, {key: destination.ip, values: [10.0.0.1]}, {key: destination.port, values: ['80'], notValues: ['81']}]}]}",
            &["ns=a&principal=p*&sa=a/b&dip=10.0.0.1/32&port=80,!port=81"],
        ),
    ];
    for (name, spec, expected) in cases {
        for action in ["", "action: ALLOW, ", "action: DENY, "] {
            let outcome = of(&spec
                .replacen('{', &format!("{{{action}"), 1)
                .replace(", }", "}"));
            assert_eq!(rules(&outcome), *expected, "{name} {action}");
            assert_eq!(outcome.problems, [""; 0], "{name}");
        }
    }
}

#[test]
fn what_a_connection_cannot_tell_never_widens_access() {
    // (name, rules, as DENY, as ALLOW, problems)
    type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [&'a str], usize);
    let cases: &[Case<'_>] = &[
        (
            "method",
            "[{to: [{operation: {methods: [GET]}}]}]",
            &["always"],
            &[],
            0,
        ),
        (
            "method and port",
            "[{to: [{operation: {methods: [GET], ports: ['80']}}]}]",
            &["port=80"],
            &[],
            0,
        ),
        (
            "method or port",
            "[{to: [{operation: {methods: [GET]}}, {operation: {ports: ['80']}}]}]",
            &["always"],
            &[],
            0,
        ),
        (
            "path with a source",
            "[{from: [{source: {namespaces: [a]}}], to: [{operation: {paths: [/x]}}]}]",
            &["ns=a"],
            &[],
            0,
        ),
        (
            "other rules stay",
            "[{to: [{operation: {hosts: [h]}}]}, {to: [{operation: {ports: ['80']}}]}]",
            &["always", "port=80"],
            &["port=80"],
            0,
        ),
        (
            "negative HTTP fields",
            "[{to: [{operation: {notHosts: [h], notPaths: [/x], notMethods: [GET]}}]}]",
            &["always"],
            &[],
            0,
        ),
        (
            "request principal",
            "[{from: [{source: {requestPrincipals: ['*'], namespaces: [a]}}]}]",
            &["ns=a"],
            &[],
            0,
        ),
        (
            "remote address",
            "[{from: [{source: {notRemoteIpBlocks: [10.0.0.0/8]}}]}]",
            &["always"],
            &[],
            0,
        ),
        (
            "header condition",
            "[{from: [{source: {namespaces: [a]}}], when: [{key: 'request.headers[x]', values: [y]}]}]",
            &["ns=a"],
            &[],
            0,
        ),
        (
            "server name",
            "[{when: [{key: connection.sni, values: [y]}]}]",
            &["always"],
            &[],
            0,
        ),
        (
            "unknown condition",
            "[{from: [{source: {namespaces: [a]}}], when: [{key: source.color, values: [y]}]}]",
            &["ns=a"],
            &[],
            1,
        ),
        (
            "bad range",
            "[{from: [{source: {ipBlocks: [10.0.0.0/8, 10.0.0.0/99]}}]}]",
            &["always"],
            &[],
            1,
        ),
        (
            "bad range among fields",
            "[{from: [{source: {notIpBlocks: [x], namespaces: [a]}}]}]",
            &["ns=a"],
            &[],
            1,
        ),
        (
            "bad port",
            "[{to: [{operation: {ports: [http]}}]}]",
            &["always"],
            &[],
            1,
        ),
        (
            "port 0",
            "[{to: [{operation: {notPorts: ['0']}}]}]",
            &["always"],
            &[],
            1,
        ),
        (
            "port over 65535",
            "[{to: [{operation: {ports: ['65536']}}]}]",
            &["always"],
            &[],
            1,
        ),
        (
            "inner star",
            "[{from: [{source: {principals: [a*b]}}]}]",
            &["always"],
            &[],
            1,
        ),
        (
            "empty text",
            "[{from: [{source: {namespaces: ['']}}]}]",
            &["always"],
            &[],
            1,
        ),
        (
            "spiffe prefix",
            "[{from: [{source: {principals: ['spiffe://td/ns/a/sa/b']}}]}]",
            &["always"],
            &[],
            1,
        ),
        (
            "bad account",
            "[{from: [{source: {serviceAccounts: [a/b/c]}}]}]",
            &["always"],
            &[],
            1,
        ),
        (
            "empty source",
            "[{from: [{source: {}}]}]",
            &["always"],
            &[],
            1,
        ),
        ("empty operation", "[{to: [{}]}]", &["always"], &[], 1),
        (
            "condition without values",
            "[{when: [{key: source.ip}]}]",
            &["always"],
            &[],
            1,
        ),
    ];
    for (name, rules_text, deny, allow, problems) in cases {
        let outcome = of(&format!("{{action: DENY, rules: {rules_text}}}"));
        assert_eq!(rules(&outcome), *deny, "{name} DENY");
        assert_eq!(outcome.problems.len(), *problems, "{name}: {outcome:?}");
        let outcome = of(&format!("{{action: ALLOW, rules: {rules_text}}}"));
        assert_eq!(rules(&outcome), *allow, "{name} ALLOW");
        assert_eq!(outcome.problems.len(), *problems, "{name}: {outcome:?}");
        assert!(!outcome.notices.is_empty(), "{name}: the author is told");
    }
}

#[test]
fn actions() {
    let rules = "rules: [{}]";
    let action = |text: &str| {
        let outcome = of(&format!("{{{text}{rules}}}"));
        (
            outcome.policy.map(|p| p.action),
            outcome.problems.len(),
            outcome.notices.len(),
        )
    };
    assert_eq!(action(""), (Some(Action::Allow), 0, 0));
    assert_eq!(action("action: ALLOW, "), (Some(Action::Allow), 0, 0));
    assert_eq!(action("action: DENY, "), (Some(Action::Deny), 0, 0));
    assert_eq!(action("action: AUDIT, "), (None, 0, 1));
    assert_eq!(
        action("action: CUSTOM, provider: {name: x}, "),
        (None, 0, 1)
    );
}

#[test]
fn an_unknown_action_denies_everything() {
    let outcome = of("{action: DROP, rules: [{from: [{source: {namespaces: [a]}}]}]}");
    assert_eq!(rules(&outcome), ["always"]);
    assert_eq!(outcome.policy.map(|p| p.action), Some(Action::Deny));
    assert_eq!(outcome.problems.len(), 1);
}

#[test]
fn scopes() {
    let selector = "{selector: {matchLabels: {app: web}}}";
    let cases = [
        ("shop", "{}", Scope::Namespace),
        ("istio-system", "{}", Scope::Global),
        ("shop", selector, Scope::WorkloadSelector),
        ("istio-system", selector, Scope::WorkloadSelector),
        ("shop", "{selector: {}}", Scope::Namespace),
        (
            "istio-system",
            "{selector: {matchLabels: {}}}",
            Scope::Global,
        ),
    ];
    for (namespace, spec, scope) in cases {
        let policy = in_namespace(namespace, spec).policy.expect("a resource");
        assert_eq!(policy.scope, scope, "{namespace} {spec}");
        assert_eq!(policy.key, NamespacedName::new(namespace, "p"));
    }
}

#[test]
fn attached_policies_are_for_waypoints() {
    for spec in [
        "{targetRefs: [{group: '', kind: Service, name: web}], rules: [{}]}",
        "{targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: w}, action: DENY, rules: [{}]}",
    ] {
        assert_eq!(of(spec), PolicyOutcome::default(), "{spec}");
    }
}

#[test]
fn dry_run_is_an_annotation() {
    for (value, dry_run) in [("true", true), ("false", false)] {
        let text = format!(
            "metadata: {{name: p, annotations: {{istio.io/dry-run: '{value}'}}}}\nspec: {{}}\n"
        );
        let policy: AuthorizationPolicy = serde_saphyr::from_str(&text).expect("a policy");
        let outcome = translate("shop", "p", &policy, &Objects::default(), &Mesh::default());
        assert_eq!(outcome.policy.map(|p| p.dry_run), Some(dry_run));
    }
}

#[test]
fn misspelt_fields_are_errors() {
    for spec in [
        "{rules: [{from: [{source: {principal: [a]}}]}]}",
        "{rules: [{form: []}]}",
        "{selector: {matchLabel: {a: b}}}",
        "{rule: []}",
    ] {
        let text = format!("metadata: {{name: p}}\nspec: {spec}\n");
        let parsed: Result<AuthorizationPolicy, _> = serde_saphyr::from_str(&text);
        assert!(parsed.is_err(), "{spec}");
    }
}
