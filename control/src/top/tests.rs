use super::*;

fn labels(reporter: &str, destination: &str, security: &str) -> String {
    format!(
        "reporter=\"{reporter}\",source_workload=\"web\",source_workload_namespace=\"shop\",\
         destination_workload=\"{destination}-1\",destination_workload_namespace=\"shop\",\
         destination_service_name=\"{destination}\",destination_service_namespace=\"shop\",\
         connection_security_policy=\"{security}\""
    )
}

fn tcp(reporter: &str, opened: u32, security: &str) -> String {
    let labels = labels(reporter, "db", security);
    format!(
        "istio_tcp_connections_opened_total{{{labels}}} {opened}\n\
         istio_tcp_sent_bytes_total{{{labels}}} {}\n",
        opened * 100
    )
}

fn http(count: u32, failed: u32, slow: u32) -> String {
    let labels = labels("waypoint", "api", "mutual_tls");
    let rest = "request_protocol=\"http\"";
    let name = "istio_request_duration_milliseconds_bucket";
    format!(
        "istio_requests_total{{{labels},{rest},response_code=\"200\"}} {}\n\
         istio_requests_total{{{labels},{rest},response_code=\"503\"}} {failed}\n\
         {name}{{{labels},{rest},le=\"5\"}} {}\n{name}{{{labels},{rest},le=\"100\"}} {count}\n\
         {name}{{{labels},{rest},le=\"+Inf\"}} {count}\n",
        count - failed,
        count - slow
    )
}

fn look(pages: &[(&str, String)]) -> Look {
    let mut look = Look::default();
    for (teller, page) in pages {
        look.add(teller, page);
    }
    look
}

const TWO: Duration = Duration::from_secs(2);

#[test]
fn a_connection_that_both_ends_report_is_one() {
    let before = look(&[("n1", tcp("source", 10, "mutual_tls"))]);
    let after = look(&[
        ("n1", tcp("source", 30, "mutual_tls")),
        ("n2", tcp("destination", 20, "mutual_tls")),
    ]);
    let pairs = pairs(&before, &after, TWO);
    assert_eq!(pairs.len(), 1);
    let pair = &pairs[0];
    assert_eq!((pair.rate, pair.success, pair.bytes), (10.0, 1.0, 1000.0));
    assert_eq!((pair.p50, pair.protocol), (None, Protocol::Tcp));
    assert_eq!(pair.protection, Protection::MutualTls);
    assert_eq!((&*pair.source.name, &*pair.destination.name), ("web", "db"));
}

#[test]
fn a_client_outside_the_mesh_is_reported_by_the_server() {
    let page = "istio_tcp_connections_opened_total{reporter=\"destination\",source_workload=\"unknown\",\
                destination_workload=\"db\",destination_workload_namespace=\"shop\",\
                connection_security_policy=\"unknown\"} 4\n";
    let pairs = pairs(&Look::default(), &look(&[("n2", page.to_owned())]), TWO);
    assert_eq!(pairs[0].source.name, "unknown");
    assert_eq!(pairs[0].destination.name, "db");
    assert_eq!(
        (pairs[0].rate, pairs[0].protection),
        (2.0, Protection::Plain)
    );
}

#[test]
fn requests_have_success_and_latency() {
    let before = look(&[("w", http(100, 0, 0))]);
    let after = look(&[("w", http(300, 50, 10))]);
    let pairs = pairs(&before, &after, TWO);
    let pair = &pairs[0];
    assert_eq!((pair.rate, pair.success), (100.0, 0.75));
    assert_eq!((pair.p50, pair.p99), (Some(5.0), Some(100.0)));
}

#[test]
fn a_proxy_that_began_anew_is_not_counted_backwards() {
    let before = look(&[("n1", tcp("source", 1000, "mutual_tls"))]);
    let after = look(&[("n1", tcp("source", 6, "mutual_tls"))]);
    assert_eq!(pairs(&before, &after, TWO)[0].rate, 3.0);
    assert_eq!(pairs(&after, &after, TWO), []);
}

#[test]
fn what_protects_a_pair() {
    let both = [("mutual_tls", 1), ("node_local", 1)];
    let plain = [("mutual_tls", 1), ("unknown", 1)];
    let cases: [(&[(&str, u32)], Protection); 4] = [
        (&both[..1], Protection::MutualTls),
        (&both[1..], Protection::NodeLocal),
        (&both, Protection::Mixed),
        (&plain, Protection::Plain),
    ];
    for (told, expected) in cases {
        let pages: Vec<_> = told
            .iter()
            .map(|(security, count)| ("n", tcp("source", *count, security)))
            .collect();
        let pairs = pairs(&Look::default(), &look(&pages), TWO);
        assert_eq!(pairs[0].protection, expected, "{told:?}");
    }
}
