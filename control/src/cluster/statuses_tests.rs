//! Statuses of a route and of a Gateway, written to a fake API server.

use std::time::Duration;

use tokio::sync::watch;

use super::*;
use crate::cluster::fake::Fake;
use crate::source::parse::{Wire, parse_wire};
use crate::source::{Batch, Event, Origin};
use crate::translate::Mesh;

const GATEWAYS: &str = "gateway.networking.k8s.io/gateways";
const CLASSES: &str = "gateway.networking.k8s.io/gatewayclasses";

struct Case {
    fake: Fake,
    state: Arc<State>,
    held: watch::Sender<Option<Instant>>,
}

impl Case {
    async fn start() -> Self {
        let fake = Fake::start().await;
        let state = Arc::new(State::new(Mesh::default()));
        let (held, holds) = watch::channel(None);
        tokio::spawn(run(fake.cluster(), state.clone(), holds));
        Self { fake, state, held }
    }

    fn hold(&self) {
        let long = Instant::now() + Duration::from_secs(3600);
        self.held.send_replace(Some(long));
    }

    /// Sets an object, in the API server and in the index.
    fn set(&self, resource: &str, kind: Kind, object: &Value) {
        self.fake.set(resource, object.clone());
        let read = parse_wire(kind, Wire::Item(object)).expect("good");
        let mut batch = Batch::default();
        batch.events.push(Event::Apply(read, Origin::default()));
        self.state.apply(batch);
    }

    fn status(&self, resource: &str, namespace: &str, name: &str) -> Value {
        let object = self.fake.object(resource, namespace, name);
        object.expect("there")["status"].clone()
    }
}

fn class(controller: &str) -> Value {
    json!({"metadata": {"name": "ambit-waypoint"}, "spec": {"controllerName": controller}})
}

fn gateway() -> Value {
    let listener = json!({"name": "mesh", "port": 15008, "protocol": "HBONE"});
    json!({
        "metadata": {"name": "w", "namespace": "a", "generation": 3},
        "spec": {"gatewayClassName": "ambit-waypoint", "listeners": [listener]},
    })
}

#[tokio::test]
async fn the_holder_writes_what_differs() {
    let case = Case::start().await;
    case.set(CLASSES, Kind::GatewayClass, &class(CONTROLLER));
    case.set(GATEWAYS, Kind::Gateway, &gateway());
    assert!(case.fake.requests("").is_empty(), "nobody else writes");
    // Failures are tried again; a conflict is read again.
    case.fake.fail("PATCH", 500, None);
    case.fake.fail("PATCH", 409, None);
    case.hold();
    case.fake
        .until(|fake| {
            let written = |resource, namespace, name| {
                let object = fake.object(resource, namespace, name);
                object.is_some_and(|it| it["status"]["conditions"][0]["type"] == "Accepted")
            };
            written(GATEWAYS, "a", "w") && written(CLASSES, "", "ambit-waypoint")
        })
        .await;
    let status = case.status(GATEWAYS, "a", "w");
    let accepted = &status["conditions"][0];
    assert_eq!(
        (&accepted["status"], &accepted["observedGeneration"]),
        (&json!("True"), &json!(3))
    );
    assert!(accepted["lastTransitionTime"].is_string());
    // Another holder reads both and finds nothing to write.
    let writes = case.fake.requests("PATCH").len();
    let reads = case.fake.requests("GET").len();
    let next = Instant::now() + Duration::from_secs(3600);
    let (_kept, holds) = watch::channel(Some(next));
    tokio::spawn(run(case.fake.cluster(), case.state.clone(), holds));
    let read = |fake: &Fake| fake.requests("GET").len() >= reads + 2;
    case.fake.until(read).await;
    assert_eq!(case.fake.requests("PATCH").len(), writes);
}

#[tokio::test]
async fn a_class_of_another_controller_is_left_alone() {
    let case = Case::start().await;
    case.set(
        CLASSES,
        Kind::GatewayClass,
        &class("istio.io/mesh-controller"),
    );
    case.set(GATEWAYS, Kind::Gateway, &gateway());
    let mut ours = gateway();
    ours["metadata"]["name"] = json!("x");
    ours["spec"]["gatewayClassName"] = json!("istio-waypoint");
    case.set(GATEWAYS, Kind::Gateway, &ours);
    case.hold();
    case.fake
        .until(|fake| !fake.requests("PATCH").is_empty())
        .await;
    assert!(case.fake.requests("PATCH")[0].contains("/gateways/x/status"));
    assert_eq!(case.status(GATEWAYS, "a", "w"), json!(null));
}
