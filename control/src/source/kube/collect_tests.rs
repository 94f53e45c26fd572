//! News in, events and problems out.

use super::*;
use crate::source::parse::Wire;
use serde_json::json;

const POD: Followed = Followed::Kind(Kind::Pod);
const SERVICE: Followed = Followed::Kind(Kind::Service);
const TLS: Followed = Followed::Kind(Kind::BackendTLSPolicy);

fn item(kind: Kind, name: &str, version: &str, spec: serde_json::Value) -> Item {
    let metadata = json!({"name": name, "namespace": "a", "resourceVersion": version});
    let object = json!({"metadata": metadata, "spec": spec});
    Item::read(kind, Wire::Item(&object))
}

fn pod(name: &str, version: &str) -> News<Item> {
    News::Set(item(Kind::Pod, name, version, json!({"containers": []})))
}

fn broken(name: &str, version: &str) -> News<Item> {
    News::Set(item(Kind::Pod, name, version, json!(7)))
}

/// Events and problems of the next batch, as text.
fn batch(collected: &mut Collected) -> Option<(Vec<String>, Vec<String>)> {
    let batch = collected.batch()?;
    let events = batch.events.iter().map(|event| match event {
        Event::Apply(object, _) => format!("+{}", object.key()),
        Event::Delete(key) => format!("-{key}"),
    });
    let mut events: Vec<String> = events.collect();
    events.sort();
    let problems = batch.problems.iter();
    let problems = problems.map(|it| format!("{}: {}", it.object, it.error));
    Some((events, problems.collect()))
}

fn listed(pods: &[News<Item>]) -> Collected {
    let mut collected = Collected::new(&[Kind::Pod]);
    collected.take(&POD, News::Begin(0));
    for news in pods {
        collected.take(&POD, news.clone());
    }
    collected.take(&POD, News::Complete);
    collected
}

#[test]
fn nothing_is_given_before_every_kind_is_known() {
    let mut collected = Collected::new(&[Kind::Pod, Kind::Service]);
    collected.take(&POD, News::Begin(0));
    collected.take(&POD, pod("x", "1"));
    collected.take(&POD, News::Complete);
    assert_eq!(batch(&mut collected), None);
    collected.take(&SERVICE, News::Trouble("refused".into()));
    assert_eq!(
        batch(&mut collected),
        None,
        "not to be told is not to be absent"
    );
    let missing: Vec<_> = collected
        .missing()
        .map(|(of, why)| (of.to_string(), why.map(str::to_owned)))
        .collect();
    assert_eq!(
        missing,
        [("Service".to_owned(), Some("refused".to_owned()))]
    );
    collected.take(&SERVICE, News::Absent(0));
    assert_eq!(
        batch(&mut collected),
        Some((vec!["+Pod a/x".into()], vec![]))
    );
    assert_eq!(batch(&mut collected), None, "once");
}

#[test]
fn an_empty_cluster_is_given_as_well() {
    let mut collected = listed(&[]);
    assert_eq!(batch(&mut collected), Some((vec![], vec![])));
    assert_eq!(batch(&mut collected), None);
}

#[test]
fn what_a_later_list_does_not_have_is_gone() {
    let mut collected = listed(&[pod("x", "1"), pod("y", "2")]);
    batch(&mut collected);
    collected.take(&POD, News::Begin(1));
    collected.take(&POD, pod("x", "1"));
    assert_eq!(batch(&mut collected), None, "the same version says nothing");
    collected.take(&POD, pod("z", "9"));
    collected.take(&POD, News::Complete);
    assert_eq!(
        batch(&mut collected),
        Some((vec!["+Pod a/z".into(), "-Pod a/y".into()], vec![]))
    );
}

#[test]
fn a_list_that_begins_anew_forgets_its_first_half() {
    let mut collected = listed(&[pod("x", "1"), pod("y", "2")]);
    batch(&mut collected);
    collected.take(&POD, News::Begin(1));
    collected.take(&POD, pod("x", "1"));
    collected.take(&POD, News::Begin(1));
    collected.take(&POD, pod("y", "2"));
    collected.take(&POD, News::Complete);
    assert_eq!(
        batch(&mut collected),
        Some((vec!["-Pod a/x".into()], vec![]))
    );
}

#[test]
fn an_object_that_cannot_be_read_keeps_what_it_was() {
    let mut collected = listed(&[pod("x", "1"), broken("y", "2")]);
    let wrong =
        |name: &str| format!("Pod a/{name}: spec: invalid type: integer `7`, expected PodSpec");
    assert_eq!(
        batch(&mut collected),
        Some((vec!["+Pod a/x".into()], vec![wrong("y")]))
    );
    collected.take(&POD, broken("x", "3"));
    assert_eq!(
        batch(&mut collected),
        Some((vec![], vec![wrong("x"), wrong("y")]))
    );
    // Through a list as well: it is there, and not gone.
    collected.take(&POD, News::Begin(1));
    collected.take(&POD, broken("x", "3"));
    collected.take(&POD, News::Complete);
    assert_eq!(
        batch(&mut collected),
        Some((vec!["-Pod a/y".into()], vec![wrong("x")]))
    );
    collected.take(&POD, pod("x", "4"));
    assert_eq!(
        batch(&mut collected),
        Some((vec!["+Pod a/x".into()], vec![]))
    );
}

