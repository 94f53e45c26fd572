use clap::Parser;
use serde_json::json;

use super::*;
use crate::cli::{Cli, Command as Commands};
use crate::cluster::fake::Fake;
use crate::translate::labels::WAYPOINT_FOR;

const GATEWAYS: &str = "gateway.networking.k8s.io/gateways";

/// What a command line prints, or says as it fails.
async fn run(fake: &Fake, line: &str) -> Result<String, String> {
    let words = ["ambit", "waypoint"].into_iter().chain(line.split(' '));
    let cli = Cli::try_parse_from(words).expect("a command line");
    let Some(Commands::Waypoint(flags)) = cli.command else {
        panic!("waypoint");
    };
    let cluster = fake.cluster();
    let done = match &flags.command {
        Command::Apply(flags) => flags.run(&cluster, "shop").await,
        Command::List(flags) => flags.run(&cluster, "shop").await,
        Command::Delete(flags) => flags.run(&cluster, "shop").await,
        Command::Routes(_) | Command::Shows(_) => panic!("it asks a proxy"),
    };
    done.map_err(|error| format!("{error:#}"))
}

async fn cluster() -> Fake {
    let fake = Fake::start().await;
    fake.set("/namespaces", json!({"metadata": {"name": "shop"}}));
    fake
}

fn condition(name: &str, status: &str) -> Value {
    json!({"type": name, "status": status, "reason": "R", "message": "m", "observedGeneration": 1})
}

/// A waypoint as the control plane has described it.
fn described(name: &str, programmed: &str) -> Value {
    let mut gateway = apply::object("shop", name, apply::Serves::Service);
    gateway["metadata"]["generation"] = json!(1);
    gateway["status"] = json!({
        "addresses": [{"type": "IPAddress", "value": "10.96.0.7"}],
        "conditions": [condition("Accepted", "True"), condition("Programmed", programmed)],
    });
    gateway
}

#[tokio::test]
async fn a_waypoint_is_applied_as_flags_say() {
    let fake = cluster().await;
    let said = run(&fake, "apply --for all").await.expect("applied");
    assert!(
        said.starts_with("waypoint shop/waypoint applied\n"),
        "{said}"
    );
    assert!(said.contains("istio.io/dataplane-mode=ambient"), "{said}");
    let gateway = fake
        .object(GATEWAYS, "shop", "waypoint")
        .expect("a Gateway");
    assert_eq!(gateway["metadata"]["labels"][WAYPOINT_FOR], "all");
    assert_eq!(gateway["spec"]["gatewayClassName"], "ambit-waypoint");
    let asked = fake.requests("PATCH");
    assert!(!asked[0].contains("force"), "{asked:?}");
    run(&fake, "apply --overwrite").await.expect("applied");
    let asked = fake.requests("PATCH");
    assert!(asked[1].contains("force=true"), "{asked:?}");
}

