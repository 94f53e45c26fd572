//! External authorizers: CUSTOM policies and filters of routes, over gRPC and HTTP.

use ambit_lab::harness::{Lab, program};

use super::call::Call;
use super::changes::under_load;
use super::scene::{CLIENT, http_route, lab, program_pod};
use super::told::{line, so_many_lines};
use crate::fixtures::namespace;

/// Who is asked, in a namespace of its own, and leave to name it from elsewhere.
fn guards() -> String {
    let container = format!("command: [{}, authorize]", program("peer").display());
    namespace("guards", "istio.io/dataplane-mode: ambient")
        + &program_pod("guards", "authorizer", 8000, &container)
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: authorizer, namespace: guards}\n\
           spec: {selector: {app: authorizer}, ports: [{name: grpc, port: 9000}, {name: http, port: 8000}]}\n\
           ---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n\
           metadata: {name: all, namespace: guards}\nspec:\n  \
           from: [{group: ambit.dev, kind: ExternalAuthorizer, namespace: istio-system}, \
           {group: ambit.dev, kind: ExternalAuthorizer, namespace: mesh}, \
           {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: mesh}]\n  \
           to: [{group: \"\", kind: Service}]\n"
}

fn authorizer(namespace: &str, name: &str, protocol: &str, more: &str) -> String {
    let port = if protocol == "GRPC" { 9000 } else { 8000 };
    format!(
        "---\napiVersion: ambit.dev/v1alpha1\nkind: ExternalAuthorizer\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  protocol: {protocol}\n  \
         backendRef: {{name: authorizer, namespace: guards, port: {port}}}\n{more}"
    )
}

/// Requests to a service whose path starts like this are put to an authorizer.
fn custom(name: &str, service: &str, provider: &str, rule: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: mesh}}\nspec:\n  \
         targetRefs: [{{kind: Service, group: \"\", name: {service}}}]\n  \
         action: CUSTOM\n  provider: {{name: {provider}}}\n  rules: [{rule}]\n"
    )
}

fn filtered(name: &str) -> String {
    format!(
        "- matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]\n  \
         filters: [{{type: ExtensionRef, extensionRef: {{group: ambit.dev, kind: ExternalAuthorizer, name: {name}}}}}]\n  \
         backendRefs: [{{name: v1, port: 8080}}]\n"
    )
}

/// The filter of the Gateway API itself.
fn standard(path: &str, protocol: &str, more: &str) -> String {
    let port = if protocol == "GRPC" { 9000 } else { 8000 };
    format!(
        "- matches: [{{path: {{type: PathPrefix, value: {path}}}}}]\n  \
         filters: [{{type: ExternalAuth, externalAuth: {{protocol: {protocol}, \
         backendRef: {{name: authorizer, namespace: guards, port: {port}}}{more}}}}}]\n  \
         backendRefs: [{{name: v1, port: 8080}}]\n"
    )
}

fn asked() -> Lab {
    let lab = lab();
    let paths = |path: &str| format!("{{to: [{{operation: {{paths: [{path}]}}}}]}}");
    let names = ["plain", "open", "late"];
    let let_in = ", http: {path: /std, allowedHeaders: [x-let]}";
    let standards = standard("/calls", "GRPC", "")
        + &standard("/http", "HTTP", let_in)
        + &standard("/none", "HTTP", "")
        + "- matches: [{path: {type: PathPrefix, value: /custom}}]\n  backendRefs: [{name: v1, port: 8080}]\n";
    let manifests = guards()
        + &authorizer("istio-system", "calls", "GRPC", "  bodyLimit: 10\n")
        + &custom("calls", "v1", "calls", &paths("/asked"))
        + &authorizer("istio-system", "asks", "HTTP", "  pathPrefix: /put\n")
        + &custom("asks", "echo", "asks", &paths("/custom"))
        + &authorizer(
            "mesh",
            "plain",
            "HTTP",
            "  pathPrefix: /check\n  bodyLimit: 10\n",
        )
        + &authorizer(
            "mesh",
            "open",
            "HTTP",
            "  failOpen: true\n  upstreamHeaders: [x-checked]\n",
        )
        + &authorizer("mesh", "late", "GRPC", "  statusOnError: 503\n")
        + &http_route(
            "asked",
            "echo",
            &(names.map(filtered).concat() + &standards),
        );
    lab.apply(&manifests);
    lab
}

#[test]
fn an_authorizer_lets_in_or_says_why_not() {
    let lab = asked();
    let identity = "spiffe://cluster.local/ns/mesh/sa/client";
    for (path, checked, by) in [
        ("v1.mesh/asked", identity, Some("grpc")),
        ("echo.mesh/custom", "/put/custom", None),
        ("echo.mesh/late", identity, Some("grpc")),
        ("echo.mesh/plain/x?y=1", "/check/plain/x", None),
        ("echo.mesh/open", "/open", None),
        ("echo.mesh/calls", identity, Some("grpc")),
        ("echo.mesh/http", "/std/http", None),
    ] {
        let call = Call::get(CLIENT, path);
        let let_in = call.clone().header("x-let", "in").answer(&lab);
        assert_eq!(let_in.server(), "v1", "{path}: {let_in:?}");
        assert_eq!(let_in.sent("x-checked").as_deref(), Some(checked), "{path}");
        assert_eq!(let_in.header("x-checked-by").as_deref(), by, "{path}");
        // gRPC authorizers can take headers away.
        assert_eq!(let_in.sent("x-let").is_none(), by.is_some(), "{path}");
        // What the authorizer says replaces what the client says of it.
        let forged = call.clone().header("x-let", "in");
        let forged = forged.header("x-checked", "me").header("x-checked", "all");
        let sent = forged.answer(&lab).sent("x-checked");
        assert_eq!(sent.as_deref(), Some(checked), "{path}");

        for let_in in ["out", ""] {
            let answer = call.clone().header("x-let", let_in).answer(&lab);
            assert_eq!(answer.status, 451, "{path}: {answer:?}");
            let why = answer.header("x-why");
            assert_eq!(why.as_deref(), Some("not let in"), "{path}");
            assert_eq!(answer.body, "ask again\n", "{path}");
        }
        assert_eq!(call.answer(&lab).status, 451, "{path}");
    }
    // The filter shows an authorizer that speaks HTTP no header that it does not name.
    let unseen = Call::get(CLIENT, "/none")
        .header("x-let", "in")
        .answer(&lab);
    assert_eq!(unseen.status, 451, "{unseen:?}");
    // What nobody asks about passes.
    assert_eq!(Call::get(CLIENT, "v1.mesh/free").answer(&lab).status, 200);
    let parts = ["/plain/x?y=1", "\" 451 UAEX direct_response "];
    for told in so_many_lines(&lab, 3, &parts) {
        assert!(
            told.contains("denied by authorizer mesh/plain with 451"),
            "{told}"
        );
    }
}

/// As much of a body as the authorizer takes is shown to it, and is there afterwards.
#[test]
fn an_authorizer_sees_the_body() {
    let lab = asked();
    for path in ["v1.mesh/asked", "echo.mesh/plain"] {
        let post = |body: &str| Call::get(CLIENT, path).data(body);
        assert_eq!(
            post("0123456789").answer(&lab).body,
            "ask again\n0123456789"
        );
        let let_in = post("0123456789").header("x-let", "in").answer(&lab);
        assert_eq!(let_in.received()["body"]["text"], "0123456789", "{path}");
        let long = post("0123456789x").header("x-let", "in").answer(&lab);
        assert_eq!((long.status, &*long.server()), (413, ""), "{path}");
    }
    // Whoever takes no body does not hold one up.
    let long = Call::get(CLIENT, "/open").data(&"x".repeat(100_000));
    let long = long.header("x-let", "in").answer(&lab);
    assert_eq!(long.received()["body"]["bytes"], 100_000);
}

/// Without an answer the door is closed, unless its owner wants it open; and nobody speaks for the authorizer.
#[test]
fn without_an_answer_the_door_is_closed() {
    let lab = asked();
    lab.delete("---\napiVersion: v1\nkind: Pod\nmetadata: {name: authorizer, namespace: guards}\n");
    for (path, status) in [
        ("v1.mesh/asked", 403),
        ("echo.mesh/plain", 403),
        ("echo.mesh/late", 503),
    ] {
        let answer = Call::get(CLIENT, path).header("x-let", "in").answer(&lab);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.server(), "", "{path}");
        let path = path.split_once('/').expect("a path").1;
        let told = line(&lab, &[&format!("/{path} "), " UAEX "]);
        assert!(
            told.contains("has not answered: service guards/authorizer"),
            "{told}"
        );
    }
    let open = Call::get(CLIENT, "/open").header("x-checked", "me");
    let open = open.answer(&lab);
    assert_eq!(open.server(), "v1", "{open:?}");
    assert_eq!(
        open.sent("x-checked"),
        None,
        "the client speaks for the authorizer"
    );
    // An authorizer that is no more denies as well.
    lab.delete(&authorizer("mesh", "open", "HTTP", ""));
    assert_ne!(Call::get(CLIENT, "/open").answer(&lab).status, 200);
}

