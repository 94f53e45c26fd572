use std::time::Duration;

use super::*;
use ambit_proxy::config::Listen;
use ambit_proxy::config::value::{Cpus, Value, Workers};

fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn config(pairs: &[(&str, &str)]) -> Config {
    Config::from_env(vars(pairs)).expect("valid")
}

#[test]
fn defaults() {
    let config = config(&[]);
    assert_eq!(config.mesh.cluster_id, "Kubernetes");
    assert_eq!(config.mesh.trust_domain.as_str(), "cluster.local");
    assert_eq!(config.mesh.root_namespace.0, "istio-system");
    assert_eq!(
        config.control_plane.xds_address.to_string(),
        "https://localhost:15012"
    );
    assert_eq!(config.control_plane.secret_ttl, Duration::from_secs(86_400));
    assert_eq!(
        config.pods.inpod_uds.to_str(),
        Some("/var/run/ztunnel/ztunnel.sock")
    );
    assert_eq!(config.pods.packet_mark, 1337);
    assert_eq!(config.pods.node_local, NodeLocal::Direct);
    assert_eq!(config.pods.outbound_policy.to_string(), "ALLOW_ANY");
    assert_eq!(config.servers.admin.show(), "localhost:15000");
    assert_eq!(config.servers.stats.show(), "[::]:15020");
    assert_eq!(config.drain.grace, Duration::from_secs(5));
    assert_eq!(config.log.filter.0, "info");
}

#[test]
fn what_pods_may_reach_is_one_of_two_words() {
    let name = "AMBIT_OUTBOUND_TRAFFIC_POLICY";
    let read = config(&[(name, "REGISTRY_ONLY")]).pods.outbound_policy;
    assert_eq!(read.to_string(), "REGISTRY_ONLY");
    let wrong = Config::from_env(vars(&[(name, "registry-only")])).expect_err("no such word");
    let line = format!("{name}=\"registry-only\": expected ALLOW_ANY or REGISTRY_ONLY");
    assert!(wrong.to_string().contains(&line), "{wrong}");
}

#[test]
fn an_empty_variable_is_not_set() {
    assert_eq!(config(&[("SECRET_TTL", ""), ("NETWORK", " ")]), config(&[]));
}

