//! DNS of pods in the mesh. Answers of the mesh live for 30 seconds, those of the cluster's own DNS for 5, those of the peer in a pod
//! for 77: so it is seen who answered.

use std::time::Duration;

use ambit_lab::harness::{Lab, Options, eventually, program};

use crate::fixtures::{AMBIENT, addresses, client, cluster_ips, echo, namespace, service, text};

const PATIENCE: Duration = Duration::from_secs(20);
/// The answers of a headless service that are too long for a datagram without EDNS.
const MANY: u8 = 40;

/// What `dig` shows of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    flags: Vec<String>,
    /// `LIFETIME TYPE DATA`, in order.
    records: Vec<String>,
    size: usize,
}

fn dig(lab: &Lab, pod: &str, arguments: &[&str]) -> Answer {
    let mut argv = vec!["dig", "+tries=1", "+timeout=8", "+nocookie"];
    argv.extend(arguments);
    let said = lab.exec(pod, &argv).success();
    let after = |mark: &str, end: char| {
        let rest = said.split_once(mark).map(|(_, rest)| rest);
        let found = rest.and_then(|rest| rest.split(end).next());
        found
            .unwrap_or_else(|| panic!("{mark} is missing: {said}"))
            .trim()
            .to_owned()
    };
    let records = said
        .lines()
        .filter(|line| !line.starts_with(';') && !line.is_empty());
    let mut records: Vec<String> = records
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            [&fields[1..2], &fields[3..]].concat().join(" ")
        })
        .collect();
    records.sort();
    Answer {
        status: after("status:", ','),
        flags: after("flags:", ';').split(' ').map(str::to_owned).collect(),
        records,
        size: after("rcvd:", '\n').parse().expect("a number"),
    }
}

/// The records of an answer that went well.
fn records(lab: &Lab, pod: &str, arguments: &[&str]) -> Vec<String> {
    let answer = dig(lab, pod, arguments);
    assert_eq!(answer.status, "NOERROR", "{pod} {arguments:?}: {answer:?}");
    answer.records
}

/// A DNS server in a pod.
fn names(name: &str, node: &str) -> String {
    let command = format!("command: [{}, names]", program("peer").display());
    client("shop", name, node).replace("command: [sleep, infinity]", &command)
}

/// A headless service `many` with endpoints that are no pods.
fn many() -> String {
    let endpoints: String = (1..=MANY)
        .map(|number| format!("- {{addresses: [192.0.2.{number}], conditions: {{ready: true}}}}\n"))
        .collect();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: many, namespace: shop}}\n\
         spec: {{clusterIP: None, ports: [{{name: web, port: 80}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: many-1, namespace: shop, labels: {{kubernetes.io/service-name: many}}}}\n\
         addressType: IPv4\nports: [{{name: web, port: 80}}]\nendpoints:\n{endpoints}"
    )
}

/// A StatefulSet `db` of two pods with its headless service.
fn set() -> String {
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: shop}\n\
     spec: {clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: {app: db}, ports: [{name: web, port: 8080}]}\n\
     ---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db, namespace: shop}\n\
     spec:\n  replicas: 2\n  serviceName: db\n  selector: {matchLabels: {app: db}}\n  template:\n    \
     metadata: {labels: {app: db}}\n    spec: {containers: [{name: c, image: 'ambit/echo:1'}]}\n"
        .to_owned()
}

/// Namespace `shop` in the mesh, `plain` outside.
fn lab() -> Lab {
    let mut manifests = namespace("shop", AMBIENT) + &namespace("plain", "");
    manifests += &echo("shop", "echo-1", "node-1");
    manifests += &service("shop", "echo-1", "name: echo-1");
    for number in [1, 2] {
        manifests += &client(
            "shop",
            &format!("client-{number}"),
            &format!("node-{number}"),
        );
    }
    manifests += &client("plain", "client", "node-1");
    let alone = client("shop", "alone", "node-1");
    let annotated = "labels: {app: client}, annotations: {ambient.istio.io/dns-capture: 'false'}";
    manifests += &alone.replace("labels: {app: client}", annotated);
    manifests += &names("names", "node-2");
    manifests += &set();
    manifests += &many();
    manifests += "---\napiVersion: v1\nkind: Service\nmetadata: {name: out, namespace: shop}\n\
        spec: {type: ExternalName, externalName: example.org}\n";
    Lab::start(&Options {
        mesh: true,
        manifests,
        ..Options::default()
    })
}

