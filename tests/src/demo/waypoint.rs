//! The second half: the namespace gets a waypoint. A canary, a retry, a timeout, and who may call what.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::manifests::{self, FAILING, FRONTEND, NAMESPACE, STRANGER};
use super::{PATIENCE, PAUSE, heading, lab_apply, succeed};
use crate::cli::line;
use crate::harness::Lab;
use crate::metrics;

const CANARY: &str = "  \
  - backendRefs:
    - {name: store-v1, port: 80, weight: 90}
    - {name: store-v2, port: 80, weight: 10}";
const RETRY: &str = "  \
  - retry: {attempts: 2, codes: [503], backoff: 10ms}
    backendRefs: [{name: checkout, port: 80}]";
const TIMEOUT: &str = "  \
  - timeouts: {request: 300ms}
    backendRefs: [{name: store-v1, port: 80}]";
const READ_ONLY: &str = "  \
  - from: [{source: {principals: [cluster.local/ns/shop/sa/frontend]}}]
    to: [{operation: {methods: [GET], paths: [/read]}}]";

/// Shows it.
pub(super) fn show(lab: &Lab) -> anyhow::Result<()> {
    heading("A waypoint: the namespace is labelled istio.io/use-waypoint=waypoint as well");
    lab_apply(lab, &manifests::waypoint())?;
    let gateways = succeed(lab.run(["get", "gateway", "-n", NAMESPACE]))?;
    for row in gateways.lines() {
        line(&format!("   {row}"));
    }
    canary(lab)?;
    retry(lab)?;
    timeout(lab)?;
    access(lab)
}

fn canary(lab: &Lab) -> anyhow::Result<()> {
    const REQUESTS: u64 = 1000;
    heading("A canary: one request of ten goes to the new version");
    apply(lab, &manifests::route("store", CANARY), CANARY)?;
    let (answered, failed) = load(lab, REQUESTS, "http://store/canary")?;
    let [old, new] = [
        seen(lab, "store-v1", "/canary")?,
        seen(lab, "store-v2", "/canary")?,
    ];
    line(&format!(
        "   {answered} requests answered, {failed} failed: {old} by v1, {new} by v2"
    ));
    ensure!((answered, failed) == (REQUESTS, 0), "some requests failed");
    ensure!(
        old + new == REQUESTS,
        "the servers saw {old} + {new} requests"
    );
    // Five standard deviations of a binomial are 47: a failure is no bad luck.
    ensure!((53..=147).contains(&new), "{new} is not about a tenth");
    for (workload, count) in [("store-v1", old), ("store-v2", new)] {
        metric(lab, &[("destination_workload", workload)], count)?;
    }
    log(lab, &["\"GET /canary ", " 200 "])
}

fn retry(lab: &Lab) -> anyhow::Result<()> {
    const REQUESTS: u64 = 200;
    heading("One of four pods answers 503 to everything, and a retry hides it");
    apply(lab, &manifests::route("checkout", RETRY), RETRY)?;
    let (answered, failed) = load(lab, REQUESTS, "http://checkout/pay")?;
    let attempts = seen(lab, FAILING, "/pay")?;
    line(&format!(
        "   {answered} requests answered, {failed} failed; attempts that met the failing pod: {attempts}"
    ));
    ensure!((answered, failed) == (REQUESTS, 0), "some requests failed");
    ensure!(attempts > 0, "the failing pod was not asked");
    let labels = [
        ("destination_service_name", "checkout"),
        ("response_code", "200"),
    ];
    metric(lab, &labels, answered)?;
    // Its last number is how many attempts were made.
    log(lab, &["\"GET /pay ", " 200 ", " http/shop/checkout/0 2"])
}

fn timeout(lab: &Lab) -> anyhow::Result<()> {
    heading("No request to the store takes longer than 300 ms, whatever the server does");
    apply(lab, &manifests::route("store", TIMEOUT), TIMEOUT)?;
    let asked = Instant::now();
    let status = status(lab, FRONTEND, "GET", "/slow?delay=5s")?;
    let took = asked.elapsed();
    line(&format!(
        "   the server waits for 5 s; the client has {status} after {:.1} s",
        took.as_secs_f32()
    ));
    ensure!(status == 504 && took.as_secs() < 3, "no timeout");
    metric(
        lab,
        &[("response_code", "504"), ("response_flags", "UT")],
        1,
    )?;
    log(lab, &["\"GET /slow", " 504 "])
}