#[test]
fn trouble_is_a_problem_until_it_is_over() {
    let mut collected = listed(&[]);
    batch(&mut collected);
    collected.take(&POD, News::Trouble("down".into()));
    let problems = vec!["Pod: down".to_owned()];
    assert_eq!(batch(&mut collected), Some((vec![], problems)));
    assert_eq!(collected.listed_in(1), Err("Pod: down".to_owned()));
    assert_eq!(collected.listed_in(0), Ok(true));
    collected.take(&POD, News::Well);
    assert_eq!(batch(&mut collected), Some((vec![], vec![])));
    assert_eq!(collected.listed_in(1), Ok(false));
}

#[test]
fn a_kind_that_goes_away_takes_its_objects_along() {
    let mut collected = listed(&[pod("x", "1")]);
    batch(&mut collected);
    collected.take(&POD, News::Absent(0));
    assert_eq!(
        batch(&mut collected),
        Some((vec!["-Pod a/x".into()], vec![]))
    );
}

#[test]
fn what_a_policy_refers_to_is_waited_for() {
    let mut collected = Collected::new(&[Kind::BackendTLSPolicy]);
    let validation = |name: &str| {
        let reference = json!({"group": "", "kind": "ConfigMap", "name": name});
        let spec = json!({"validation": {"caCertificateRefs": [reference], "hostname": "h"}});
        News::Set(item(Kind::BackendTLSPolicy, "p", name, spec))
    };
    collected.take(&TLS, News::Begin(0));
    collected.take(&TLS, validation("roots"));
    collected.take(&TLS, News::Complete);
    assert_eq!(batch(&mut collected), None);
    let wanted = collected.wanted();
    let key = wanted.first().expect("one").clone();
    assert_eq!(key.to_string(), "ConfigMap a/roots");
    collected.follow(&wanted);
    assert_eq!(batch(&mut collected), None);
    let one = Followed::One(key);
    collected.take(&one, News::Begin(0));
    let map = item(Kind::ConfigMap, "roots", "1", json!(null));
    collected.take(&one, News::Set(map));
    collected.take(&one, News::Complete);
    let policy = "+BackendTLSPolicy a/p".to_owned();
    let events = vec![policy.clone(), "+ConfigMap a/roots".to_owned()];
    assert_eq!(batch(&mut collected), Some((events, vec![])));
    // Another one, which may not be read: that is a problem, and holds up nothing.
    collected.take(&TLS, validation("other"));
    let wanted = collected.wanted();
    collected.follow(&wanted);
    let other = Followed::One(wanted.first().expect("one").clone());
    collected.take(&other, News::Trouble("forbidden".into()));
    assert_eq!(
        batch(&mut collected),
        Some((
            vec![policy, "-ConfigMap a/roots".to_owned()],
            vec!["ConfigMap a/other: forbidden".to_owned()]
        ))
    );
}

#[test]
fn a_policy_that_was_never_read_denies_and_one_that_was_stays() {
    const POLICY: Followed = Followed::Kind(Kind::AuthorizationPolicy);
    let set = |version: &str, spec| News::Set(item(Kind::AuthorizationPolicy, "p", version, spec));
    let mut collected = Collected::new(&[Kind::AuthorizationPolicy]);
    collected.take(&POLICY, News::Begin(1));
    collected.take(&POLICY, set("1", json!({"action": "ALLOW", "rules": 7})));
    collected.take(&POLICY, News::Complete);
    let given = collected.batch().expect("something new");
    assert_eq!(given.problems.len(), 1);
    let Event::Apply(Object::AuthorizationPolicy(policy), _) = &given.events[0] else {
        panic!("{given:?}");
    };
    assert_eq!(policy.spec.action.as_deref(), Some("DENY"));
    for (version, spec, events, problems) in [
        ("2", json!({"action": "ALLOW", "rules": 7}), 0, 1),
        ("3", json!({"action": "ALLOW"}), 1, 0),
        ("4", json!({"action": "ALLOW", "rules": 7}), 0, 1),
    ] {
        collected.take(&POLICY, set(version, spec));
        let given = collected.batch();
        let counts = given.map_or((0, 1), |it| (it.events.len(), it.problems.len()));
        assert_eq!(counts, (events, problems), "{version}");
    }
}