#[test]
fn pods_ask_and_the_mesh_answers() {
    let lab = lab();
    services_and_pods(&lab);
    forwarding(&lab);
    truncation(&lab);
    who_is_captured(&lab);
    told(&lab);
    without_the_control_plane(&lab);
}

fn services_and_pods(lab: &Lab) {
    let [v4, v6] = cluster_ips(lab, "shop/echo-1");
    let pods: Vec<[String; 2]> = ["db-0", "db-1"]
        .map(|name| addresses(lab, &format!("shop/{name}")))
        .into();
    let mut all = [
        format!("30 A {}", pods[0][0]),
        format!("30 A {}", pods[1][0]),
    ];
    all.sort();
    // echo-1 runs on the node of client-1, and not on that of client-2.
    for pod in ["shop/client-1", "shop/client-2"] {
        for transport in ["+notcp", "+tcp"] {
            let ask = |name: &str, kind: &str| records(lab, pod, &[transport, name, kind]);
            let full = "echo-1.shop.svc.cluster.local";
            assert_eq!(ask(full, "A"), [format!("30 A {v4}")], "{pod} {transport}");
            assert_eq!(ask(full, "AAAA"), [format!("30 AAAA {v6}")]);
            assert_eq!(ask("echo-1", "A"), [format!("30 A {v4}")]);
            assert_eq!(ask("echo-1.shop.svc", "A"), [format!("30 A {v4}")]);
            assert_eq!(ask("db.shop.svc.cluster.local", "A"), all);
            assert_eq!(
                ask("db-1.db.shop.svc.cluster.local", "A"),
                [format!("30 A {}", pods[1][0])]
            );
            assert_eq!(
                ask("_web._tcp.db.shop.svc.cluster.local", "SRV"),
                ["db-0", "db-1"]
                    .map(|pod| format!("30 SRV 0 100 8080 {pod}.db.shop.svc.cluster.local."))
            );
        }
        // As any program asks, with search domains.
        let answer = lab.get(pod, "http://db-0.db:8080/");
        assert_eq!(answer["hostname"], "db-0");
        assert_eq!(lab.get(pod, "http://echo-1/")["hostname"], "echo-1");
    }
    let shouted = lab.exec(
        "shop/client-1",
        &[
            "dig",
            "+noall",
            "+question",
            "+answer",
            "ECHO-1.Shop.svc.cluster.local",
        ],
    );
    assert_eq!(
        shouted
            .clone()
            .success()
            .matches("ECHO-1.Shop.svc.cluster.local.")
            .count(),
        2,
        "{shouted}"
    );
    // By IPv6 as well.
    let dns = "@fd00:10:96::a";
    assert_eq!(
        records(lab, "shop/client-1", &[dns, "echo-1", "A"]),
        [format!("30 A {v4}")]
    );
    assert_eq!(
        records(lab, "shop/client-1", &[dns, "+tcp", "echo-1", "A"]),
        [format!("30 A {v4}")]
    );
}

