//! Who gets what, and whose it is.

use std::time::{Duration, SystemTime};

use super::*;
use crate::ca::material::Pems;
use crate::cluster::fake::Fake;
use crate::source::{Batch, Event, Object, Origin};
use crate::translate::Mesh;

const NAME: &str = ROOTS.name;
const FILE: &str = ROOTS.file;

fn authority() -> Arc<Authority> {
    let now = SystemTime::now();
    let pems = Pems::generate("td", now).expect("made");
    Arc::new(Authority::new(&pems, now).expect("whole"))
}

/// Publishes for a control plane in `own`.
fn publish(
    bundles: impl IntoIterator<Item = Bundle>,
    own: &str,
    fake: &Fake,
    state: &Arc<State>,
    signing: &Signing,
    held: &Held,
) {
    for bundle in bundles {
        let (own, state) = (own.to_owned(), state.clone());
        let running = run(
            bundle,
            fake.cluster(),
            own,
            state,
            signing.clone(),
            held.clone(),
        );
        tokio::spawn(running);
    }
}

fn add_namespaces(state: &State, names: &[&str]) {
    let mut batch = Batch::default();
    for name in names {
        let metadata = json!({"name": name, "uid": format!("uid of {name}")});
        let namespace = serde_json::from_value(json!({"metadata": metadata}));
        let namespace = Object::Namespace(Arc::new(namespace.expect("a namespace")));
        let event = Event::Apply(namespace, Origin::default());
        batch.events.push(event);
    }
    state.apply(batch);
}

#[tokio::test]
async fn every_namespace_has_the_roots_of_now() {
    let fake = Fake::start().await;
    let stale = json!({"metadata": {"name": NAME, "namespace": "b"}, "data": {FILE: "old"}});
    fake.set("/configmaps", stale);
    let state = Arc::new(State::new(Mesh::default()));
    let (held, holds) = watch::channel(None);
    let (sign, signing) = watch::channel(authority());
    publish([ROOTS], "a", &fake, &state, &signing, &holds);
    add_namespaces(&state, &["a", "b"]);
    fake.until(|fake| !fake.requests("watch").is_empty()).await;
    assert!(fake.requests("PATCH").is_empty(), "nobody else writes");
    fake.fail("PATCH", 500, None);
    held.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
    let everywhere = |roots: String| {
        move |fake: &Fake| {
            ["a", "b"].iter().all(|namespace| {
                let map = fake.object("/configmaps", namespace, NAME);
                map.is_some_and(|map| map["data"][FILE] == roots.as_str())
            })
        }
    };
    let first = sign.borrow().roots().to_owned();
    fake.until(everywhere(first.clone())).await;
    let map = fake.object("/configmaps", "b", NAME).expect("a map");
    let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": "a", "uid": "uid of a"});
    assert_eq!(map["metadata"]["ownerReferences"], json!([owner]));
    fake.remove("/configmaps", "a", NAME);
    fake.until(everywhere(first)).await;
    let next = authority();
    sign.send_replace(next.clone());
    fake.until(everywhere(next.roots().to_owned())).await;
}

/// Roots that are right and would stay when the control plane goes get their owner, once; another installation's have one.
#[tokio::test]
async fn roots_that_belong_to_nobody_get_an_owner() {
    let fake = Fake::start().await;
    let state = Arc::new(State::new(Mesh::default()));
    let (held, holds) = watch::channel(None);
    let (sign, signing) = watch::channel(authority());
    let roots = sign.borrow().roots().to_owned();
    let map = |namespace: &str, owners: Value| {
        let metadata = json!({"name": NAME, "namespace": namespace, "ownerReferences": owners});
        json!({"metadata": metadata, "data": {FILE: roots}})
    };
    fake.set("/configmaps", map("own", json!([])));
    fake.set("/configmaps", map("theirs", json!([{"uid": "another"}])));
    publish([ROOTS], "own", &fake, &state, &signing, &holds);
    add_namespaces(&state, &["own", "theirs", "new"]);
    held.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
    let is_owned = |fake: &Fake, namespace: &str| {
        let map = fake.object("/configmaps", namespace, NAME);
        map.is_some_and(|map| map["metadata"]["ownerReferences"][0]["uid"] == "uid of own")
    };
    fake.until(|fake| is_owned(fake, "own") && is_owned(fake, "new"))
        .await;
    // What comes later is written; what is right is not written again.
    fake.remove("/configmaps", "new", NAME);
    fake.until(|fake| is_owned(fake, "new")).await;
    let writes = fake.requests("PATCH");
    let of = |namespace: &str| {
        let path = format!("/{namespace}/");
        writes.iter().filter(|it| it.contains(&path)).count()
    };
    assert_eq!(
        (of("own"), of("theirs"), of("new")),
        (1, 0, 2),
        "{writes:?}"
    );
}