#[tokio::test]
async fn a_namespace_is_bound_once_the_waypoint_serves() {
    let fake = cluster().await;
    let bound = |fake: &Fake| {
        let namespace = fake.object("/namespaces", "", "shop").expect("shop");
        namespace["metadata"]["labels"][USE_WAYPOINT].clone()
    };
    let mut pod = json!({"metadata": {"name": "waypoint-1", "namespace": "shop",
        "labels": {"gateway.networking.k8s.io/gateway-name": "waypoint"}}});
    pod["status"]["containerStatuses"] =
        json!([{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]);
    fake.set("/pods", pod);
    let line = "apply --enroll-namespace --timeout 1";
    let said = run(&fake, line).await.expect_err("nobody deploys it");
    assert_eq!(
        said,
        "waypoint shop/waypoint is not ready after 1 seconds: the control plane has said nothing of it \
         (`ambit check` looks at it); pod waypoint-1: ErrImagePull no such image"
    );
    fake.set(GATEWAYS, described("waypoint", "False"));
    let said = run(&fake, line).await.expect_err("it is not ready");
    assert!(said.contains(" seconds: R: m; pod waypoint-1"), "{said}");
    assert_eq!(bound(&fake), Value::Null);
    fake.set(GATEWAYS, described("waypoint", "True"));
    let said = run(&fake, line).await.expect("bound");
    assert!(said.contains("is ready at 10.96.0.7\n"), "{said}");
    assert_eq!(bound(&fake), "waypoint");
}

#[tokio::test]
async fn waypoints_are_listed_with_what_is_bound_to_them() {
    let fake = cluster().await;
    assert_eq!(
        run(&fake, "list").await.expect("listed"),
        "There are no waypoints in namespace shop.\n"
    );
    fake.set(GATEWAYS, described("a", "True"));
    fake.set(GATEWAYS, described("b", "False"));
    let mut other = described("c", "True");
    other["spec"]["gatewayClassName"] = json!("another");
    fake.set(GATEWAYS, other);
    let label = |name: &str| json!({ USE_WAYPOINT: name });
    fake.set(
        "/namespaces",
        json!({"metadata": {"name": "shop", "labels": label("a")}}),
    );
    let service = json!({"metadata": {"name": "s", "namespace": "shop", "labels": label("a")}});
    fake.set("/services", service);
    let elsewhere = json!({USE_WAYPOINT: "a", USE_WAYPOINT_NAMESPACE: "shop"});
    let service = json!({"metadata": {"name": "t", "namespace": "else", "labels": elsewhere}});
    fake.set("/services", service);
    let table = run(&fake, "list").await.expect("listed");
    let expected = "\
NAMESPACE  NAME  FOR      READY  ADDRESS    BOUND  REASON
shop       a     service  true   10.96.0.7  3      -
shop       b     service  false  -          -      R: m
";
    assert_eq!(table, expected);
    let json = run(&fake, "list -A -o json").await.expect("listed");
    let rows: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        rows[0]["bound"],
        json!(["namespace shop", "service else/t", "service shop/s"])
    );
}

#[tokio::test]
async fn what_something_is_bound_to_is_not_deleted_by_accident() {
    let fake = cluster().await;
    for name in ["a", "b"] {
        fake.set(GATEWAYS, described(name, "True"));
    }
    let service =
        json!({"metadata": {"name": "s", "namespace": "shop", "labels": {USE_WAYPOINT: "b"}}});
    fake.set("/services", service);
    let labels = json!({USE_WAYPOINT: "b", USE_WAYPOINT_CANARY: "c"});
    let service = json!({"metadata": {"name": "t", "namespace": "shop", "labels": labels}});
    fake.set("/services", service);
    fake.set(GATEWAYS, described("c", "True"));
    let said = run(&fake, "delete c").await.expect_err("c is a canary");
    assert!(
        said.contains("shop/c is what service shop/t is reached"),
        "{said}"
    );
    let said = run(&fake, "delete --all").await.expect_err("b is used");
    assert!(
        said.contains("shop/b is what service shop/s, service shop/t are reached"),
        "{said}"
    );
    let there = |name| fake.object(GATEWAYS, "shop", name).is_some();
    assert!(there("a") && there("b"));
    let said = run(&fake, "delete nobody")
        .await
        .expect_err("no such waypoint");
    assert!(said.contains("nobody"), "{said}");
    assert_eq!(
        run(&fake, "delete a").await.expect("deleted"),
        "waypoint shop/a deleted\n"
    );
    run(&fake, "delete b --force").await.expect("deleted");
    assert!(!there("a") && !there("b"));
}

#[tokio::test]
async fn a_cluster_without_gateways_says_what_to_do() {
    let fake = cluster().await;
    fake.absent("gateways", true);
    for line in ["apply", "list", "delete a"] {
        let said = run(&fake, line).await.expect_err(line);
        assert!(said.contains("external-crds"), "{line}: {said}");
    }
}
