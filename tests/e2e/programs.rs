//! Unmodified programs talk through the mesh: to the other node and on their own, over both
//! families, by service address, by pod address and by name; and with what is not enrolled.

use ambit_lab::harness::Lab;

use crate::fixtures::{addresses, client, cluster_ips, echo, host, namespace, service, text};
use crate::flows::{flow, flow_that, flows, identity, local, metric, start, tunnelled};

/// How many bytes the integrity tests send each way; the figure of a release is 1073741824.
const TRANSFER: &str = "AMBIT_TEST_TRANSFER_BYTES";

const NGINX: &str = r#"---
apiVersion: v1
kind: ConfigMap
metadata: {name: nginx, namespace: shop}
data:
  nginx.conf: |
    daemon off;
    pid /srv/data/nginx.pid;
    events {}
    http {
      access_log off;
      client_body_temp_path /srv/data/body; proxy_temp_path /srv/data/proxy;
      fastcgi_temp_path /srv/data/fastcgi; uwsgi_temp_path /srv/data/uwsgi; scgi_temp_path /srv/data/scgi;
      server {
        listen 8080; listen [::]:8080;
        location / { default_type text/plain; return 200 "nginx to $remote_addr\n"; }
      }
    }
"#;

/// The real servers. They do not run as root, and the lab of an ordinary user has no other user: a
/// user namespace of their own gives them one, wherever the tests run.
const SERVERS: [(&str, u16, &str); 4] = [
    (
        "nginx",
        8080,
        "PATH=$PATH:/usr/sbin\n\
         exec unshare --user --map-user=1 --map-group=1 nginx -e stderr -c /srv/conf/nginx.conf",
    ),
    (
        "redis",
        6379,
        "exec redis-server --bind '* -::*' --protected-mode no --save '' --dir /srv/data",
    ),
    (
        "postgres",
        5432,
        "PATH=$PATH:$(pg_config --bindir)\n\
         as() { unshare --user --map-user=1 --map-group=1 \"$@\"; }\n\
         as initdb -D /srv/data/db -U app -A trust --no-locale -E UTF8 --no-sync >&2\n\
         echo 'host all all all trust' >> /srv/data/db/pg_hba.conf\n\
         exec unshare --user --map-user=1 --map-group=1 postgres -D /srv/data/db -h '*' -k '' -F",
    ),
    ("iperf", 5201, "exec iperf3 --server"),
];

/// A server on node-1 with its own service account, and its service on port 80 or its own.
fn server(name: &str, port: u16, script: &str) -> String {
    let script = script.replace('\n', "\n      ");
    let service_port = if port == 8080 { 80 } else { port };
    format!(
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: shop}}\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  ipFamilyPolicy: PreferDualStack\n  selector: {{app: {name}}}\n  \
         ports: [{{port: {service_port}, targetPort: {port}}}]\n\
         ---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}\n\
         spec:\n  serviceAccountName: {name}\n  nodeName: node-1\n  terminationGracePeriodSeconds: 1\n  \
         volumes: [{{name: data, emptyDir: {{}}}}, {{name: conf, configMap: {{name: nginx}}}}]\n  \
         containers:\n  - name: c\n    command:\n    - sh\n    - -ec\n    - |\n      {script}\n    \
         volumeMounts: [{{name: data, mountPath: /srv/data}}, {{name: conf, mountPath: /srv/conf}}]\n    \
         readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}\n"
    )
}

/// The real servers on node-1, and a client on each node.
fn servers() -> Lab {
    let mut manifests = namespace("shop", "istio.io/dataplane-mode: ambient") + NGINX;
    for (name, port, script) in SERVERS {
        manifests += &server(name, port, script);
    }
    for number in [1, 2] {
        manifests += &client(
            "shop",
            &format!("client-{number}"),
            &format!("node-{number}"),
        );
    }
    start(manifests, &[])
}

/// The ways to reach the service and pod `name`: host and port.
fn ways(lab: &Lab, name: &str, service_port: u16, port: u16) -> Vec<(String, u16)> {
    let object = format!("shop/{name}");
    let by_service = cluster_ips(lab, &object).map(|ip| (ip, service_port));
    let by_pod = addresses(lab, &object).map(|ip| (ip, port));
    let by_name = [name.to_owned(), format!("{name}.shop.svc.cluster.local")];
    let by_name = by_name.map(|name| (name, service_port));
    [by_service, by_pod, by_name]
        .into_iter()
        .flatten()
        .collect()
}

