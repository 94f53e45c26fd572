//! Who makes the Secret, which one counts, and rotation.

use std::time::Duration;

use super::*;
use crate::cluster::fake::Fake;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

async fn start(fake: &Fake) -> Result<watch::Receiver<Arc<Authority>>, String> {
    let following = follow_secrets(fake.cluster(), "ambit-system".to_owned(), "td".to_owned());
    tokio::time::timeout(PATIENCE, following)
        .await
        .expect("in time")
}

async fn next(signing: &mut watch::Receiver<Arc<Authority>>) -> Arc<Authority> {
    let changed = tokio::time::timeout(PATIENCE, signing.changed()).await;
    changed.expect("in time").expect("kept");
    signing.borrow_and_update().clone()
}

fn material() -> Pems {
    Pems::generate("td", SystemTime::now()).expect("made")
}

fn put(fake: &Fake, name: &str, pems: &Pems) {
    let mut object = serde_json::to_value(secret("ambit-system", pems)).expect("JSON");
    object["metadata"]["name"] = json!(name);
    fake.set("/secrets", object);
}

#[tokio::test]
async fn exactly_one_replica_makes_it() {
    let fake = Fake::start().await;
    fake.fail("POST", 500, None);
    let found = tokio::join!(start(&fake), start(&fake), start(&fake));
    let all = [found.0, found.1, found.2].map(|found| found.expect("made"));
    let made = fake.object("/secrets", "ambit-system", MADE).expect("made");
    let made = read(Wire::Item(&made)).expect("whole");
    for signing in all {
        assert_eq!(signing.borrow().roots(), made.root_cert);
    }
}

#[tokio::test]
async fn what_is_plugged_in_counts() {
    let fake = Fake::start().await;
    let (plugged, made) = (material(), material());
    put(&fake, PLUGGED, &plugged);
    put(&fake, MADE, &made);
    let mut signing = start(&fake).await.expect("found");
    assert_eq!(signing.borrow().roots(), plugged.root_cert);
    fake.remove("/secrets", "ambit-system", PLUGGED);
    assert_eq!(next(&mut signing).await.roots(), made.root_cert);
    assert!(fake.requests("POST").is_empty());
}

#[tokio::test]
async fn what_does_not_hold_together_is_named() {
    type Spoil = fn(&mut Value);
    let rows: [(Spoil, &str); 3] = [
        (
            |it| it["data"]["ca-key.pem"] = json!("bm8="),
            "Secret ambit-system/cacerts: ca-key.pem: ",
        ),
        (
            |it| {
                drop(
                    it["data"]
                        .as_object_mut()
                        .expect("data")
                        .remove("root-cert.pem"),
                )
            },
            "Secret ambit-system/cacerts: root-cert.pem is missing",
        ),
        (|it| it["data"] = json!(7), "Secret ambit-system/cacerts: "),
    ];
    for (spoil, expected) in rows {
        let fake = Fake::start().await;
        put(&fake, PLUGGED, &material());
        let mut spoilt = fake
            .object("/secrets", "ambit-system", PLUGGED)
            .expect("set");
        spoil(&mut spoilt);
        fake.set("/secrets", spoilt);
        let error = start(&fake).await.expect_err("spoilt");
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn a_rotation_is_taken_up_step_by_step() {
    let fake = Fake::start().await;
    let (old, new) = (material(), material());
    put(&fake, PLUGGED, &old);
    let mut signing = start(&fake).await.expect("found");
    let both = old.root_cert.clone() + &new.root_cert;
    // Both roots are trusted before anything is signed with the new one.
    let overlapping = Pems {
        root_cert: both.clone(),
        ..old.clone()
    };
    put(&fake, PLUGGED, &overlapping);
    assert_eq!(next(&mut signing).await.roots(), both);
    // What makes no sense changes nothing.
    let mixed = Pems {
        ca_key: new.ca_key.clone(),
        ..overlapping.clone()
    };
    put(&fake, PLUGGED, &mixed);
    let issuing = Pems {
        root_cert: both.clone(),
        ..new.clone()
    };
    put(&fake, PLUGGED, &issuing);
    assert_eq!(next(&mut signing).await.roots(), both);
    put(&fake, PLUGGED, &new);
    assert_eq!(next(&mut signing).await.roots(), new.root_cert);
}

#[tokio::test]
async fn a_secret_that_is_removed_is_put_back() {
    let fake = Fake::start().await;
    let signing = start(&fake).await.expect("made");
    let roots = signing.borrow().roots().to_owned();
    fake.remove("/secrets", "ambit-system", MADE);
    fake.until(|fake| fake.object("/secrets", "ambit-system", MADE).is_some())
        .await;
    let back = fake.object("/secrets", "ambit-system", MADE).expect("back");
    assert_eq!(read(Wire::Item(&back)).expect("whole").root_cert, roots);
}
