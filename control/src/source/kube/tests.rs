//! The source against a fake API server that misbehaves.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::cluster::fake::Fake;
use crate::source::Event;

const KINDS: &[Kind] = &[Kind::Namespace, Kind::Pod, Kind::HTTPRoute];
const PODS: &str = "/pods";
const ROUTES: &str = "gateway.networking.k8s.io/httproutes";
const PATIENCE: Duration = Duration::from_secs(30);

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"},
        "spec": {"containers": [], "nodeName": "n", "unheardOf": {"of": [1]}}, "unknown": 1,
    })
}

/// A source that runs, and all that it gave.
struct Case {
    fake: Fake,
    deliveries: mpsc::Receiver<Delivery>,
    requests: mpsc::Sender<Rescan>,
    held: BTreeSet<String>,
    problems: Vec<String>,
    batches: u64,
}

impl Case {
    async fn start(prepare: impl FnOnce(&Fake)) -> Self {
        let fake = Fake::start().await;
        prepare(&fake);
        let (sender, deliveries) = mpsc::channel(16);
        let (requests, asked) = mpsc::channel(16);
        let source = Source::new(fake.cluster(), sender, KINDS);
        tokio::spawn(source.run(asked));
        Self {
            fake,
            deliveries,
            requests,
            held: BTreeSet::new(),
            problems: Vec::new(),
            batches: 0,
        }
    }

    async fn batch(&mut self) {
        let delivery = tokio::time::timeout(PATIENCE, self.deliveries.recv()).await;
        let Delivery { batch, applied } = delivery.expect("in time").expect("it runs");
        for event in batch.events {
            match event {
                Event::Apply(object, _) => self.held.insert(object.key().to_string()),
                Event::Delete(key) => self.held.remove(&key.to_string()),
            };
        }
        let problems = batch.problems.iter();
        self.problems = problems
            .map(|it| format!("{}: {}", it.object, it.error))
            .collect();
        self.batches += 1;
        let _ = applied.send(self.batches);
    }

    /// Takes batches until these are held.
    async fn holds(&mut self, expected: &[&str]) {
        while !self
            .held
            .iter()
            .map(String::as_str)
            .eq(expected.iter().copied())
        {
            self.batch().await;
        }
    }
}

#[tokio::test]
async fn failures_lose_nothing() {
    type Do = fn(&Fake);
    let rows: [(&str, Do, Do); 9] = [
        (
            "a server without streamed lists",
            |fake| fake.no_streams(),
            |_| {},
        ),
        (
            "429 at the start",
            |fake| fake.fail("/pods?", 429, Some(1)),
            |_| {},
        ),
        (
            "500 at the start, several times",
            |fake| (0..3).for_each(|_| fake.fail("/pods?", 500, None)),
            |_| {},
        ),
        ("watches are closed", |_| {}, |fake| fake.close_watches()),
        (
            "history is lost in a watch",
            |_| {},
            |fake| {
                fake.compact();
                fake.close_watches();
            },
        ),
        (
            "410 as an answer",
            |_| {},
            |fake| {
                fake.fail("/pods?", 410, None);
                fake.close_watches();
            },
        ),
        (
            "429 and 500 for a while",
            |_| {},
            |fake| {
                fake.fail("/pods?", 429, None);
                fake.fail("/pods?", 500, None);
                fake.close_watches();
            },
        ),
        (
            "pages whose list expires in between",
            |fake| {
                fake.no_streams();
                (0..5).for_each(|n| fake.set(PODS, pod(&format!("more-{n}"))));
                fake.fail("continue=2", 410, None);
            },
            |fake| (0..5).for_each(|n| fake.remove(PODS, "a", &format!("more-{n}"))),
        ),
        (
            "a kind that is not there",
            |fake| fake.absent("httproutes", true),
            |_| {},
        ),
    ];
    for (name, before, meanwhile) in rows {
        let mut case = Case::start(|fake| {
            fake.set(PODS, pod("stays"));
            fake.set(PODS, pod("goes"));
            fake.set("/namespaces", json!({"metadata": {"name": "a"}}));
            before(fake);
        })
        .await;
        case.batch().await;
        assert!(
            ["Namespace a", "Pod a/goes", "Pod a/stays"]
                .iter()
                .all(|key| case.held.contains(*key)),
            "{name}: the first batch is whole: {:?}",
            case.held
        );
        meanwhile(&case.fake);
        case.fake.remove(PODS, "a", "goes");
        case.fake.set(PODS, pod("comes"));
        case.holds(&["Namespace a", "Pod a/comes", "Pod a/stays"])
            .await;
    }
}