fn access(lab: &Lab) -> anyhow::Result<()> {
    heading("The frontend may GET /read of the store, and nobody may do anything else");
    apply(lab, &manifests::allow("store", READ_ONLY), READ_ONLY)?;
    for (client, method, path, wanted) in [
        (FRONTEND, "GET", "/read", 200),
        (FRONTEND, "POST", "/read", 403),
        (FRONTEND, "GET", "/admin", 403),
        (STRANGER, "GET", "/read", 403),
    ] {
        let status = status(lab, client, method, path)?;
        line(&format!(
            "   {client:<8}   {method:<4}   {path:<6}   {status}"
        ));
        ensure!(status == wanted, "{wanted} was promised");
    }
    metric(lab, &[("response_code", "403")], 3)?;
    log(lab, &["\"GET /admin ", " 403 "])
}

/// Applies a manifest and shows what of it is meant.
fn apply(lab: &Lab, manifest: &str, shown: &str) -> anyhow::Result<()> {
    for row in shown.lines() {
        line(&format!("   | {}", row.strip_prefix("  ").unwrap_or(row)));
    }
    lab_apply(lab, manifest)
}

/// Requests of the frontend: answered, failed.
fn load(lab: &Lab, count: u64, url: &str) -> anyhow::Result<(u64, u64)> {
    let text = count.to_string();
    let arguments = ["http", "--json", "-n", &text, "-c", "4", url];
    let ran = lab.load(&format!("{NAMESPACE}/{FRONTEND}"), &arguments);
    let report: Value = serde_json::from_str(&ran.stdout).with_context(|| ran.to_string())?;
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    Ok((
        number(&report["requests"]),
        number(&report["errors"]["total"]),
    ))
}

/// How many requests for a path a server has seen.
fn seen(lab: &Lab, server: &str, path: &str) -> anyhow::Result<u64> {
    let url = "http://127.0.0.1:8080/requests";
    let ran = lab.load(&format!("{NAMESPACE}/{server}"), &["get", url]);
    let counts: Value = serde_json::from_str(&succeed(ran)?)?;
    Ok(counts[path].as_u64().unwrap_or_default())
}

/// The status of one request to the store.
fn status(lab: &Lab, client: &str, method: &str, path: &str) -> anyhow::Result<u16> {
    let url = format!("http://store{path}");
    let arguments = ["get", "-i", "-X", method, &url];
    let answer = succeed(lab.load(&format!("{NAMESPACE}/{client}"), &arguments))?;
    let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok());
    status.with_context(|| format!("no status in {answer}"))
}

/// Shows how many requests with these labels the waypoint has counted; `wanted` of them.
fn metric(lab: &Lab, labels: &[(&str, &str)], wanted: u64) -> anyhow::Result<()> {
    const REQUESTS: &str = "istio_requests_total";
    let labels: Vec<(&str, &str)> = [("reporter", "waypoint")]
        .iter()
        .chain(labels)
        .copied()
        .collect();
    let url = "http://127.0.0.1:15020/stats/prometheus";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ran = lab.load(
            &format!("{NAMESPACE}/deploy/waypoint"),
            &["get", "--fail", url],
        );
        let count = metrics::sum(&succeed(ran)?, REQUESTS, &labels);
        if count == wanted as f64 {
            let shown: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}={value:?}"))
                .collect();
            line(&format!(
                "   metric: {REQUESTS}{{{}}} {count}",
                shown.join(",")
            ));
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the waypoint counts {count} of {labels:?}, not {wanted}"
        );
        std::thread::sleep(PAUSE);
    }
}

/// Shows the waypoint's newest access log line that has all of these.
fn log(lab: &Lab, fragments: &[&str]) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = lab.logs(&format!("{NAMESPACE}/deploy/waypoint"));
        let fits = |row: &&str| fragments.iter().all(|it| row.contains(it));
        if let Some(row) = log.lines().rev().find(fits) {
            line(&format!("   log: {row}"));
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the waypoint logged nothing with {fragments:?}"
        );
        std::thread::sleep(PAUSE);
    }
}
