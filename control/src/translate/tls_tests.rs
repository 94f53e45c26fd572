//! BackendTLSPolicy: what is spoken to a Service, and that it is never plain text by mistake.

use std::sync::Arc;

use ambit_http::model::{BackendTls, Resource};

use crate::index::Index;
use crate::translate::testing::{SERVICES, conditions, index, names, resource, status};

fn config_map(name: &str, text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata:\n  other: x\n  ca.crt: |\n{lines}"
    )
}

fn certificate() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["ca".to_owned()]).expect("a name");
    params.self_signed(&key).expect("a certificate").pem()
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n"
    )
}

fn of(spec: &str) -> Index {
    let maps = config_map("ca", &certificate()) + &config_map("broken", "no certificate");
    index(&format!("{SERVICES}{maps}{}", policy("t", spec)))
}

fn tls(index: &Index, name: &str) -> Arc<BackendTls> {
    match resource(index, &format!("tls/shop/{name}")) {
        Some(Resource::Tls(found)) => found,
        other => panic!("{name}: {other:?}"),
    }
}

const WEB: &str = "targetRefs: [{group: '', kind: Service, name: web}]";

#[test]
fn validation() {
    let cases = [
        ("{hostname: a.b, wellKnownCACertificates: System}", None),
        (
            "{hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}",
            None,
        ),
        (
            "{hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap, name: gone}]}",
            Some("InvalidCACertificateRef"),
        ),
        (
            "{hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap, name: broken}]}",
            Some("InvalidCACertificateRef"),
        ),
        (
            "{hostname: a.b, caCertificateRefs: [{group: x.io, kind: Y, name: ca}]}",
            Some("InvalidKind"),
        ),
        (
            "{hostname: a.b, wellKnownCACertificates: Mine}",
            Some("InvalidCACertificateRef"),
        ),
        ("{hostname: a.b}", Some("InvalidCACertificateRef")),
    ];
    for (validation, reason) in cases {
        let index = of(&format!("{WEB}, validation: {validation}"));
        let found = tls(&index, "web");
        assert_eq!(
            found.invalid.is_some(),
            reason.is_some(),
            "{validation}: {:?}",
            found.invalid
        );
        let status = status(&index, "BackendTLSPolicy shop/t").expect("a status");
        let found = conditions(&status["ancestors"][0]["conditions"]);
        let expected = match reason {
            None => [
                "Accepted=True/Accepted".to_owned(),
                "ResolvedRefs=True/ResolvedRefs".to_owned(),
            ],
            Some(reason) => [
                "Accepted=False/NoValidCACertificate".to_owned(),
                format!("ResolvedRefs=False/{reason}"),
            ],
        };
        assert_eq!(found, expected, "{validation}");
    }
}

#[test]
fn certificates_and_names_are_taken_over() {
    let index = of(&format!(
        "{WEB}, validation: {{hostname: a.b, caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}], subjectAltNames: [{{type: Hostname, hostname: c.d}}, {{type: URI, uri: 'spiffe://x/y'}}]}}"
    ));
    let found = tls(&index, "web");
    assert!(
        found
            .roots
            .as_ref()
            .is_some_and(|pem| pem.contains("BEGIN CERTIFICATE"))
    );
    assert_eq!(
        found.subject_alt_names,
        ["c.d".into(), "spiffe://x/y".into()]
    );
    assert_eq!((&*found.hostname, found.port), ("a.b", None));
}

#[test]
fn a_name_that_names_nothing_refuses() {
    for validation in [
        "{hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{type: URI}]}",
        "{wellKnownCACertificates: System}",
    ] {
        let index = of(&format!("{WEB}, validation: {validation}"));
        assert!(tls(&index, "web").invalid.is_some(), "{validation}");
    }
}

#[test]
fn a_port_has_a_policy_of_its_own() {
    let validation = "validation: {hostname: a.b, wellKnownCACertificates: System}";
    let index = of(&format!(
        "targetRefs: [{{group: '', kind: Service, name: web, sectionName: admin}}], {validation}"
    ));
    assert_eq!(names(&index), ["tls/shop/web:81"]);
    assert_eq!(tls(&index, "web:81").port, Some(81));
    let index = of(&format!(
        "targetRefs: [{{group: '', kind: Service, name: web, sectionName: x}}], {validation}"
    ));
    assert_eq!(names(&index), [""; 0]);
}

#[test]
fn the_first_of_two_counts() {
    let spec = |host: &str| {
        format!("{WEB}, validation: {{hostname: {host}, wellKnownCACertificates: System}}")
    };
    let index = index(&format!(
        "{SERVICES}{}{}",
        policy("b", &spec("b.x")),
        policy("a", &spec("a.x"))
    ));
    assert_eq!(&*tls(&index, "web").hostname, "a.x");
}

#[test]
fn certificates_that_come_later_are_used() {
    let spec = format!(
        "{WEB}, validation: {{hostname: a.b, caCertificateRefs: [{{group: '', kind: ConfigMap, name: late}}]}}"
    );
    let mut index = index(&format!("{SERVICES}{}", policy("t", &spec)));
    assert!(tls(&index, "web").invalid.is_some());
    let text = config_map("late", &certificate());
    let document = crate::source::parse::documents(&text).remove(0);
    let objects = crate::source::parse::parse(&document).objects.into_iter();
    let changes = index.apply(objects.map(|o| crate::source::Event::Apply(o, Default::default())));
    assert_eq!(changes.len(), 1);
    assert_eq!(tls(&index, "web").invalid, None);
}
