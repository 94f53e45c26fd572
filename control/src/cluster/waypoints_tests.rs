//! A waypoint's objects in a fake API server.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::cluster::fake::Fake;
use crate::source::{Batch, Event, Object, Origin};
use crate::translate::Mesh;

struct Case {
    fake: Fake,
    state: Arc<State>,
    held: watch::Sender<Option<Instant>>,
    parameters: Value,
}

const AUTOSCALERS: &str = "autoscaling/horizontalpodautoscalers";
const DEPLOYMENTS: &str = "apps/deployments";
const ALL: [&str; 4] = [
    "/serviceaccounts",
    "/services",
    DEPLOYMENTS,
    "policy/poddisruptionbudgets",
];

impl Case {
    async fn start(prepare: impl FnOnce(&Fake)) -> Self {
        let fake = Fake::start().await;
        prepare(&fake);
        let state = Arc::new(State::new(Mesh::default()));
        let (held, holds) = watch::channel(None);
        let settings = Settings {
            image: "ambit:1".to_owned(),
            control: "https://ambit-control.ambit-system.svc:15012".to_owned(),
            authority: None,
            roots: None,
            token: None,
            replicas: 1,
        };
        tokio::spawn(run(fake.cluster(), state.clone(), settings, holds));
        Self {
            fake,
            state,
            held,
            parameters: Value::Null,
        }
    }

    fn hold(&self) {
        let long = Instant::now() + Duration::from_secs(3600);
        self.held.send_replace(Some(long));
    }

    fn gateway(&self, class: &str) {
        let gateway = json!({
            "metadata": {"name": "w", "namespace": "a", "uid": "g"},
            "spec": {"gatewayClassName": class, "infrastructure": {"parametersRef": self.parameters}},
        });
        let gateway = serde_json::from_value(gateway).expect("a Gateway");
        let mut batch = Batch::default();
        let object = Object::Gateway(Arc::new(gateway));
        batch.events.push(Event::Apply(object, Origin::default()));
        self.state.apply(batch);
    }

    fn config_map(&self, data: Value) {
        let map = json!({"metadata": {"name": "m", "namespace": "a"}, "data": data});
        let map = serde_json::from_value(map).expect("a ConfigMap");
        let mut batch = Batch::default();
        let object = Object::ConfigMap(Arc::new(map));
        batch.events.push(Event::Apply(object, Origin::default()));
        self.state.apply(batch);
    }

    async fn complete(&self) {
        let there = |fake: &Fake| ALL.iter().all(|of| fake.object(of, "a", "w").is_some());
        self.fake.until(there).await;
    }
}

#[tokio::test]
async fn a_gateway_gets_what_runs_it() {
    let case = Case::start(|fake| {
        // An object of ours that nobody wants, and one that is not ours.
        let labels = json!({MANAGED_BY: FIELD_MANAGER});
        fake.set(
            "/services",
            json!({"metadata": {"name": "old", "namespace": "a", "labels": labels}}),
        );
        fake.set(
            "/services",
            json!({"metadata": {"name": "other", "namespace": "a"}}),
        );
    })
    .await;
    case.gateway("ambit-waypoint");
    case.fake
        .until(|fake| fake.requests("watch").len() >= ALL.len())
        .await;
    assert!(case.fake.requests("PATCH").is_empty(), "nobody else writes");
    case.fake.fail("PATCH", 500, None);
    case.hold();
    case.complete().await;
    case.fake
        .until(|fake| fake.object("/services", "a", "old").is_none())
        .await;
    assert!(case.fake.object("/services", "a", "other").is_some());
    let deployment = case.fake.object(DEPLOYMENTS, "a", "w").expect("there");
    let owner = &deployment["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"]),
        (&json!("Gateway"), &json!("g"))
    );
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (&container["command"], &container["image"]),
        (&json!(["/waypoint"]), &json!("ambit:1"))
    );
    assert_eq!(deployment["spec"].get("replicas"), None, "scaled by others");
    // Deleted and changed by others: restored.
    case.fake.remove(DEPLOYMENTS, "a", "w");
    case.complete().await;
    let mut changed = case.fake.object(DEPLOYMENTS, "a", "w").expect("there");
    changed["spec"]["template"]["spec"]["containers"] = json!([]);
    case.fake.set(DEPLOYMENTS, changed);
    let whole = |fake: &Fake| {
        let found = fake.object(DEPLOYMENTS, "a", "w").expect("there");
        found["spec"]["template"]["spec"]["containers"][0]["image"] == "ambit:1"
    };
    case.fake.until(whole).await;
    // Scaled by others, and its status: left alone.
    let mut scaled = case.fake.object(DEPLOYMENTS, "a", "w").expect("there");
    scaled["spec"]["replicas"] = json!(5);
    case.fake.set(DEPLOYMENTS, scaled);
    // No waypoint any more.
    case.gateway("nginx");
    let gone = |fake: &Fake| ALL.iter().all(|of| fake.object(of, "a", "w").is_none());
    case.fake.until(gone).await;
}

