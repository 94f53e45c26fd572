//! TCP connections: fields of HTTP widen DENY and take the rule out of ALLOW.

use super::*;

#[test]
fn fields_of_http() {
    let request_principals = Source {
        request_principals: any(text("*")),
        ..Source::default()
    };
    let methods = |values| Operation {
        methods: values,
        ..Operation::default()
    };
    let hosts = Operation {
        hosts: any(text("x.com")),
        ..Operation::default()
    };
    let rows = [
        ("path", to(on_path("/never"))),
        ("method", to(methods(any(text("NONE"))))),
        ("notMethods", to(methods(none(text("GET"))))),
        ("host", to(hosts)),
        ("token's principal", from(request_principals)),
        ("header", when(header("x-a", any(text("b"))))),
        (
            "request.auth.principal",
            when(Condition::RequestPrincipal(any(text("x")))),
        ),
        ("audiences", when(Condition::Audiences(any(text("x"))))),
        ("presenter", when(Condition::Presenter(any(text("x"))))),
        ("claims", when(claim(&["a"], none(text("x"))))),
    ];
    let request = request();
    let facts = request.tcp();
    for (case, rule) in rows {
        assert!(matches(Action::Deny, &rule, &facts), "DENY, {case}");
        assert!(
            matches(Action::Custom(name("a/x")), &rule, &facts),
            "CUSTOM, {case}"
        );
        assert!(!matches(Action::Allow, &rule, &facts), "ALLOW, {case}");
    }
}

#[test]
fn the_other_fields_still_count() {
    let request = request();
    let facts = request.tcp();
    let both = |namespace| Rule {
        to: vec![on_path("/admin")],
        ..from(in_namespace(namespace))
    };
    assert!(matches(Action::Deny, &both("shop"), &facts));
    assert!(!matches(Action::Deny, &both("other"), &facts));
    assert!(matches(Action::Allow, &from(in_namespace("shop")), &facts));
    let sni = when(Condition::Sni(any(text("shop.example.com"))));
    assert!(matches(Action::Allow, &sni, &facts));
    let alternative = Rule {
        to: vec![
            on_path("/admin"),
            Operation {
                ports: any(8080),
                ..Operation::default()
            },
        ],
        ..Rule::default()
    };
    // Istio leaves out the whole rule, with the alternative that could be judged.
    assert!(!matches(Action::Allow, &alternative, &facts));
}
