use tokio::sync::watch;

use super::*;
use crate::ca::material::Pems;
use crate::source::{Batch, Event, Key, Kind, Object, Origin};
use crate::tokens::certificate_tests::{authority, callers_of, pems, revoking, signed};
use crate::translate::Mesh;

fn entry(account: &str) -> Event {
    let entry = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "vm-1", "namespace": "shop"},
        "spec": {"address": "192.0.2.1", "serviceAccount": account},
    }));
    let entry = Object::WorkloadEntry(Arc::new(entry.expect("an entry")));
    Event::Apply(entry, Origin::default())
}

fn apply(state: &State, event: Event) {
    let batch = Batch {
        events: vec![event],
        ..Batch::default()
    };
    state.apply(batch);
}

/// A machine whose entry is there, and who writes the authority that has signed for it.
fn machine(
    pems: &Pems,
    entry_of: Option<&str>,
) -> (Standing, watch::Sender<Arc<crate::ca::Authority>>) {
    let own = authority(pems);
    let chain = signed(&own, "cluster.local", Some("vm-1"), SystemTime::now());
    let (writer, signing) = watch::channel(Arc::new(own));
    let callers = Arc::new(callers_of(Some(signing)));
    let state = Arc::new(State::new(Mesh::default()));
    apply(&state, entry("vm"));
    let peer = Peer {
        address: "192.0.2.1:1".parse().expect("an address"),
        shown: Some(chain),
    };
    let caller = Caller {
        namespace: "shop".into(),
        service_account: "vm".into(),
        pod: None,
        node: None,
        entry: entry_of.map(Into::into),
    };
    let standing = Standing::of(caller, Some(&peer), callers, state).expect("let in");
    (standing, writer)
}

#[tokio::test]
async fn a_machine_stands_by_its_entry() {
    let (standing, _writer) = machine(&pems(), Some("vm-1"));
    assert!(standing.is_a_machine());
    standing.has_its_entry().expect("it is there");
    apply(&standing.state, entry("other"));
    let status = standing.has_its_entry().expect_err("another's");
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert!(
        status.message().contains("runs as service account other"),
        "{status}"
    );
    apply(&standing.state, entry("vm"));
    standing.has_its_entry().expect("it is there again");
    let gone = Event::Delete(Key {
        kind: Kind::WorkloadEntry,
        namespace: "shop".into(),
        name: "vm-1".into(),
    });
    apply(&standing.state, gone);
    let status = standing.has_its_entry().expect_err("gone");
    assert!(
        status
            .message()
            .contains("there is no WorkloadEntry shop/vm-1"),
        "{status}"
    );
}

#[tokio::test]
async fn a_machine_stands_by_its_certificate() {
    let pems = pems();
    let (mut standing, writer) = machine(&pems, Some("vm-1"));
    let shown = standing.shown.as_ref().expect("shown").chain.clone();
    // Another authority that it has nothing to fear from changes nothing.
    writer.send_replace(Arc::new(authority(&pems)));
    let short = Duration::from_millis(200);
    let ended = tokio::time::timeout(short, standing.ended()).await;
    assert!(ended.is_err(), "{ended:?}");
    writer.send_replace(Arc::new(authority(&revoking(&pems, &shown))));
    let status = standing.ended().await;
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert!(status.message().contains("is revoked"), "{status}");
}

#[tokio::test]
async fn who_has_shown_a_token_is_not_looked_at_again() {
    let pems = pems();
    let (mut standing, writer) = machine(&pems, None);
    assert!(!standing.is_a_machine());
    drop(writer);
    let short = Duration::from_millis(200);
    let ended = tokio::time::timeout(short, standing.ended()).await;
    assert!(ended.is_err(), "{ended:?}");
}
