//! The node rule.

use super::*;
use crate::source::{Event, Object, Origin};
use crate::tokens::BoundPod;
use crate::translate::Mesh;

fn index() -> Index {
    let mut index = Index::new(Mesh::renamed("cluster.local", "old.example,new.example"));
    let pods = [
        ("shop", "web", "web", "node-1", "Running"),
        ("shop", "db", "db", "node-2", "Running"),
        ("shop", "starting", "starting", "node-1", "Pending"),
        ("shop", "done", "done", "node-1", "Succeeded"),
        ("shop", "plain", "", "node-1", "Running"),
        ("ambit-system", "ztunnel-1", "ztunnel", "node-1", "Running"),
    ];
    for (namespace, name, account, node, phase) in pods {
        let pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{name}")},
            "spec": {"nodeName": node, "serviceAccountName": account, "containers": []},
            "status": {"phase": phase},
        }))
        .expect("a pod");
        index.apply([Event::Apply(Object::Pod(Arc::new(pod)), Origin::default())]);
    }
    for (namespace, name, account) in [
        ("shop", "vm-1", Some("vm")),
        ("shop", "vm-2", Some("vm")),
        ("shop", "plain", None),
        ("shop", "empty", Some("")),
        ("other", "vm-1", Some("web")),
        ("ambit-system", "edge", Some("ztunnel")),
    ] {
        let entry = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"address": "192.0.2.1", "serviceAccount": account},
        }))
        .expect("an entry");
        let entry = Object::WorkloadEntry(Arc::new(entry));
        index.apply([Event::Apply(entry, Origin::default())]);
    }
    index
}

fn caller(account: &str, node: Option<&str>, pod: Option<(&str, &str)>) -> Caller {
    let (namespace, service_account) = account.split_once('/').expect("two parts");
    Caller {
        namespace: namespace.into(),
        service_account: service_account.into(),
        pod: pod.map(|(name, uid)| BoundPod {
            name: name.into(),
            uid: uid.into(),
        }),
        node: node.map(Into::into),
        entry: None,
    }
}

