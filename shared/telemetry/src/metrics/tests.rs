use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::model::{Health, Locality, NetworkMode, TunnelProtocol, Workload, WorkloadType};

use super::*;

fn workload(namespace: &str, owner: &str) -> Workload {
    Workload {
        uid: format!("Kubernetes//Pod/{namespace}/{owner}-1").into(),
        name: format!("{owner}-1").into(),
        namespace: namespace.into(),
        addresses: vec![],
        hostname: "".into(),
        network: "".into(),
        identity: Identity::new("cluster.local", namespace, owner).expect("valid"),
        tunnel_protocol: TunnelProtocol::Hbone,
        native_tunnel: false,
        waypoint: None,
        network_gateway: None,
        node: "node-1".into(),
        cluster_id: "Kubernetes".into(),
        canonical_name: owner.into(),
        canonical_revision: "v1".into(),
        workload_type: WorkloadType::Deployment,
        workload_name: owner.into(),
        authorization_policies: vec![],
        health: Health::Healthy,
        services: vec![],
        application_tunnel: None,
        locality: Locality::default(),
        network_mode: NetworkMode::Standard,
        capacity: 1,
        udp_ports: Vec::new(),
        takes_udp: false,
    }
}

fn labels<'a>(source: &'a Workload, destination: Option<&'a Workload>) -> TrafficLabels<'a> {
    TrafficLabels {
        reporter: Reporter::Source,
        source: Some(source),
        source_principal: Some(&source.identity),
        source_waypoint: None,
        destination,
        destination_principal: destination.map(|w| &w.identity),
        service: None,
        response_flags: "-",
        transport: ambit_core::plan::Transport::Tcp,
        security: Security::MutualTls,
    }
}

#[test]
fn one_label_set_is_one_series() {
    let traffic = Traffic::default();
    let (a, b) = (workload("shop", "web"), workload("shop", "db"));
    let first = traffic.series(&labels(&a, Some(&b)));
    let again = traffic.series(&labels(&a.clone(), Some(&b.clone())));
    assert!(Arc::ptr_eq(&first, &again));
    let other = [
        labels(&b, Some(&a)),
        labels(&a, None),
        TrafficLabels {
            reporter: Reporter::Destination,
            ..labels(&a, Some(&b))
        },
        TrafficLabels {
            response_flags: "DENY",
            ..labels(&a, Some(&b))
        },
        TrafficLabels {
            transport: ambit_core::plan::Transport::Tcp,
            security: Security::Unknown,
            ..labels(&a, Some(&b))
        },
        TrafficLabels {
            source_principal: None,
            ..labels(&a, Some(&b))
        },
        TrafficLabels {
            source_waypoint: Some(&b.identity),
            ..labels(&a, Some(&b))
        },
    ];
    for (at, labels) in other.iter().enumerate() {
        assert!(!Arc::ptr_eq(&first, &traffic.series(labels)), "case {at}");
    }
    assert_eq!(traffic.len(), 1 + other.len());
}

#[test]
fn renders_the_names_dashboards_expect() {
    let metrics = Metrics::default();
    let (a, b) = (workload("shop", "web"), workload("shop", "db"));
    let key = NamespacedName::new("shop", "db.shop.svc.cluster.local");
    let series = metrics.traffic().series(&TrafficLabels {
        service: Some((&key, "db")),
        ..labels(&a, Some(&b))
    });
    series.open();
    series.add_request_bytes(10);
    series.add_response_bytes(20);
    series.close();
    let text = metrics.render();
    let opened = text
        .lines()
        .find(|line| line.starts_with("istio_tcp_connections_opened_total{"))
        .expect("a sample");
    for label in [
        r#"reporter="source""#,
        r#"source_workload="web""#,
        r#"source_app="web""#,
        r#"source_version="v1""#,
        r#"source_principal="spiffe://cluster.local/ns/shop/sa/web""#,
        r#"destination_canonical_service="db""#,
        r#"destination_service="db.shop.svc.cluster.local""#,
        r#"destination_service_name="db""#,
        r#"destination_service_namespace="shop""#,
        r#"request_protocol="tcp""#,
        r#"response_flags="-""#,
        r#"connection_security_policy="mutual_tls""#,
    ] {
        assert!(opened.contains(label), "{label} in {opened}");
    }
    assert!(opened.ends_with("} 1"), "{opened}");
    assert_eq!(text.matches("istio_tcp_received_bytes_total{").count(), 1);
    assert!(
        !text.contains("istio_tcp_connections_failed_total{"),
        "nothing failed"
    );
}

