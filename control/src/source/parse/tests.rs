//! Documents, and what they hold.

use super::*;

#[test]
fn documents_are_split_and_numbered() {
    let text = "# a comment\n---\na: 1\n---\n\n--- # again\nb: |\n  ---\n  x\n...\n---\n{c: 3}\n";
    let found: Vec<_> = documents(text)
        .into_iter()
        .map(|d| (d.number, d.line, d.text.trim().to_owned()))
        .collect();
    assert_eq!(
        found,
        [
            (1, 2, "a: 1".to_owned()),
            (2, 6, "# again\nb: |\n  ---\n  x".to_owned()),
            (3, 11, "{c: 3}".to_owned()),
        ]
    );
}

/// Objects, objects for later, errors as (line, object, error).
type Found = (Vec<String>, Vec<String>, Vec<(usize, String, String)>);

fn all(text: &str) -> Found {
    let mut result = (Vec::new(), Vec::new(), Vec::new());
    for document in documents(text) {
        let parsed = parse(&document);
        result
            .0
            .extend(parsed.objects.iter().map(|o| o.key().to_string()));
        result.1.extend(parsed.unhandled);
        result.2.extend(
            parsed
                .errors
                .into_iter()
                .map(|e| (e.line, e.object, e.error)),
        );
    }
    result
}

#[test]
fn kinds() {
    let cases: &[(&str, &[&str], &[&str], usize)] = &[
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}",
            &["Namespace shop"],
            &[],
            0,
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}",
            &["Pod default/a"],
            &[],
            0,
        ),
        (
            r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"b"}}"#,
            &["Service b/a"],
            &[],
            0,
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}",
            &[],
            &[],
            0,
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a, namespace: b}",
            &["Gateway b/a"],
            &[],
            0,
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {rules: [{backendRef: []}]}",
            &[],
            &[],
            1,
        ),
        (
            "apiVersion: ambit.dev/v1alpha1\nkind: RateLimit\nmetadata: {name: a}\nspec: {request: 1}",
            &[],
            &[],
            1,
        ),
        (
            "apiVersion: ambit.dev/v1alpha1\nkind: RatesLimit\nmetadata: {name: a}",
            &[],
            &[],
            1,
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: UDPRoute\nmetadata: {name: a}",
            &[],
            &["UDPRoute a"],
            0,
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a}",
            &[],
            &["Sidecar a"],
            0,
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {host: b}",
            &[],
            &[],
            1,
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorisationPolicy\nmetadata: {name: a}",
            &[],
            &[],
            1,
        ),
        (
            "apiVersion: security.istio.io/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: a}",
            &[],
            &[],
            1,
        ),
        (
            "apiVersion: security.istio.io/v1beta1\nkind: PeerAuthentication\nmetadata: {name: a}",
            &["PeerAuthentication default/a"],
            &[],
            0,
        ),
        ("kind: Pod\nmetadata: {name: a}", &[], &[], 1),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}", &[], &[], 1),
        ("just text", &[], &[], 1),
    ];
    for (text, objects, unhandled, errors) in cases {
        let found = all(text);
        assert_eq!(found.0, *objects, "{text}");
        assert_eq!(found.1, *unhandled, "{text}");
        assert_eq!(found.2.len(), *errors, "{text}: {:?}", found.2);
    }
}

#[test]
fn lists_are_unrolled_and_a_bad_item_is_alone() {
    let found = all(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod, metadata: {name: b}, spec: 7}\n- {apiVersion: v1, kind: Node, metadata: {name: n}}\n",
    );
    assert_eq!(found.0, ["Pod default/a", "Node n"]);
    assert_eq!(found.2.len(), 1);
    assert_eq!(found.2[0].1, "Pod b");
}