#[test]
fn who_may_have_what() {
    let index = index();
    let trusted = BTreeSet::from(["ambit-system/ztunnel".to_owned()]);
    let ztunnel = |node, pod| caller("ambit-system/ztunnel", node, pod);
    let bound = Some(("ztunnel-1", "uid-ztunnel-1"));
    let web = "spiffe://cluster.local/ns/shop/sa/web";
    let db = "spiffe://cluster.local/ns/shop/sa/db";
    let own = "spiffe://cluster.local/ns/ambit-system/sa/ztunnel";
    type Case<'a> = (&'a str, Caller, Option<&'a str>, Result<&'a str, &'a str>);
    let cases: &[Case<'_>] = &[
        (
            "own, unasked",
            caller("shop/web", None, None),
            None,
            Ok(web),
        ),
        (
            "own, asked",
            caller("shop/web", None, None),
            Some(web),
            Ok(web),
        ),
        (
            "of another",
            caller("shop/web", Some("node-1"), None),
            Some(db),
            Err("own identity only"),
        ),
        ("a node's own", ztunnel(Some("node-1"), None), None, Ok(own)),
        (
            "on the node",
            ztunnel(Some("node-1"), None),
            Some(web),
            Ok(web),
        ),
        ("node by its pod", ztunnel(None, bound), Some(web), Ok(web)),
        (
            "on another node",
            ztunnel(Some("node-1"), None),
            Some(db),
            Err("no pod on node node-1 runs as"),
        ),
        (
            "on another node, by pod",
            ztunnel(None, bound),
            Some(db),
            Err("no pod on node node-1 runs as"),
        ),
        (
            "token and pod disagree",
            ztunnel(Some("node-2"), bound),
            Some(db),
            Err("says node node-2, but its pod is on node-1"),
        ),
        (
            "the pod was replaced",
            ztunnel(None, Some(("ztunnel-1", "old"))),
            Some(web),
            Err("replaced"),
        ),
        (
            "no node at all",
            ztunnel(None, None),
            Some(web),
            Err("names no node"),
        ),
        (
            "unknown pod",
            ztunnel(None, Some(("gone", "x"))),
            Some(web),
            Err("names no node"),
        ),
        (
            "unknown pod, node in the token",
            ztunnel(Some("node-1"), Some(("gone", "x"))),
            Some(web),
            Ok(web),
        ),
        (
            "pending",
            ztunnel(Some("node-1"), None),
            Some("spiffe://cluster.local/ns/shop/sa/starting"),
            Ok("spiffe://cluster.local/ns/shop/sa/starting"),
        ),
        (
            "over",
            ztunnel(Some("node-1"), None),
            Some("spiffe://cluster.local/ns/shop/sa/done"),
            Err("no pod"),
        ),
        (
            "default account",
            ztunnel(Some("node-1"), None),
            Some("spiffe://cluster.local/ns/shop/sa/default"),
            Ok("spiffe://cluster.local/ns/shop/sa/default"),
        ),
        (
            "other namespace",
            ztunnel(Some("node-1"), None),
            Some("spiffe://cluster.local/ns/other/sa/web"),
            Err("no pod"),
        ),
        (
            "other trust domain",
            ztunnel(Some("node-1"), None),
            Some("spiffe://other/ns/shop/sa/web"),
            Err("trust domain"),
        ),
        (
            "own, under an alias",
            caller("shop/web", None, None),
            Some("spiffe://old.example/ns/shop/sa/web"),
            Ok("spiffe://old.example/ns/shop/sa/web"),
        ),
        (
            "own, in another trust domain",
            caller("shop/web", None, None),
            Some("spiffe://other/ns/shop/sa/web"),
            Err("own identity only"),
        ),
        (
            "of another, under an alias",
            caller("shop/web", Some("node-1"), None),
            Some("spiffe://old.example/ns/shop/sa/db"),
            Err("own identity only"),
        ),
        (
            "on the node, under an alias",
            ztunnel(Some("node-1"), None),
            Some("spiffe://new.example/ns/shop/sa/web"),
            Ok("spiffe://new.example/ns/shop/sa/web"),
        ),
        (
            "on another node, under an alias",
            ztunnel(Some("node-1"), None),
            Some("spiffe://new.example/ns/shop/sa/db"),
            Err("no pod on node node-1 runs as"),
        ),
        (
            "trusted in another namespace",
            caller("shop/ztunnel", Some("node-1"), None),
            Some(web),
            Err("own identity only"),
        ),
    ];
    for (name, caller, wanted, expected) in cases {
        let wanted = wanted.map(|text| text.parse().expect("an identity"));
        let result = permit(caller, wanted, &trusted, &index);
        match (result, expected) {
            (Ok(identity), Ok(expected)) => assert_eq!(identity.to_string(), *expected, "{name}"),
            (Err(refusal), Err(reason)) => {
                assert!(refusal.to_string().contains(reason), "{name}: {refusal}");
            }
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}

#[test]
fn a_machine_has_its_own_identity_while_its_entry_is_there() {
    let index = index();
    let trusted = BTreeSet::from(["ambit-system/ztunnel".to_owned()]);
    let vm = "spiffe://cluster.local/ns/shop/sa/vm";
    let certified = |account: &str, entry: &str| Caller {
        entry: Some(entry.into()),
        ..caller(account, None, None)
    };
    let pod = Some(("web", "uid-web"));
    type Case<'a> = (
        &'a str,
        Caller,
        Option<&'a str>,
        Option<&'a str>,
        Result<Option<&'a str>, &'a str>,
    );
    let cases: &[Case<'_>] = &[
        (
            "by token",
            caller("shop/vm", None, None),
            Some("vm-1"),
            None,
            Ok(Some("vm-1")),
        ),
        (
            "by token, asked",
            caller("shop/vm", None, None),
            Some("vm-1"),
            Some(vm),
            Ok(Some("vm-1")),
        ),
        (
            "by certificate",
            certified("shop/vm", "vm-1"),
            Some("vm-1"),
            Some(vm),
            Ok(Some("vm-1")),
        ),
        (
            "by certificate, unasked",
            certified("shop/vm", "vm-1"),
            None,
            None,
            Ok(Some("vm-1")),
        ),
        (
            "the default account",
            caller("shop/default", None, None),
            Some("plain"),
            None,
            Ok(Some("plain")),
        ),
        (
            "no machine",
            caller("shop/vm", None, None),
            None,
            None,
            Ok(None),
        ),
        (
            "another's entry by token",
            caller("shop/web", None, None),
            Some("vm-1"),
            None,
            Err("runs as service account vm, not as web"),
        ),
        (
            "another's entry by certificate",
            certified("shop/web", "vm-1"),
            None,
            None,
            Err("runs as service account vm, not as web"),
        ),
        (
            "an entry elsewhere",
            caller("shop/web", None, None),
            Some("edge"),
            None,
            Err("there is no WorkloadEntry shop/edge"),
        ),
        (
            "an entry that is gone, by token",
            caller("shop/vm", None, None),
            Some("vm-3"),
            None,
            Err("there is no WorkloadEntry shop/vm-3"),
        ),
        (
            "an entry that is gone, by certificate",
            certified("shop/vm", "vm-3"),
            None,
            Some(vm),
            Err("there is no WorkloadEntry shop/vm-3"),
        ),
        (
            "another entry of the account",
            certified("shop/vm", "vm-1"),
            Some("vm-2"),
            None,
            Err("the certificate is of WorkloadEntry vm-1, not of vm-2"),
        ),
        (
            "a pod",
            caller("shop/vm", Some("node-1"), pod),
            Some("vm-1"),
            None,
            Err("is bound to a pod"),
        ),
        (
            "of another",
            caller("shop/vm", None, None),
            Some("vm-1"),
            Some("spiffe://cluster.local/ns/shop/sa/web"),
            Err("a machine has its own identity only"),
        ),
        (
            "under an alias",
            certified("shop/vm", "vm-1"),
            None,
            Some("spiffe://old.example/ns/shop/sa/vm"),
            Ok(Some("vm-1")),
        ),
        (
            "a node proxy's account, of a pod",
            caller("ambit-system/ztunnel", Some("node-1"), None),
            Some("edge"),
            Some("spiffe://cluster.local/ns/shop/sa/web"),
            Err("a machine has its own identity only"),
        ),
        (
            "its certificate, of a pod",
            certified("ambit-system/ztunnel", "edge"),
            None,
            Some("spiffe://cluster.local/ns/shop/sa/web"),
            Err("a machine has its own identity only"),
        ),
    ];
    for (name, caller, entry, wanted, expected) in cases {
        let identity = wanted.map(|text| text.parse().expect("an identity"));
        let result = permit_either(caller, identity, *entry, &trusted, &index);
        match (result, expected) {
            (Ok(permit), Ok(entry)) => {
                assert_eq!(permit.entry.as_deref(), *entry, "{name}");
                assert_eq!(
                    *permit.identity.service_account(),
                    caller.service_account,
                    "{name}"
                );
            }
            (Err(refusal), Err(reason)) => {
                assert!(refusal.to_string().contains(reason), "{name}: {refusal}");
            }
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}