fn forwarding(lab: &Lab) {
    let here = addresses(lab, "shop/client-1");
    let there = addresses(lab, "shop/names");
    // The cluster's own DNS knows.
    assert_eq!(
        records(lab, "shop/client-1", &["out.shop.svc.cluster.local", "A"]),
        ["5 CNAME example.org."]
    );
    let nobody = dig(
        lab,
        "shop/client-1",
        &["nobody.shop.svc.cluster.local", "A"],
    );
    assert_eq!((&*nobody.status, nobody.records.len()), ("NXDOMAIN", 0));
    // Whichever resolver a pod asks is asked, from the pod's own address (defect 13 of the reference).
    for family in [0, 1] {
        for (transport, protocol) in [("+notcp", "udp"), ("+tcp", "tcp")] {
            let resolver = format!("@{}", there[family]);
            let said = records(
                lab,
                "shop/client-1",
                &[&resolver, transport, "anything", "TXT"],
            );
            assert_eq!(
                said,
                [format!(
                    "77 TXT \"line 0: {} asked by {protocol}\"",
                    here[family]
                )]
            );
        }
    }
    let resolver = format!("@{}", there[0]);
    for (name, status) in [
        ("nothing.", "NXDOMAIN"),
        ("refused.", "REFUSED"),
        ("silent.", "SERVFAIL"),
    ] {
        assert_eq!(
            dig(lab, "shop/client-1", &[&resolver, name, "TXT"]).status,
            status,
            "{name}"
        );
    }
    let zone = ["dig", "+tries=1", "+timeout=8", &resolver, "zone.", "AXFR"];
    let zone = lab.exec("shop/client-1", &zone).success();
    assert!(zone.contains("XFR size: 3 records (messages 2,"), "{zone}");
    // What the mesh has is the mesh's to say, whoever is asked.
    let [v4, _] = cluster_ips(lab, "shop/echo-1");
    assert_eq!(
        records(lab, "shop/client-1", &[&resolver, "echo-1", "A"]),
        [format!("30 A {v4}")]
    );
    // The proxy itself is no resolver.
    let round = dig(
        lab,
        "shop/client-1",
        &["-p", "15053", "@127.0.0.1", "example.org", "A"],
    );
    assert_eq!(round.status, "REFUSED");
}

fn truncation(lab: &Lab) {
    let name = "many.shop.svc.cluster.local";
    let resolver = format!("@{}", addresses(lab, "shop/names")[0]);
    for (case, arguments) in [
        ("the mesh's", vec![name, "A"]),
        ("another's", vec![&*resolver, "long.", "TXT"]),
    ] {
        let ask = |more: &[&str]| dig(lab, "shop/client-1", &[&arguments[..], more].concat());
        let cut = ask(&["+noedns", "+ignore"]);
        assert!(
            cut.flags.contains(&"tc".to_owned()) && cut.size <= 512,
            "{case}: {cut:?}"
        );
        // dig asks again by TCP.
        let count = if case == "the mesh's" {
            usize::from(MANY)
        } else {
            30
        };
        let whole = ask(&["+noedns"]);
        assert_eq!(whole.records.len(), count, "{case}: {whole:?}");
        let large = ask(&["+bufsize=4096", "+ignore"]);
        assert_eq!(large.records.len(), count, "{case}: {large:?}");
    }
}

fn who_is_captured(lab: &Lab) {
    let [v4, _] = cluster_ips(lab, "shop/echo-1");
    for (pod, lifetime) in [
        ("shop/client-2", 30),
        ("shop/alone", 5),
        ("plain/client", 5),
    ] {
        let said = records(lab, pod, &["echo-1.shop.svc.cluster.local", "A"]);
        assert_eq!(said, [format!("{lifetime} A {v4}")], "{pod}");
    }
}

fn told(lab: &Lab) {
    let page = ["curl", "-s", "localhost:15020/metrics"];
    let metrics = lab.exec("node/node-1", &page).success();
    for series in [
        "istio_dns_requests_total{request_query_type=\"a\",request_protocol=\"udp\",source_canonical_service=\"client\"",
        "istio_dns_upstream_requests_total{request_query_type=\"txt\",request_protocol=\"tcp\",",
        "istio_dns_upstream_failures_total{request_query_type=\"txt\",request_protocol=\"udp\",",
        "istio_dns_upstream_request_duration_seconds_bucket{",
    ] {
        assert!(metrics.contains(series), "{series}: {metrics}");
    }
}

fn without_the_control_plane(lab: &Lab) {
    let _ = lab.run(["kill", "control"]).success();
    let [v4, _] = cluster_ips(lab, "shop/echo-1");
    let answered = records(lab, "shop/client-1", &["echo-1", "A"]);
    assert_eq!(answered, [format!("30 A {v4}")]);
    // The node proxy killed: what it knew is on disk.
    let _ = lab.run(["kill", "ztunnel/node-1"]).success();
    let again = eventually("an answer", PATIENCE, || {
        let said = lab.exec(
            "shop/client-1",
            &["dig", "+tries=1", "+timeout=1", "+short", "echo-1"],
        );
        // Beside the answer there may be a remark about a server that did not answer.
        let mut answers = said.stdout.lines().filter(|line| !line.starts_with(";;"));
        answers.next().map(ToOwned::to_owned)
    });
    assert_eq!(again, v4);
}

