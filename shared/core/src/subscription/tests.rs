use super::*;

fn response(nonce: &str, resources: &[(&str, &str)], removed: &[&str]) -> Response {
    Response {
        nonce: nonce.into(),
        resources: resources
            .iter()
            .map(|(name, version)| ((*name).into(), (*version).into()))
            .collect(),
        removed: removed.iter().map(|name| (*name).into()).collect(),
    }
}

fn held(subscription: &Subscription) -> Vec<(String, String)> {
    let mut held: Vec<_> = subscription
        .versions()
        .map(|(name, version)| (name.to_string(), version.to_string()))
        .collect();
    held.sort();
    held
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    expected.iter().map(owned).collect()
}

#[test]
fn the_first_request_subscribes_to_everything() {
    let mut subscription = Subscription::new("type/a");
    let request = subscription.on_connect();
    let expected = Request {
        type_url: "type/a".into(),
        ..Request::default()
    };
    assert_eq!(request, expected);
    assert!(!subscription.synced());
}

#[test]
fn a_response_is_acknowledged_and_remembered_over_a_reconnect() {
    let now = Instant::now();
    let mut subscription = Subscription::new("type/a");
    subscription.on_connect();
    let ack = subscription.on_response(response("n1", &[("a", "1"), ("b", "1")], &[]), &[], now);
    assert_eq!((&*ack.nonce, ack.error), ("n1", None));
    subscription.on_response(response("n2", &[("a", "2")], &["b", "never"]), &[], now);
    subscription.on_disconnect(now);
    let request = subscription.on_connect();
    assert_eq!(&*request.nonce, "");
    assert_eq!(
        request.initial_versions,
        HashMap::from([("a".into(), "2".into())])
    );
}

#[test]
fn a_rejection_is_named_asked_for_again_and_holds_nothing_up() {
    let now = Instant::now();
    let mut subscription = Subscription::new("type/a");
    subscription.on_connect();
    let rejected = [Rejection {
        name: "bad".into(),
        reason: "port 70000".into(),
    }];
    let nack = subscription.on_response(
        response("n1", &[("good", "1"), ("bad", "1")], &[]),
        &rejected,
        now,
    );
    assert_eq!(nack.error.as_deref(), Some("bad: port 70000"));
    assert_eq!(&*nack.nonce, "n1");
    assert!(subscription.synced(), "a rejected first response is enough");
    assert_eq!(held(&subscription), pairs(&[("bad", ""), ("good", "1")]));
}

#[test]
fn an_unreadable_response_changes_nothing() {
    let mut subscription = Subscription::new("type/a");
    subscription.on_connect();
    let nack = subscription.on_unreadable("n1".into(), &"x".repeat(10_000));
    assert_eq!(&*nack.nonce, "n1");
    assert!(nack.error.is_some_and(|error| error.len() < 5_000));
    assert!(!subscription.synced());
}

#[test]
fn state_ages_only_while_disconnected() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut subscription = Subscription::new("type/a");
    assert_eq!(subscription.state_age(at(0)), None);
    subscription.on_connect();
    subscription.on_response(response("n1", &[], &[]), &[], at(1));
    assert_eq!(subscription.state_age(at(100)), Some(Duration::ZERO));
    subscription.on_disconnect(at(100));
    assert_eq!(
        subscription.state_age(at(130)),
        Some(Duration::from_secs(30))
    );
    subscription.on_disconnect(at(120));
    assert_eq!(
        subscription.state_age(at(130)),
        Some(Duration::from_secs(30)),
        "a failed attempt refreshes nothing"
    );
}

#[test]
fn a_snapshot_is_a_start() {
    let mut subscription = Subscription::new("type/a");
    subscription.restore([("a".into(), "7".into())]);
    let request = subscription.on_connect();
    assert_eq!(
        request.initial_versions,
        HashMap::from([("a".into(), "7".into())])
    );
}
