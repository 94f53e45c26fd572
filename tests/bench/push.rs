//! A mesh that grows and shrinks at once, and what those feel who use it meanwhile.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::process::Processes;
use crate::rows::{Plan, Quantity};
use crate::scene;

/// Endpoints of each service.
const ENDPOINTS: u32 = 10;
/// How long the load runs in one piece.
const PIECE: &str = "1s";

/// Services that come and go.
fn services(plan: &Plan) -> u32 {
    if plan.smoke { 20 } else { 10_000 }
}

/// Applies and deletes services with their endpoints, while clients in the mesh and outside of it ask for something else.
/// Those outside tell what the machine did to both.
pub(crate) fn measure(
    lab: &Lab,
    plan: &Plan,
    address: impl Fn(&'static str) -> anyhow::Result<String>,
    proxies: &Processes,
) -> anyhow::Result<Vec<(Quantity, f64)>> {
    let services = services(plan);
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let file = folder.path().join("services.yaml");
    fs::write(&file, objects(services))?;
    let outside = address(scene::PLAIN)?;
    let inside = address(scene::MESH)?;
    let before = largest(proxies)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ask = |namespace, address| {
            let over = &over;
            scope.spawn(move || longest(lab, namespace, address, over))
        };
        let asking = [ask(scene::PLAIN, &outside), ask(scene::MESH, &inside)];
        let pushed = (|| {
            let start = Instant::now();
            lab.objects("apply", &file)?;
            let took = start.elapsed();
            let after = largest(proxies)?;
            lab.objects("delete", &file)?;
            anyhow::Ok((took, after))
        })();
        over.store(true, Ordering::Relaxed);
        let [outside, inside] = asking.map(|it| match it.join() {
            Ok(longest) => longest,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let (took, after) = pushed?;
        let each = f64::from(services * (1 + ENDPOINTS));
        Ok(vec![
            (Quantity::PushTime, took.as_secs_f64()),
            (
                Quantity::PushMemory,
                after.saturating_sub(before) as f64 / each,
            ),
            (Quantity::PushLongest, inside?.as_secs_f64() * 1e3),
            (Quantity::PushLongestOutside, outside?.as_secs_f64() * 1e3),
        ])
    })
}

/// The longest request until it is over.
fn longest(
    lab: &Lab,
    namespace: &str,
    address: &str,
    over: &AtomicBool,
) -> anyhow::Result<Duration> {
    let url = format!("http://{address}/?size=64");
    let words = [
        "http", &url, "-c", "8", "--rate", "1000", "-d", PIECE, "--json",
    ];
    let words = words.map(str::to_owned);
    let mut longest: f64 = 0.0;
    while !over.load(Ordering::Relaxed) {
        let report = lab.load(namespace, &words, |_: &Value| Ok(()))?;
        let most = report.pointer("/latency_us/max").and_then(Value::as_f64);
        longest = longest.max(most.context("load says no longest request")?);
    }
    Ok(Duration::from_secs_f64(longest / 1e6))
}

fn largest(proxies: &Processes) -> anyhow::Result<u64> {
    Ok(proxies.memory()?.into_iter().max().unwrap_or_default())
}

/// Services of a namespace of their own, with endpoints that nobody dials.
fn objects(services: u32) -> String {
    let name = "growth";
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let entries = (0..services).map(|service| {
        let first = service * ENDPOINTS;
        let addresses = (first..first + ENDPOINTS).map(|at| {
            let [_, high, middle, low] = at.to_be_bytes();
            json!({"address": format!("11.{high}.{middle}.{low}")})
        });
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": format!("service-{service}"), "namespace": name},
            "spec": {
                "hosts": [format!("service-{service}.example.com")],
                "location": "MESH_INTERNAL",
                "resolution": "STATIC",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "endpoints": addresses.collect::<Vec<_>>(),
            },
        })
    });
    let documents = std::iter::once(namespace).chain(entries);
    documents.map(|it| format!("---\n{it}\n")).collect()
}