#[test]
fn errors_of_the_wire_name_the_field() {
    let rows = [
        (
            Kind::Service,
            r#"{"metadata": {"name": "a"}, "spec": {"ports": [{"port": "x"}]}}"#,
            "spec.ports[0].port: invalid type: string \"x\", expected i32",
        ),
        (
            Kind::HTTPRoute,
            r#"{"metadata": {"name": "a"}, "spec": {"rules": [{"matchs": []}]}}"#,
            "spec.rules[0].matchs: unknown field `matchs`",
        ),
        (
            Kind::Pod,
            r#"{"metadata": {"labels": 7}}"#,
            "metadata.labels: ",
        ),
    ];
    for (kind, json, expected) in rows {
        let item: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let event = format!(r#"{{"type": "ADDED", "object": {json}}}"#);
        for wire in [Wire::Item(&item), Wire::Event(event.as_bytes())] {
            let error = parse_wire(kind, wire).expect_err("wrong");
            assert!(error.starts_with(expected), "{error}");
        }
    }
}

#[test]
fn errors_name_the_line() {
    let good = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";
    for (text, line) in [
        (format!("{good}---\nkind: [\n"), 5),
        (
            format!(
                "{good}---\napiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec:\n  ports: 7\n"
            ),
            9,
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n  rules:\n  - from:\n    - source:\n        principal: [x]\n".to_owned(),
            8,
        ),
    ] {
        let errors = all(&text).2;
        assert_eq!(errors.len(), 1, "{text}");
        assert!((line..=line + 1).contains(&errors[0].0), "{text}: {errors:?}");
        // A place within the document would be taken for one in the file.
        assert!(!errors[0].2.contains(" line "), "{text}: {errors:?}");
    }
}

/// In files, too: what the reader of the text says of it has no path.
#[test]
fn errors_of_a_text_name_the_field_its_value_and_what_is_expected() {
    let head = |kind: &str| format!("apiVersion: security.istio.io/v1\nkind: {kind}\n");
    for (kind, spec, said) in [
        (
            "AuthorizationPolicy",
            "{rules: [{}, {from: [{source: {principles: [a]}}]}]}",
            "spec.rules[1].from[0].source.principles: unknown field `principles`, expected one of `principals`",
        ),
        (
            "AuthorizationPolicy",
            "{rules: [{to: [{operation: {ports: 80}}]}]}",
            "spec.rules[0].to[0].operation.ports: invalid type: integer `80`, expected a sequence",
        ),
        (
            "AuthorizationPolicy",
            "{selector: {matchLabels: [app]}}",
            "spec.selector.matchLabels: invalid type: sequence, expected a map",
        ),
        (
            "PeerAuthentication",
            "{mtls: STRICT}",
            "spec.mtls: invalid type: string \"STRICT\", expected struct MutualTls",
        ),
    ] {
        let object = format!("metadata: {{name: p}}\nspec: {spec}\n");
        let text = head(kind) + &object;
        let list = format!(
            "apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: security.istio.io/v1, kind: {kind}, metadata: {{name: p}}, spec: {spec}}}\n"
        );
        for text in [text, list] {
            let errors = all(&text).2;
            assert_eq!(errors.len(), 1, "{text}");
            assert!(errors[0].2.starts_with(said), "{text}: {errors:?}");
        }
    }
}

#[test]
fn a_policy_that_cannot_be_read_denies_what_it_selects() {
    let deny = |spec: &str| format!("AuthorizationPolicy DENY {spec}");
    let cases = [
        ("AuthorizationPolicy", "rules: all", deny("None []")),
        (
            "AuthorizationPolicy",
            "{selector: {matchLabels: {app: api}}, action: ALLOW, rules: [{from: [{source: {principles: [a]}}]}]}",
            deny(r#"Some({"app": "api"}) []"#),
        ),
        (
            "AuthorizationPolicy",
            "{selector: {app: api}}",
            deny("None []"),
        ),
        (
            "AuthorizationPolicy",
            "{targetRefs: [{group: '', kind: Service, name: api}], rule: []}",
            deny(r#"None ["api"]"#),
        ),
        ("AuthorizationPolicy", "[]", deny("None []")),
        (
            "PeerAuthentication",
            "{selector: {matchLabels: {app: api}}, mtls: STRICT}",
            r#"PeerAuthentication STRICT Some({"app": "api"})"#.to_owned(),
        ),
        ("RequestAuthentication", "{rules: all}", String::new()),
    ];
    for (kind, spec, expected) in cases {
        let spec = if spec.starts_with('r') {
            format!("{{{spec}}}")
        } else {
            spec.to_owned()
        };
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
        );
        let parsed = parse(&documents(&text)[0]);
        assert_eq!(parsed.errors.len(), 1, "{spec}");
        let labels = |it: &Option<crate::source::istio::Selector>| {
            it.as_ref().map(|it| it.match_labels.clone())
        };
        let found = parsed.instead.iter().map(|object| {
            assert_eq!(object.key().to_string(), format!("{kind} shop/p"));
            match object {
                Object::AuthorizationPolicy(it) => {
                    assert_eq!(it.spec.rules, [Default::default()], "it matches everything");
                    let action = it.spec.action.as_deref().expect("an action");
                    let targets: Vec<_> = it.spec.target_refs.iter().map(|it| &it.name).collect();
                    format!(
                        "{kind} {action} {:?} {targets:?}",
                        labels(&it.spec.selector)
                    )
                }
                Object::PeerAuthentication(it) => {
                    let mode = it.spec.mtls.as_ref().and_then(|it| it.mode.as_deref());
                    format!(
                        "{kind} {} {:?}",
                        mode.expect("a mode"),
                        labels(&it.spec.selector)
                    )
                }
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(found.collect::<String>(), expected, "{spec}");
    }
}