#[test]
fn on_kubernetes_the_control_plane_has_its_usual_name() {
    let config = config(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1")]);
    let address = config.control_plane.ca_address.to_string();
    assert_eq!(address, "https://istiod.istio-system.svc:15012");
}

#[test]
fn metadata_and_headers_are_collected_by_prefix() {
    let config = config(&[
        ("ISTIO_META_CLUSTER_ID", "east"),
        ("ISTIO_META_DNS_CAPTURE", "true"),
        ("XDS_HEADER_x-tenant", "a"),
        ("CA_HEADER_x-tenant", "b"),
        ("CLUSTER_ID", "west"),
    ]);
    assert_eq!(
        config.mesh.cluster_id, "east",
        "the chart's name for it wins"
    );
    assert_eq!(config.mesh.metadata["DNS_CAPTURE"], "true");
    assert_eq!(config.control_plane.xds_headers["x-tenant"], "a");
    assert_eq!(config.control_plane.ca_headers["x-tenant"], "b");
}

#[test]
fn the_grace_period_leaves_room_before_sigkill() {
    for (set, grace) in [
        (&[("TERMINATION_GRACE_PERIOD_SECONDS", "30")][..], 25),
        (&[("TERMINATION_GRACE_PERIOD_SECONDS", "10")], 9),
        (&[("TERMINATION_GRACE_PERIOD_SECONDS", "0")], 1),
        (&[("TERMINATION_GRACE_PERIOD_SECONDS", "1")], 1),
        (
            &[
                ("TERMINATION_GRACE_PERIOD_SECONDS", "30"),
                ("CONNECTION_TERMINATION_DEADLINE", "1m"),
            ],
            60,
        ),
    ] {
        assert_eq!(
            config(set).drain.grace,
            Duration::from_secs(grace),
            "{set:?}"
        );
    }
}

#[test]
fn worker_threads() {
    for (set, workers) in [
        (&[("ZTUNNEL_WORKER_THREADS", "3")][..], 3),
        (
            &[
                ("ZTUNNEL_WORKER_THREADS", "50%"),
                ("ZTUNNEL_CPU_LIMIT", "8"),
            ],
            4,
        ),
        (
            &[("ZTUNNEL_WORKER_THREADS", "1%"), ("ZTUNNEL_CPU_LIMIT", "8")],
            1,
        ),
        (
            &[("ZTUNNEL_WORKER_THREADS", "0"), ("ZTUNNEL_CPU_LIMIT", "8")],
            8,
        ),
        (&[("ZTUNNEL_CPU_LIMIT", "4")], 2),
        (&[("ZTUNNEL_CPU_LIMIT", "64")], 16),
        (
            &[
                ("ZTUNNEL_RESOURCE_CPU_LIMIT", "500m"),
                ("ZTUNNEL_CPU_LIMIT", "64"),
            ],
            1,
        ),
        (
            &[
                ("ZTUNNEL_RESOURCE_CPU_REQUEST", "2.5"),
                ("ZTUNNEL_CPU_LIMIT", "4"),
            ],
            3,
        ),
    ] {
        assert_eq!(config(set).threads.workers, workers, "{set:?}");
    }
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let bad = [
        ("SECRET_TTL", "1 fortnight"),
        ("XDS_ADDRESS", "ftp://x:1"),
        ("CA_ROOT_CA", "SYSTEM"),
        ("INSTANCE_IP", "10.0.0"),
        ("HTTP2_FRAME_SIZE", "1"),
        ("ZTUNNEL_WORKER_THREADS", "lots"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "a=loud"),
        ("TRUST_DOMAIN", "a/b"),
        ("AMBIT_TRUST_DOMAIN_ALIASES", "good,b ad"),
        ("AMBIT_ROOT_NAMESPACE", "Mesh/Root"),
        ("AMBIT_NODE_LOCAL", "maybe"),
        ("AMBIT_NO_SUCH_THING", "1"),
        ("PROXY_MODE", "sidecar"),
        ("PROXY_WORKLOAD_INFO", "shop/vm"),
        ("LOCAL_XDS_PATH", "/x"),
        ("FAKE_CA", "true"),
        ("ALT_CA_HOSTNAME", "not a name"),
    ];
    let Problems(problems) = Config::from_env(vars(&bad)).expect_err("all are wrong");
    for (name, value) in bad {
        let problem = problems.iter().find(|p| p.name == name).expect(name);
        assert_eq!(problem.value, value);
        assert!(!problem.accepts.is_empty(), "{name}");
    }
    assert_eq!(problems.len(), bad.len(), "{problems:?}");
}

#[test]
fn what_is_not_supported_may_be_switched_off() {
    config(&[
        ("PROXY_MODE", "shared"),
        ("FAKE_CA", "false"),
        ("LOCAL_XDS_PATH", ""),
    ]);
}

#[test]
fn a_machine_says_who_it_is_and_leaves_its_ssh_alone() {
    let mode = ("PROXY_MODE", "dedicated");
    let who = ("PROXY_WORKLOAD_INFO", "shop/vm-1/vm");
    assert_eq!(config(&[who]).machine, None);
    let machine = |more: &[(&str, &str)]| {
        let all = [&[mode, who], more].concat();
        config(&all)
    };
    let read = machine(&[]);
    assert_eq!(
        [
            &*read.mesh.pod_namespace,
            &*read.mesh.pod_name,
            &*read.mesh.service_account
        ],
        ["shop", "vm-1", "vm"]
    );
    let exclusions = read.machine.expect("a machine").exclusions;
    assert_eq!(exclusions.inbound_ports, [22].into());
    let all = machine(&[
        ("AMBIT_EXCLUDE_INBOUND_PORTS", "none"),
        ("AMBIT_EXCLUDE_OUTBOUND_PORTS", "53, 123"),
        ("AMBIT_EXCLUDE_OUTBOUND_RANGES", "169.254.169.254"),
    ]);
    let exclusions = all.machine.expect("a machine").exclusions;
    assert_eq!(exclusions.inbound_ports, [].into());
    assert_eq!(exclusions.outbound_ports, [53, 123].into());
    assert_eq!(exclusions.outbound_ranges.len(), 1);
    for (name, value, why) in [
        (
            "AMBIT_EXCLUDE_INBOUND_PORTS",
            "22,15008",
            "a port of the node proxy itself",
        ),
        (
            "AMBIT_EXCLUDE_OUTBOUND_RANGES",
            "metadata",
            "\"metadata\" is none",
        ),
        ("PROXY_WORKLOAD_INFO", "", "NAMESPACE/NAME/SERVICE-ACCOUNT"),
        (
            "PROXY_WORKLOAD_INFO",
            "shop/vm-1/",
            "NAMESPACE/NAME/SERVICE-ACCOUNT",
        ),
        ("PACKET_MARK", "7", "expected 1337"),
    ] {
        let read = Config::from_env(vars(&[mode, who, (name, value)]));
        let Problems(problems) = read.expect_err("wrong");
        let [problem] = &problems[..] else {
            panic!("{problems:?}");
        };
        assert_eq!(problem.name, name);
        assert!(problem.accepts.contains(why), "{problem}");
    }
}

#[test]
fn what_is_set_in_vain_is_named() {
    let config = config(&[("KEEPALIVE_TIME", "10s"), ("IPV6_ENABLED", "")]);
    assert_eq!(config.without_effect, ["KEEPALIVE_TIME"]);
}

#[test]
fn durations() {
    for (text, millis) in [
        ("500ms", 500),
        ("30s", 30_000),
        ("1h30m", 5_400_000),
        ("0s", 0),
        ("0", 0),
    ] {
        assert_eq!(
            Duration::read(text),
            Ok(Duration::from_millis(millis)),
            "{text}"
        );
    }
    for text in [
        "",
        "30",
        "s",
        "1d",
        "-1s",
        "1.5s",
        "99999999999999999999h",
        "9999999999999999h",
    ] {
        let read = Duration::read(text);
        assert!(text.is_empty() == read.is_ok(), "{text}: {read:?}");
    }
}

#[test]
fn values_read_what_they_show() {
    fn same<T: Value + PartialEq + std::fmt::Debug>(text: &str) {
        let value = T::read(text).expect(text);
        assert_eq!(value.show(), text);
        assert_eq!(T::read(&value.show()), Ok(value));
    }
    same::<Duration>("90s");
    same::<Duration>("24h");
    same::<Duration>("1500ms");
    same::<Listen>("localhost:1");
    same::<Listen>("127.0.0.1:1");
    same::<Listen>("[::]:1");
    same::<Cpus>("3");
    same::<Workers>("25%");
    same::<NodeLocal>("tunnel");
}

#[test]
fn every_variable_is_described() {
    let variables = Config::variables();
    assert!(!variables.is_empty());
    for known in variables {
        assert!(
            !known.about.is_empty() && !known.accepts.is_empty(),
            "{}",
            known.name
        );
    }
}
