//! Whom policies reach, and what is said of them.

use super::*;

#[test]
fn selectors_reach_as_far_as_their_namespace() {
    let policy = |namespace: &str, labels: &str, more: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: {namespace}}}\nspec: {{selector: {{matchLabels: {labels}}}{more}}}\n"
        )
    };
    for (text, expected) in [
        (policy("shop", "{app: web}", ""), vec!["shop/p"]),
        (
            policy("istio-system", "{app: web}", ""),
            vec!["istio-system/p"],
        ),
        (policy("shop", "{app: other}", ""), vec![]),
        (policy("shop", "{app: web, missing: x}", ""), vec![]),
        (policy("other", "{app: web}", ""), vec![]),
        (policy("shop", "{app: web}", ", action: CUSTOM"), vec![]),
        (policy("shop", "{app: web}", ", action: AUDIT"), vec![]),
        (
            policy("shop", "{app: web}", ", action: BAD"),
            vec!["shop/p"],
        ),
        (policy("shop", "{}", ""), vec![]),
    ] {
        let mut index = base();
        index.apply(events(&text));
        let found = workload(&index, "web-abc-1");
        let names: Vec<_> = found
            .authorization_policies
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, expected, "{text}");
    }
}

/// What is attached to a Service that no waypoint serves is enforced by node proxies, never more widely.
#[test]
fn node_proxies_stand_in_for_a_waypoint_that_nobody_named() {
    let only_get = "rules: [{to: [{operation: {methods: [GET]}}]}]";
    let from = "rules: [{from: [{source: {namespaces: [far]}}]}]";
    for (case, spec, expected) in [
        (
            "what a connection tells",
            from.to_owned(),
            Some("Allow 1 far"),
        ),
        (
            "what it does not tell",
            only_get.to_owned(),
            Some("Allow 0 "),
        ),
        (
            "in a DENY",
            format!("action: DENY, {only_get}"),
            Some("Deny 1 "),
        ),
        (
            "nobody to ask",
            format!("action: CUSTOM, provider: {{name: opa}}, {from}"),
            Some("Deny 1 "),
        ),
        ("a report", format!("action: AUDIT, {from}"), None),
    ] {
        let mut index = base();
        index.apply(events(&targeted(&spec)));
        let enforced = |index: &Index| {
            let pod = workload(index, "web-abc-1");
            let key = pod.authorization_policies.first()?;
            let policy = index.policies().find(|it| it.key == *key);
            let policy = policy.expect("a policy that a workload names");
            let clauses = policy.rules.iter().flat_map(|rule| &rule.clauses);
            let fields = clauses.flat_map(|clause| &clause.matches);
            let namespaces = fields.flat_map(|found| &found.namespaces);
            let namespaces: Vec<String> = namespaces
                .map(|it| match it {
                    ambit_core::model::StringMatch::Exact(it) => it.to_string(),
                    other => format!("{other:?}"),
                })
                .collect();
            let (action, rules) = (policy.action, policy.rules.len());
            Some(format!("{action:?} {rules} {}", namespaces.join(",")))
        };
        assert_eq!(enforced(&index).as_deref(), expected, "{case}");

        // Bound, it is the waypoint's; also while that is not there, as then nobody gets through.
        let bound = "name: web, namespace: shop, labels: {istio.io/use-waypoint: w}}";
        index.apply(events(&BASE.replace("name: web, namespace: shop}", bound)));
        assert_eq!(enforced(&index), None, "{case}: bound to what is not there");
        index.apply(events(&gateway("service")));
        assert_eq!(enforced(&index), None, "{case}: bound");
        // A waypoint for pods does not serve what is sent to a service.
        index.apply(events(&gateway("workload")));
        assert_eq!(enforced(&index).as_deref(), expected, "{case}: not served");
        index.apply(events(&gateway("service")));
        index.apply(events(BASE));
        assert_eq!(
            enforced(&index).as_deref(),
            expected,
            "{case}: bound no more"
        );
        index.apply(delete(Kind::AuthorizationPolicy, "shop", "targeted"));
        assert_eq!(enforced(&index), None, "{case}: deleted");
    }
}

#[test]
fn problems_name_the_object_and_go_with_it() {
    let mut index = base();
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {rules: [{to: [{operation: {ports: [x]}}]}]}\n";
    let origin = Origin {
        file: "p.yaml".into(),
        document: 2,
        line: 7,
    };
    let object = objects(text).remove(0);
    index.apply([Event::Apply(object, origin.clone())]);
    let problems = index.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].origin, origin);
    assert_eq!(problems[0].object, "AuthorizationPolicy shop/p");
    assert!(
        problems[0]
            .error
            .contains("spec.rules[0].to[0].operation.ports"),
        "{}",
        problems[0].error
    );
    index.apply(delete(Kind::AuthorizationPolicy, "shop", "p"));
    assert_eq!(index.problems(), []);
}