/// A connection that is not HTTP has nothing that could be put to an authorizer.
#[test]
fn a_connection_that_would_have_to_be_asked_about_is_refused() {
    let lab = asked();
    lab.apply(&custom("calls", "v2", "calls", "{}"));
    let passes = |service: &str| {
        let to = format!("{service}.mesh:9090");
        lab.load(CLIENT, &["rr", "-n", "1", &to]).code == 0
    };
    assert!(!passes("v2"));
    assert!(passes("v3"));
}

/// Who is asked, and about what, changes under load; whoever is let in notices nothing.
#[test]
fn no_request_fails_while_authorizers_change() {
    let lab = asked();
    let url = "http://v1.mesh/asked";
    let let_in = ["http", "--rate", "100", "-H", "x-let: in", url];
    let new = [&let_in[..], &["--new-connections"]].concat();
    let rule = "{to: [{operation: {paths: [/asked]}}]}";
    under_load(&lab, &[(CLIENT, &let_in), (CLIENT, &new)], || {
        let denied = |by: &str| {
            let answer = Call::get(CLIENT, "v1.mesh/asked").answer(&lab);
            assert_eq!(answer.status, 451, "{by}: {answer:?}");
        };
        lab.apply(&authorizer(
            "istio-system",
            "calls",
            "GRPC",
            "  timeout: 9s\n",
        ));
        denied("another timeout");
        lab.apply(&authorizer(
            "istio-system",
            "calls",
            "HTTP",
            "  timeout: 9s\n",
        ));
        denied("another protocol");
        lab.apply(&custom("calls", "v1", "asks", rule));
        denied("another authorizer");
        let policy = custom("calls", "v1", "asks", rule);
        lab.delete(&policy);
        let free = Call::get(CLIENT, "v1.mesh/asked").answer(&lab);
        assert_eq!(free.status, 200, "{free:?}");
        lab.apply(&policy);
        denied("asked again");
    });
}