#[test]
fn missing_and_empty_values_are_unknown() {
    let metrics = Metrics::default();
    let mut a = workload("shop", "web");
    a.canonical_revision = "".into();
    metrics.traffic().series(&labels(&a, None)).open();
    let text = metrics.render();
    for label in [
        r#"source_version="unknown""#,
        r#"destination_workload="unknown""#,
    ] {
        assert!(text.contains(label), "{label}");
    }
}

#[test]
fn retired_series_are_shown_once_more_and_go_when_free() {
    let metrics = Metrics::default();
    let (a, b) = (workload("shop", "web"), workload("shop", "db"));
    let held = metrics.traffic().series(&labels(&a, Some(&b)));
    held.open();
    metrics.traffic().series(&labels(&b, None)).open();
    metrics
        .traffic()
        .retire(|namespace, name| (namespace, name) == ("shop", "web"));
    assert_eq!(
        metrics.render().matches("opened_total{").count(),
        2,
        "shown once more"
    );
    assert_eq!(metrics.traffic().len(), 2, "a live connection holds it");
    drop(held);
    let _ = metrics.render();
    assert_eq!(metrics.traffic().len(), 1, "web is gone, db stays");

    metrics.traffic().retire(|_, name| name == "db");
    metrics.traffic().series(&labels(&b, None)).open();
    let _ = metrics.render();
    assert_eq!(metrics.traffic().len(), 1, "it came back");
}