#[tokio::test]
async fn what_somebody_else_has_made_is_left_alone() {
    let case = Case::start(|fake| {
        fake.set(
            DEPLOYMENTS,
            json!({"metadata": {"name": "w", "namespace": "a"}, "spec": "mine"}),
        );
    })
    .await;
    case.gateway("ambit-waypoint");
    case.hold();
    let others = |fake: &Fake| {
        let there = |of: &&str| fake.object(of, "a", "w").is_some();
        ALL.iter().all(there)
            && !fake
                .requests("GET /apis/apps/v1/namespaces/a/deployments/w")
                .is_empty()
    };
    case.fake.until(others).await;
    let found = case.fake.object(DEPLOYMENTS, "a", "w").expect("there");
    assert_eq!(found["spec"], json!("mine"));
}

#[tokio::test]
async fn parameters_change_what_runs_a_waypoint() {
    let mut case = Case::start(|_| {}).await;
    case.parameters = json!({"group": "", "kind": "ConfigMap", "name": "m"});
    case.config_map(json!({
        "horizontalPodAutoscaler": "spec: {minReplicas: 2, maxReplicas: 5}",
        "service": "metadata: {annotations: {a: b}}",
    }));
    case.gateway("ambit-waypoint");
    case.hold();
    case.complete().await;
    let found = |fake: &Fake| fake.object(AUTOSCALERS, "a", "w");
    case.fake.until(|fake| found(fake).is_some()).await;
    let autoscaler = found(&case.fake).expect("there");
    assert_eq!(autoscaler["spec"]["maxReplicas"], 5);
    assert_eq!(autoscaler["spec"]["scaleTargetRef"]["name"], "w");
    assert_eq!(autoscaler["metadata"]["ownerReferences"][0]["uid"], "g");
    let service = case.fake.object("/services", "a", "w").expect("there");
    assert_eq!(service["metadata"]["annotations"]["a"], "b");
    // What cannot be read changes nothing, and what is corrected does.
    case.config_map(json!({"horizontalPodAutoscaler": "- no"}));
    case.fake.remove(DEPLOYMENTS, "a", "w");
    let marker =
        json!({"metadata": {"name": "m", "namespace": "a", "labels": {MANAGED_BY: FIELD_MANAGER}}});
    case.fake.set("/services", marker);
    let cleaned = |fake: &Fake| fake.object("/services", "a", "m").is_none();
    case.fake.until(cleaned).await;
    assert!(found(&case.fake).is_some(), "held");
    assert!(case.fake.object(DEPLOYMENTS, "a", "w").is_none(), "held");
    case.config_map(json!({"RUST_LOG": "debug"}));
    case.fake.until(|fake| found(fake).is_none()).await;
    case.complete().await;
}

#[test]
fn every_resource_is_in_the_table_of_calls() {
    use crate::cluster::access::{CALLS, Scope};
    for of in RESOURCES {
        let call = CALLS.iter().find(|call| {
            (call.group, call.resource, call.scope) == (of.group, of.plural, Scope::Cluster)
        });
        let verbs = call.expect("there").verbs;
        assert_eq!(verbs, ["create", "delete", "get", "list", "patch", "watch"]);
    }
}