/// Another control plane that writes its roots into the same ConfigMap at once, for ever.
#[tokio::test]
async fn who_writes_its_own_is_not_fought() {
    let fake = Fake::start().await;
    let state = Arc::new(State::new(Mesh::default()));
    let held = Some(Instant::now() + Duration::from_secs(3600));
    let (_held, holds) = watch::channel(held);
    let (sign, signing) = watch::channel(authority());
    let roots = sign.borrow().roots().to_owned();
    publish([ROOTS], "ambit-system", &fake, &state, &signing, &holds);
    add_namespaces(&state, &["contested", "quiet"]);
    let theirs = json!({
        "metadata": {
            "name": NAME, "namespace": "contested",
            "managedFields": [{
                "manager": "pilot-discovery", "operation": "Update",
                "fieldsV1": {"f:data": {".": {}, "f:root-cert.pem": {}}},
            }],
        },
        "data": {FILE: "theirs"},
    });
    let is_ours = |fake: &Fake, namespace: &str| {
        let map = fake.object("/configmaps", namespace, NAME);
        map.is_some_and(|map| map["data"][FILE] == roots.as_str())
    };
    for _ in 0..2 {
        fake.until(|fake| is_ours(fake, "contested")).await;
        fake.set("/configmaps", theirs.clone());
    }
    // What comes after is written; what is contested is not.
    fake.remove("/configmaps", "quiet", NAME);
    fake.until(|fake| is_ours(fake, "quiet")).await;
    let writes = fake.requests("PATCH");
    let contested = writes.iter().filter(|path| path.contains("contested"));
    assert_eq!(contested.count(), 2);
    let map = fake.object("/configmaps", "contested", NAME);
    assert_eq!(map.expect("a map")["data"][FILE], "theirs");
}

/// A ConfigMap of revocation lists is there once there are any, and is emptied when it is said that there are none any more: one that is gone
/// would say nothing to who has read it.
#[tokio::test]
async fn lists_are_published_once_there_are_any() {
    const NAME: &str = REVOKED.name;
    let fake = Fake::start().await;
    let state = Arc::new(State::new(Mesh::default()));
    let held = Some(Instant::now() + Duration::from_secs(3600));
    let (_held, holds) = watch::channel(held);
    let theirs = json!({
        "metadata": {
            "name": NAME, "namespace": "theirs",
            "managedFields": [{
                "manager": "pilot-discovery", "operation": "Update",
                "fieldsV1": {"f:data": {".": {}, "f:ca-crl.pem": {}}},
            }],
        },
        "data": {REVOKED.file: "theirs"},
    });
    fake.set("/configmaps", theirs);
    let without = authority();
    let roots = without.roots().to_owned();
    let (sign, signing) = watch::channel(without.clone());
    publish([ROOTS, REVOKED], "own", &fake, &state, &signing, &holds);
    add_namespaces(&state, &["own", "shop", "theirs"]);
    let of = |fake: &Fake, namespace: &str| {
        let map = fake.object("/configmaps", namespace, NAME)?;
        map["data"][REVOKED.file].as_str().map(str::to_owned)
    };
    let everywhere = |fake: &Fake, text: Option<&str>, namespaces: &[&str]| {
        let mut found = namespaces.iter().map(|namespace| of(fake, namespace));
        found.all(|found| found.as_deref() == text)
    };
    let all = ["own", "shop", "theirs"];
    fake.until(|fake| fake.object("/configmaps", "shop", ROOTS.name).is_some())
        .await;
    assert!(everywhere(&fake, None, &all[..2]), "nothing to say");
    let (with, empty, lists) = authority_with_lists();
    sign.send_replace(with);
    fake.until(|fake| everywhere(fake, Some(&lists), &all))
        .await;
    // A server keeps account of it that they are this control plane's now.
    fake.set(
        "/configmaps",
        json!({
            "metadata": {
                "name": NAME, "namespace": "theirs",
                "managedFields": [{
                    "manager": FIELD_MANAGER, "operation": "Apply",
                    "fieldsV1": {"f:data": {"f:ca-crl.pem": {}}},
                }],
            },
            "data": {REVOKED.file: lists},
        }),
    );
    // Who does not speak of lists takes none back: other roots are published meanwhile, and these stay.
    sign.send_replace(without);
    fake.until(|fake| {
        let map = fake.object("/configmaps", "shop", ROOTS.name);
        map.is_some_and(|map| map["data"][ROOTS.file] == roots.as_str())
    })
    .await;
    assert!(everywhere(&fake, Some(&lists), &all), "as they were");
    sign.send_replace(empty);
    fake.until(|fake| everywhere(fake, Some(""), &all)).await;
    // It was not emptied as long as others had written it, and nothing was to be said.
    let writes = fake.requests("PATCH");
    let path = format!("/theirs/configmaps/{NAME}");
    let of_others = writes.iter().filter(|it| it.contains(&path));
    assert_eq!(of_others.count(), 2, "{writes:?}");
}

/// One that has a list, the same without any, and the list.
fn authority_with_lists() -> (Arc<Authority>, Arc<Authority>, String) {
    let now = SystemTime::now();
    let pems = Pems::generate("td", now).expect("made");
    let key = rcgen::KeyPair::from_pem(&pems.ca_key).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&pems.ca_cert, key).expect("an issuer");
    let list = ambit_net::revocation::testing::list(&issuer, [], |_| {});
    let revoked = list.trim().to_owned();
    let pems = Pems {
        revoked: Some(revoked.clone()),
        ..pems
    };
    let none = Pems {
        revoked: Some(String::new()),
        ..pems.clone()
    };
    let [with, without] =
        [pems, none].map(|pems| Arc::new(Authority::new(&pems, now).expect("whole")));
    (with, without, revoked)
}