/// Runs what `command` makes of every way to reach `name`, on both nodes, and says the answers to
/// `check` with the addresses of the client.
fn every_way(
    lab: &Lab,
    (name, service_port, port): (&str, u16, u16),
    command: impl Fn(&str, u16) -> Vec<String>,
    check: impl Fn(&str, &[String; 2]) -> bool,
) {
    for client in ["client-1", "client-2"] {
        let own = addresses(lab, &format!("shop/{client}"));
        for (host, port) in ways(lab, name, service_port, port) {
            let argv = command(&host, port);
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            let answer = lab.exec(&format!("shop/{client}"), &argv).success();
            assert!(check(&answer, &own), "{client}: {argv:?} said {answer}");
        }
    }
    tunnelled(
        lab,
        "shop",
        [("client-2", "node-2"), (name, "node-1")],
        port,
    );
    local(lab, "shop", "node-1", ["client-1", name]);
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn real_clients_talk_to_real_servers() {
    let lab = servers();
    every_way(
        &lab,
        ("nginx", 80, 8080),
        |to, port| words(&["curl", "-sSf", &format!("http://{}:{port}/", host(to))]),
        |answer, own| own.iter().any(|ip| answer == format!("nginx to {ip}\n")),
    );
    every_way(
        &lab,
        ("redis", 6379, 6379),
        |to, port| {
            let port = port.to_string();
            words(&[
                "redis-cli",
                "-h",
                to,
                "-p",
                &port,
                "eval",
                "return 6*7",
                "0",
            ])
        },
        |answer, _| answer == "42\n",
    );
    let question = "select inet_client_addr(), sum(x) from generate_series(1, 20000) x";
    every_way(
        &lab,
        ("postgres", 5432, 5432),
        |to, port| {
            let login = format!("host={to} port={port} user=app dbname=postgres");
            words(&["psql", &login, "-Atc", question])
        },
        |answer, own| own.iter().any(|ip| answer == format!("{ip}|200010000\n")),
    );
    every_way(
        &lab,
        ("iperf", 5201, 5201),
        |to, port| {
            let port = port.to_string();
            words(&[
                "iperf3", "-c", to, "-p", &port, "-n", "32M", "-P", "2", "--json",
            ])
        },
        |answer, _| {
            let report: serde_json::Value = serde_json::from_str(answer).unwrap_or_default();
            // The server's own count is taken while the last bytes are on their way.
            let bytes = |way: &str| report["end"][way]["bytes"].as_u64();
            bytes("sum_sent") >= Some(32 << 20) && bytes("sum_received") > Some(1 << 20)
        },
    );
    // Both families by name, where the client can be told.
    for (pod, family) in [
        ("client-1", "-4"),
        ("client-1", "-6"),
        ("client-2", "-4"),
        ("client-2", "-6"),
    ] {
        let own = addresses(&lab, &format!("shop/{pod}"));
        let own = &own[usize::from(family == "-6")];
        let said = lab.exec(
            &format!("shop/{pod}"),
            &["curl", "-sSf", family, "http://nginx/"],
        );
        assert_eq!(said.success(), format!("nginx to {own}\n"));
    }
}

/// Two echo servers and two clients that are enrolled, and a pod of each that is not.
fn echoes(more: &[&str]) -> Lab {
    let mut manifests =
        namespace("shop", "istio.io/dataplane-mode: ambient") + &namespace("outside", "");
    for number in [1, 2] {
        let (name, node) = (format!("echo-{number}"), format!("node-{number}"));
        manifests += &echo("shop", &name, &node);
        manifests += &service("shop", &name, &format!("name: {name}"));
        manifests += &client("shop", &format!("client-{number}"), &node);
    }
    manifests += &echo("outside", "plain", "node-2");
    manifests += &service("outside", "plain", "name: plain");
    manifests += &client("outside", "stranger", "node-1");
    start(manifests, more)
}

#[test]
fn grpc_websocket_and_http2_pass() {
    let lab = echoes(&[]);
    let pairs = [
        ("client-1", "echo-2"),
        ("client-1", "echo-1"),
        ("client-2", "echo-1"),
    ];
    for (client, server) in pairs {
        let url = format!("http://{server}/");
        let base = format!("http://{server}");
        let runs: [&[&str]; 6] = [
            &["grpc", &base, "-n", "20", "--method", "unary"],
            &["grpc", &base, "-n", "5", "--method", "server-stream"],
            &["grpc", &base, "-n", "5", "--method", "client-stream"],
            &["grpc", &base, "-n", "5", "--method", "bidi", "-6"],
            &["websocket", &url, "-n", "50", "-c", "2", "--size", "70000"],
            &[
                "http",
                &url,
                "-n",
                "100",
                "-c",
                "4",
                "--h2",
                "--streams",
                "4",
            ],
        ];
        for arguments in runs {
            let _ = lab.load(&format!("shop/{client}"), arguments).success();
        }
    }
    tunnelled(
        &lab,
        "shop",
        [("client-1", "node-1"), ("echo-2", "node-2")],
        8080,
    );
    tunnelled(
        &lab,
        "shop",
        [("client-2", "node-2"), ("echo-1", "node-1")],
        8080,
    );
    local(&lab, "shop", "node-1", ["client-1", "echo-1"]);
}

#[test]
fn the_app_sees_its_caller_and_every_byte_arrives() {
    let lab = echoes(&[]);
    let bytes = std::env::var(TRANSFER).unwrap_or_else(|_| (256 << 20).to_string());
    for server in ["echo-1", "echo-2"] {
        let own = addresses(&lab, "shop/client-1");
        let both = [
            cluster_ips(&lab, &format!("shop/{server}")),
            addresses(&lab, &format!("shop/{server}")),
        ];
        for (way, port) in both.iter().zip([80, 8080]) {
            for (to, own) in way.iter().zip(&own) {
                let answer = lab.get("shop/client-1", &format!("http://{}:{port}/", host(to)));
                let caller = text(&answer["remote_address"]);
                assert!(
                    caller.starts_with(&format!("{}:", host(own))),
                    "{caller} is not {own}"
                );
            }
        }
        let target = format!("{server}:80");
        let arguments = [
            "bulk",
            "--json",
            "--checksum",
            "--direction",
            "both",
            "--bytes",
            &bytes,
            &target,
        ];
        let report = lab.load("shop/client-1", &arguments).json();
        assert_eq!(report["transfer"]["verified"], true, "{report}");
        for way in ["sent_bytes", "received_bytes"] {
            assert_eq!(report["transfer"][way].to_string(), bytes, "{report}");
        }
    }
}

#[test]
fn outside_and_mesh_talk_in_plain_text_until_strict() {
    let lab = echoes(&[]);
    let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
        metadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n";
    let out = |from: &str| lab.get(from, "http://plain.outside/")["hostname"] == "plain";
    let into = |server: &str, family: &str| {
        let url = format!("http://{server}.shop/");
        lab.load(
            "outside/stranger",
            &["get", "--fail", "--timeout", "5s", family, &url],
        )
    };
    // To the other node and on its own.
    assert!(out("shop/client-1") && out("shop/client-2"));
    for server in ["echo-1", "echo-2"] {
        for family in ["--ipv4", "--ipv6"] {
            let answer = into(server, family).json();
            let caller = text(&answer["remote_address"]);
            let own = &addresses(&lab, "outside/stranger")[usize::from(family == "--ipv6")];
            assert!(
                caller.starts_with(&format!("{}:", host(own))),
                "{caller} is not {own}"
            );
        }
    }
    let plain = flow(
        &lab,
        "node-2",
        &[("src.workload", "stranger"), ("dst.workload", "echo-2")],
    );
    assert_eq!(
        (plain.text("src.identity"), plain.text("dst.hbone_addr")),
        ("", ""),
        "{plain:?}"
    );
    let labels = [
        ("source_workload", "stranger"),
        ("connection_security_policy", "unknown"),
    ];
    assert!(
        metric(
            &lab,
            "node-2",
            "istio_tcp_connections_opened_total",
            &labels
        ) > 0.0
    );

    lab.apply(strict);
    for server in ["echo-1", "echo-2"] {
        for family in ["--ipv4", "--ipv6"] {
            let _ = into(server, family).failure();
        }
        let _ = lab.get("shop/client-1", &format!("http://{server}/"));
    }
    let _ = flow_that(&lab, "node-2", "a refusal by policy", |flow| {
        let said = flow.text("error");
        let names = said.contains("is STRICT") && said.contains("istio_converted_static_strict");
        flow.text("src.workload") == "stranger" && names
    });
    // What is outside does not ask for identities.
    assert!(out("shop/client-1") && out("shop/client-2"));
    lab.delete(strict);
    let _ = into("echo-2", "--ipv4").success();
}

#[test]
fn the_direct_path_of_a_node_can_be_a_tunnel() {
    let lab = echoes(&["--ztunnel-env", "AMBIT_NODE_LOCAL=tunnel"]);
    for family in ["--ipv4", "--ipv6"] {
        let run = lab.load(
            "shop/client-1",
            &["get", "--fail", family, "http://echo-1/"],
        );
        assert_eq!(run.json()["hostname"], "echo-1");
    }
    tunnelled(
        &lab,
        "shop",
        [("client-1", "node-1"), ("echo-1", "node-1")],
        8080,
    );
    let own = identity("shop", "client-1");
    let direct = flows(&lab, "node-1")
        .into_iter()
        .filter(|flow| flow.text("src.identity") == own);
    assert!(
        direct
            .into_iter()
            .all(|flow| flow.text("security") != "node_local")
    );
}