#[test]
fn label_values_are_escaped() {
    let metrics = Metrics::default();
    let mut a = workload("shop", "web");
    a.workload_name = "a\"b\\c\nd".into();
    metrics.traffic().series(&labels(&a, None)).open();
    assert!(metrics.render().contains(r#"source_workload="a\"b\\c\nd""#));
}

#[test]
fn macros_reach_the_recorder() {
    let recorder = Recorder::default();
    ::metrics::with_local_recorder(&recorder, || {
        ::metrics::describe_counter!("ambit_things_total", "Things.");
        ::metrics::counter!("ambit_things_total", "kind" => "a").increment(2);
        ::metrics::gauge!("ambit.open").set(1.5);
        ::metrics::histogram!("ambit_time_milliseconds").record(7.0);
        ::metrics::histogram!("ambit_time_seconds").record(0.000_2);
        ::metrics::histogram!("istio_dns_time_seconds").record(0.007);
    });
    let mut text = String::new();
    recorder.render(&mut text);
    for line in [
        "# HELP ambit_things_total Things.",
        "# TYPE ambit_things_total counter",
        "ambit_things_total{kind=\"a\"} 2",
        "ambit_open 1.5",
        "ambit_time_milliseconds_bucket{le=\"5\"} 0",
        "ambit_time_milliseconds_bucket{le=\"10\"} 1",
        "ambit_time_milliseconds_bucket{le=\"+Inf\"} 1",
        "ambit_time_milliseconds_sum 7",
        "ambit_time_milliseconds_count 1",
        "ambit_time_seconds_bucket{le=\"0.0001\"} 0",
        "ambit_time_seconds_bucket{le=\"0.00025\"} 1",
        "istio_dns_time_seconds_bucket{le=\"0.001\"} 0",
        "istio_dns_time_seconds_bucket{le=\"0.01\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
}

#[test]
fn openmetrics_names_its_families() {
    let metrics = Metrics::default();
    ::metrics::with_local_recorder(&metrics.recorder, || {
        ::metrics::describe_counter!("ambit_things_total", "\"Things\".");
        ::metrics::counter!("ambit_things_total").increment(2);
        ::metrics::counter!("ambit_odd").increment(1);
        ::metrics::histogram!("ambit_time_milliseconds").record(7.0);
    });
    let text = metrics.render_as(Format::OpenMetrics);
    for line in [
        "# HELP ambit_things \\\"Things\\\".",
        "# TYPE ambit_things counter",
        "ambit_things_total 2",
        "# TYPE ambit_odd unknown",
        "ambit_odd 1",
        "# TYPE ambit_time_milliseconds histogram",
        "ambit_time_milliseconds_bucket{le=\"10.0\"} 1",
        "ambit_time_milliseconds_bucket{le=\"10000000.0\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n"), "{text}");
}

#[test]
fn a_waypoint_on_the_way_is_named_only_where_there_is_one() {
    let metrics = Metrics::default();
    let (a, b) = (workload("shop", "web"), workload("shop", "db"));
    let waypoint = workload("shop", "gw").identity;
    metrics.traffic().series(&labels(&a, Some(&b))).open();
    assert!(!metrics.render().contains("source_waypoint"));
    let through = TrafficLabels {
        source_waypoint: Some(&waypoint),
        ..labels(&a, Some(&b))
    };
    metrics.traffic().series(&through).open();
    let label = r#"source_waypoint="spiffe://cluster.local/ns/shop/sa/gw""#;
    assert_eq!(metrics.render().matches(label).count(), 1);
}

mod requests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn labels<'a>(source: &'a Workload, code: u16) -> RequestLabels<'a> {
        RequestLabels {
            source: Some(source),
            source_principal: Some(&source.identity),
            destination: None,
            destination_principal: None,
            service: None,
            protocol: RequestProtocol::Http,
            response_code: code,
            grpc_status: None,
            response_flags: "-",
            security: Security::MutualTls,
        }
    }

    #[test]
    fn a_request_is_counted_with_its_sizes() {
        let metrics = Metrics::default();
        let web = workload("shop", "web");
        let count = |code| {
            let series = metrics.requests().series(&labels(&web, code));
            series.count(Duration::from_millis(7), 0, 1_500);
        };
        count(200);
        count(200);
        count(503);
        assert_eq!(metrics.requests().len(), 2);
        let text = metrics.render();
        let of = |name: &str, code: &str| {
            let code = format!("response_code=\"{code}\"");
            let fits = |line: &&str| line.starts_with(name) && line.contains(&code);
            text.lines().find(fits).map(ToOwned::to_owned)
        };
        let total = of("istio_requests_total", "200").expect("shown");
        assert!(total.ends_with(" 2"), "{total}");
        assert!(total.contains("reporter=\"waypoint\""), "{total}");
        assert!(total.contains("source_workload=\"web\""), "{total}");
        assert!(
            total.contains("destination_workload=\"unknown\""),
            "{total}"
        );
        let total = of("istio_requests_total", "503").expect("shown");
        assert!(total.ends_with(" 1"), "{total}");
        for (start, end) in [
            ("istio_request_duration_milliseconds_sum", " 14"),
            ("istio_request_bytes_sum", " 0"),
            ("istio_response_bytes_sum", " 3000"),
            ("istio_response_bytes_count", " 2"),
        ] {
            let line = of(start, "200").expect(start);
            assert!(line.ends_with(end), "{line}");
        }
        let below = |le: &str| {
            let le = format!("le=\"{le}\"");
            let fits = |line: &&str| {
                line.starts_with("istio_request_duration_milliseconds_bucket")
                    && line.contains(&le)
                    && line.contains("\"200\"")
            };
            text.lines().find(fits).map(ToOwned::to_owned)
        };
        assert!(below("5").expect("a bucket").ends_with(" 0"));
        assert!(below("10").expect("a bucket").ends_with(" 2"));
    }

    #[test]
    fn the_latest_trace_of_each_bucket_is_shown_in_openmetrics() {
        let metrics = Metrics::default();
        let web = workload("shop", "web");
        let series = metrics.requests().series(&labels(&web, 200));
        let end = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        for (milliseconds, trace) in [(7, 0xa), (7, 0xb), (20_000_000, 0xc)] {
            let duration = Duration::from_millis(milliseconds);
            series.count(duration, 0, 0);
            series.exemplify(duration, trace, end);
        }
        let text = metrics.render_as(Format::OpenMetrics);
        let exemplars = text.lines().filter_map(|line| line.split_once(" # "));
        let exemplars: Vec<_> = exemplars.filter(|it| !it.0.is_empty()).collect();
        let (first, last) = (exemplars[0], exemplars[1]);
        assert_eq!(exemplars.len(), 2, "{exemplars:?}");
        assert!(
            first
                .0
                .starts_with("istio_request_duration_milliseconds_bucket{")
        );
        assert!(first.0.ends_with(",le=\"10.0\"} 2"), "{first:?}");
        let trace = format!("{{trace_id=\"{:032x}\"}}", 0xb);
        assert_eq!(first.1, format!("{trace} 7 1700000000.250"));
        assert!(last.0.ends_with(",le=\"+Inf\"} 3"), "{last:?}");
        assert!(!metrics.render().contains("trace_id"));
    }

    #[test]
    fn series_of_gone_workloads_are_shown_once_more() {
        let metrics = Metrics::default();
        let (web, db) = (workload("shop", "web"), workload("shop", "db"));
        for source in [&web, &db] {
            let series = metrics.requests().series(&labels(source, 200));
            series.count(Duration::ZERO, 0, 0);
        }
        metrics.requests().retire(|_, name| name == "web");
        assert!(metrics.render().contains("source_workload=\"web\""));
        assert!(!metrics.render().contains("source_workload=\"web\""));
        assert!(metrics.render().contains("source_workload=\"db\""));
    }
}
