//! What a route is attached to, and for whose requests.

use super::call::{Answer, Call};
use super::rows::{backend, get};
use super::scene::{CLIENT, CONSUMER, http_route, lab, route, server, service};
use crate::fixtures::{addresses, host};

/// MeshFrontend, MeshFrontendHostname, MeshPorts: the address that was dialled decides, not `Host`.
#[test]
fn a_route_belongs_to_the_address_that_was_dialled() {
    let lab = lab();
    let mark = |value: &str, server: &str| {
        format!(
            "- filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-route, value: {value}}}]}}}}]\n  {}",
            backend(server)
        )
    };
    let marked = |answer: &Answer| answer.header("x-route");
    let frontend = http_route("frontend", "v2", &mark("v2", "v2"));
    lab.apply(&frontend);
    assert_eq!(marked(&get("v2.mesh/").answer(&lab)).as_deref(), Some("v2"));
    let wrong_host = get("v2.mesh/").header("Host", "v1.mesh").answer(&lab);
    assert_eq!(marked(&wrong_host).as_deref(), Some("v2"));
    assert_eq!(
        wrong_host.received()["authority"],
        "v1.mesh",
        "the host is left alone"
    );
    let other = get("v1.mesh/").header("Host", "v2.mesh").answer(&lab);
    assert_eq!((other.server(), marked(&other)), ("v1".to_owned(), None));
    for address in addresses(&lab, "mesh/v2") {
        let pod = get(&format!("{}:8080/", host(&address))).answer(&lab);
        assert_eq!(
            (pod.server(), marked(&pod)),
            ("v2".to_owned(), None),
            "{address}"
        );
    }
    lab.delete(&frontend);

    let at_port =
        |name: &str, parent: &str, rules: &str| route("HTTPRoute", "mesh", name, parent, rules);
    lab.apply(
        &(at_port("one", "name: v1, port: 80", &mark("v1", "v1"))
            + &at_port("all", "name: v2", &mark("v2", "v2"))),
    );
    for (url, route) in [
        ("v1.mesh/", Some("v1")),
        ("v1.mesh:8080/", None),
        ("v2.mesh/", Some("v2")),
        ("v2.mesh:8080/", Some("v2")),
    ] {
        let answer = get(url).answer(&lab);
        assert_eq!(marked(&answer).as_deref(), route, "{url}");
        assert_eq!(answer.server(), url[..2], "{url}");
    }
}

/// MeshConsumerRoute.
#[test]
fn a_consumer_s_route_is_for_its_own_namespace() {
    let lab = lab();
    let rules = "- filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: consumer}]}}]\n  \
                 backendRefs: [{name: v1, namespace: mesh, port: 80}]";
    let consumer = route("HTTPRoute", "consumer", "mine", "name: v1", rules);
    lab.apply(&consumer);
    let from = |client| Call::get(client, "v1.mesh/").answer(&lab);
    assert_eq!(
        from(CONSUMER).header("x-route").as_deref(),
        Some("consumer")
    );
    assert_eq!(from(CONSUMER).server(), "v1");
    assert_eq!(from(CLIENT).header("x-route"), None);
    assert_eq!(from(CLIENT).server(), "v1");
    // Its own backends are those of its namespace, and the producer's route is then not for it.
    lab.apply(&(server("consumer", "v1", "node-1") + &service("consumer", "v1", "version: v1")));
    lab.apply(&http_route(
        "theirs",
        "v1",
        "- backendRefs: [{name: v2, port: 80}]",
    ));
    lab.apply(&route(
        "HTTPRoute",
        "consumer",
        "mine",
        "name: v1",
        "- backendRefs: [{name: v1, port: 80}]",
    ));
    let place = |client| {
        let received = from(client).received();
        [received["namespace"].clone(), received["hostname"].clone()]
    };
    assert_eq!(place(CONSUMER), ["consumer", "v1"]);
    assert_eq!(place(CLIENT), ["mesh", "v2"]);
    lab.delete(&consumer);
    assert_eq!(place(CONSUMER), ["mesh", "v2"]);
}