/// An entry of namespace `shop` with a port 80 that leads to 8080.
fn entry(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{hosts: [{name}.internal], ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}], {spec}}}\n"
    )
}

#[test]
fn hosts_of_entries_have_names_addresses_and_ways() {
    let manifests = namespace("shop", AMBIENT)
        + &namespace("plain", "")
        + &echo("shop", "echo-2", "node-2")
        + &echo("plain", "outside", "node-2")
        + &service("plain", "outside", "name: outside")
        + &client("shop", "client-1", "node-1");
    let lab = Lab::start(&Options {
        mesh: true,
        manifests,
        ..Options::default()
    });
    let outside = &addresses(&lab, "plain/outside")[0];
    let named = "resolution: DNS, endpoints: [{address: outside.plain.svc.cluster.local}]";
    let named = |name: &str| entry(name, named).replace("targetPort: 8080", "targetPort: 80");
    let bound = "namespace: shop, labels: {istio.io/use-waypoint: waypoint}}";
    let own =
        "addresses: [192.0.2.77], resolution: STATIC, workloadSelector: {labels: {app: echo}}";
    lab.apply(
        &(entry("selected", "resolution: STATIC, workloadSelector: {labels: {app: echo}}")
            + &entry("outer", &format!("resolution: STATIC, endpoints: [{{address: {outside}}}]"))
            + &entry("own", own)
            // By the name that the cluster's DNS has for a service.
            + &named("named")
            + &named("through").replace("namespace: shop}", bound)
            + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: waypoint, namespace: shop}\n\
               spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n"
            + &entry("below", &format!("resolution: STATIC, endpoints: [{{address: {outside}}}]"))
                .replace("below.internal", "'*.below.internal'")),
    );
    for (host, server, given) in [
        ("selected.internal", "echo-2", true),
        ("outer.internal", "outside", true),
        ("own.internal", "echo-2", false),
        ("named.internal", "outside", true),
        ("through.internal", "outside", true),
        ("any.below.internal", "outside", true),
    ] {
        let said = records(&lab, "shop/client-1", &[host, "A"]);
        let [address] = &said[..] else {
            panic!("{host}: {said:?}")
        };
        let prefix = if given {
            "30 A 240.240."
        } else {
            "30 A 192.0.2.77"
        };
        assert!(address.starts_with(prefix), "{host}: {address}");
        let v6 = records(&lab, "shop/client-1", &[host, "AAAA"]);
        let all = v6.iter().all(|line| line.starts_with("30 AAAA 2001:2::"));
        assert!(all && v6.len() == usize::from(given), "{host}: {v6:?}");
        let answer = lab.get("shop/client-1", &format!("http://{host}/"));
        assert_eq!(answer["hostname"], server, "{host}");
        if given && !host.starts_with("any") {
            let name = host.split('.').next().expect("a name");
            let status = lab.object("serviceentry", &format!("shop/{name}"));
            let told = &status["status"]["addresses"][0];
            assert_eq!(told["host"], host);
            assert!(address.ends_with(&text(&told["value"])), "{told}");
        }
    }
    let passed = eventually("a line of the waypoint", PATIENCE, || {
        let log = lab
            .run(["logs", "-n", "shop", "waypoint/waypoint"])
            .success();
        log.contains("through.internal").then_some(log)
    });
    assert!(!passed.contains("named.internal"), "{passed}");
    // To the pod of the mesh it is mutual TLS.
    let tunnel = "src.identity=\"spiffe://cluster.local/ns/shop/sa/client-1\"";
    eventually("a line of the tunnel", PATIENCE, || {
        let log = lab.logs("ztunnel/node-2");
        let found = |line: &str| line.contains(tunnel) && line.contains("echo-2");
        log.lines().any(found).then_some(())
    });
    // Its name goes with it.
    let _ = lab
        .run(["delete", "-n", "shop", "serviceentry", "outer"])
        .success();
    assert_eq!(
        dig(&lab, "shop/client-1", &["outer.internal", "A"]).status,
        "NXDOMAIN"
    );
}