/// Long before it would be asked for again.
#[tokio::test]
async fn a_kind_that_is_defined_later_is_found() {
    let route = json!({
        "metadata": {"name": "r", "namespace": "a"},
        "spec": {"parentRefs": [], "rules": []},
    });
    let mut case = Case::start(|fake| {
        fake.set(PODS, pod("stays"));
        fake.set(ROUTES, route);
        fake.absent("httproutes", true);
        let other = json!({"metadata": {"name": "others.example"}});
        fake.set("apiextensions.k8s.io/customresourcedefinitions", other);
    })
    .await;
    case.holds(&["Pod a/stays"]).await;
    case.fake.absent("httproutes", false);
    let definition = json!({"metadata": {"name": "httproutes.gateway.networking.k8s.io"}});
    case.fake
        .set("apiextensions.k8s.io/customresourcedefinitions", definition);
    case.holds(&["HTTPRoute a/r", "Pod a/stays"]).await;
}

#[tokio::test]
async fn what_was_deleted_unseen_is_noticed() {
    let mut case = Case::start(|fake| {
        fake.set(PODS, pod("stays"));
        fake.set(PODS, pod("goes"));
    })
    .await;
    case.holds(&["Pod a/goes", "Pod a/stays"]).await;
    // Nobody hears of it, and afterwards nobody can ask for it.
    (0..50).for_each(|_| case.fake.fail("/pods?", 503, None));
    case.fake.close_watches();
    case.fake
        .until(|fake| fake.requests("/pods?").len() > 2)
        .await;
    case.fake.remove(PODS, "a", "goes");
    case.fake.compact();
    case.fake.heal();
    case.holds(&["Pod a/stays"]).await;
}

#[tokio::test]
async fn a_bad_object_is_named_and_alone() {
    let mut case = Case::start(|fake| {
        fake.set(PODS, pod("good"));
        fake.set(PODS, pod("turns"));
    })
    .await;
    case.holds(&["Pod a/good", "Pod a/turns"]).await;
    let rows = [
        (
            json!({"metadata": {"name": "turns", "namespace": "a"}, "spec": "text"}),
            "Pod a/turns: spec: invalid type: string",
        ),
        (
            json!({"metadata": {"name": "new", "namespace": "a", "labels": 7}}),
            "Pod a/new: metadata.labels: invalid type",
        ),
        (
            json!({"metadata": "text"}),
            "Pod (no name): metadata: invalid type",
        ),
    ];
    for (object, expected) in rows {
        case.fake.set(PODS, object);
        while !case.problems.iter().any(|it| it.starts_with(expected)) {
            case.batch().await;
        }
    }
    case.fake.set(PODS, pod("later"));
    case.holds(&["Pod a/good", "Pod a/later", "Pod a/turns"])
        .await;
    assert_eq!(case.problems.len(), 3, "{:?}", case.problems);
    case.fake.set(PODS, pod("turns"));
    while case.problems.len() != 2 {
        case.batch().await;
    }
}

#[tokio::test]
async fn older_versions_of_an_api_are_asked_for() {
    let case = Case::start(|fake| {
        fake.fail("/apis/gateway.networking.k8s.io/v1/httproutes", 404, None);
        let route = json!({"metadata": {"name": "r", "namespace": "a"}, "spec": {}});
        fake.set(ROUTES, route);
    });
    let mut case = case.await;
    case.holds(&["HTTPRoute a/r"]).await;
    assert!(!case.fake.requests("/v1beta1/httproutes").is_empty());
}

#[tokio::test]
async fn who_asks_hears_when_all_is_given() {
    let mut case = Case::start(|_| {}).await;
    case.batch().await;
    // Nothing new: the generation of the last batch.
    let (asked, answer) = oneshot::channel();
    case.requests.send(asked).await.expect("it runs");
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    assert_eq!(answer.expect("in time").expect("answered"), Ok(1));
    // What was there when it was asked is in what it hears of.
    case.fake.set(PODS, pod("new"));
    let (asked, answer) = oneshot::channel();
    case.requests.send(asked).await.expect("it runs");
    case.holds(&["Pod a/new"]).await;
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    assert_eq!(
        answer.expect("in time").expect("answered"),
        Ok(case.batches)
    );
    // An API server that does not tell is an error.
    (0..100).for_each(|_| case.fake.fail("/pods?", 500, None));
    let (asked, answer) = oneshot::channel();
    case.requests.send(asked).await.expect("it runs");
    let ((), answer) = tokio::join!(case.batch(), tokio::time::timeout(PATIENCE, answer));
    let error = answer.expect("in time").expect("answered").expect_err("no");
    assert!(error.starts_with("Pod: the fake says Failing"), "{error}");
}
