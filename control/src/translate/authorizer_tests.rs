//! ExternalAuthorizer: fields, and that one that makes no sense is not there.

use ambit_http::model::{AuthorizerKind, Resource};

use crate::translate::testing::{SERVICES, conditions, index, problems, resource, status};

#[test]
fn fields() {
    let backend = "backendRef: {name: web, port: 80}";
    let good = ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"];
    let bad = ["Accepted=False/UnsupportedValue"];
    let cases: [(String, &[&str]); 11] = [
        (format!("protocol: GRPC, {backend}"), &good),
        (
            format!(
                "protocol: HTTP, {backend}, pathPrefix: /check, timeout: 600ms, failOpen: true, statusOnError: 503, requestHeaders: [cookie], upstreamHeaders: [x-user], bodyLimit: 1024"
            ),
            &good,
        ),
        (
            "protocol: GRPC, backendRef: {name: gone, port: 80}".to_owned(),
            &[
                "Accepted=True/Accepted",
                "ResolvedRefs=False/BackendNotFound",
            ],
        ),
        (
            "protocol: GRPC, backendRef: {name: far, namespace: other, port: 80}".to_owned(),
            &[
                "Accepted=True/Accepted",
                "ResolvedRefs=False/RefNotPermitted",
            ],
        ),
        (format!("protocol: SOAP, {backend}"), &bad),
        (format!("protocol: GRPC, {backend}, pathPrefix: /x"), &bad),
        (format!("protocol: HTTP, {backend}, pathPrefix: x"), &bad),
        (format!("protocol: GRPC, {backend}, timeout: 0s"), &bad),
        (
            format!("protocol: GRPC, {backend}, statusOnError: 200"),
            &bad,
        ),
        (
            format!("protocol: GRPC, {backend}, requestHeaders: ['a b']"),
            &bad,
        ),
        (format!("protocol: GRPC, {backend}, bodyLimit: -1"), &bad),
    ];
    for (spec, expected) in cases {
        let index = index(&format!(
            "{SERVICES}---\napiVersion: ambit.dev/v1alpha1\nkind: ExternalAuthorizer\nmetadata: {{name: opa, namespace: shop}}\nspec: {{{spec}}}\n"
        ));
        let status = status(&index, "ExternalAuthorizer shop/opa").expect("a status");
        assert_eq!(conditions(&status["conditions"]), expected, "{spec}");
        let found = resource(&index, "authorizer/shop/opa");
        assert_eq!(found.is_some(), expected.len() == 2, "{spec}");
        let fine = expected == good;
        assert_eq!(
            problems(&index, "ExternalAuthorizer shop/opa").is_empty(),
            fine,
            "{spec}"
        );
        if let Some(Resource::Authorizer(found)) = found.filter(|_| spec.contains("/check")) {
            let kind = AuthorizerKind::Http {
                path_prefix: "/check".into(),
            };
            assert_eq!(
                (
                    &found.kind,
                    found.fail_open,
                    found.status_on_error,
                    found.body_limit
                ),
                (&kind, true, 503, 1024)
            );
        }
    }
}
