//! What differs between the pods that should be in the mesh and those that are.

use std::collections::{BTreeMap, BTreeSet};

use ambit_core::exclusions::Exclusions;

use super::pod::{Decision, Labels, Mark, Pod, decide};

/// What is to be done about one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It should be in the mesh and is not: its namespace or itself was labelled after its start. One that has no address
    /// yet is still on its way through the CNI plugin.
    Enrol(Pod),
    /// It is in the mesh and does not exist any more.
    Forget(String),
    /// It is captured, and is to be captured otherwise.
    Recapture(Pod),
    /// It is captured, or not any more, and its annotation says otherwise.
    Mark(Pod, Mark),
}

/// How a pod that is enrolled is captured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Captured {
    /// What of it is left alone.
    pub exclusions: Exclusions,
    /// Whether its UDP is captured.
    pub udp: bool,
}

impl Pod {
    /// How it is to be captured.
    fn captured(&self) -> Captured {
        Captured {
            exclusions: self.exclusions.clone(),
            udp: self.udp,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// In the mesh, and should not be any more: they leave together, which takes a while.
    pub leaving: Vec<Pod>,
    /// What is done at once, one after the other.
    pub actions: Vec<Action>,
}

/// Compares those that are enrolled, by UID and with how they are captured, with the pods of this node. Nothing is to be done about those that are leaving already.
#[must_use]
pub fn reconcile(
    enrolled: &BTreeMap<String, Captured>,
    leaving: &BTreeSet<String>,
    pods: &[Pod],
    namespaces: &BTreeMap<String, Labels>,
) -> Changes {
    let none = Labels::new();
    let wanted = |pod: &Pod| {
        let labels = namespaces.get(&pod.namespace).unwrap_or(&none);
        decide(pod, labels) == Decision::Enrol
    };
    let by_uid: BTreeMap<&str, &Pod> = pods
        .iter()
        .filter(|pod| !leaving.contains(&pod.uid))
        .map(|pod| (pod.uid.as_str(), pod))
        .collect();
    let gone = enrolled
        .keys()
        .filter(|uid| !leaving.contains(*uid) && !by_uid.contains_key(uid.as_str()))
        .map(|uid| Action::Forget(uid.clone()));
    let unwanted = by_uid
        .values()
        .filter(|pod| enrolled.contains_key(&pod.uid) && !wanted(pod))
        .map(|pod| (*pod).clone());
    let new = by_uid
        .values()
        .filter(|pod| wanted(pod) && !enrolled.contains_key(&pod.uid) && !pod.ips.is_empty())
        .map(|pod| Action::Enrol((*pod).clone()));
    let marks = by_uid.values().filter_map(|pod| {
        let captured = enrolled.contains_key(&pod.uid);
        let mark = if captured { Mark::Enabled } else { Mark::None };
        let is_wrong = captured == wanted(pod) && pod.mark != mark;
        is_wrong.then(|| Action::Mark((*pod).clone(), mark))
    });
    let is_other = |pod: &Pod| {
        let known = enrolled.get(&pod.uid);
        known.is_some_and(|known| *known != pod.captured())
    };
    let others = by_uid
        .values()
        .filter(|pod| wanted(pod) && is_other(pod))
        .map(|pod| Action::Recapture((*pod).clone()));
    Changes {
        leaving: unwanted.collect(),
        actions: gone.chain(new).chain(others).chain(marks).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_become_actions() {
        let pod = |uid: &str, namespace: &str, mark: Mark, ips: &[&str]| Pod {
            uid: uid.into(),
            namespace: namespace.into(),
            mark,
            ips: ips
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
            ..Pod::default()
        };
        let pods = [
            pod("1", "in", Mark::Enabled, &["10.0.0.1"]),
            pod("2", "in", Mark::Enabled, &["10.0.0.2"]),
            pod("3", "out", Mark::None, &["10.0.0.3"]),
            pod("4", "unknown", Mark::None, &["10.0.0.4"]),
            pod("5", "in", Mark::None, &[]),
            pod("6", "in", Mark::None, &["10.0.0.6"]),
            pod("7", "out", Mark::Enabled, &["10.0.0.7"]),
            pod("8", "out", Mark::Pending, &["10.0.0.8"]),
            pod("9", "in", Mark::Pending, &["10.0.0.9"]),
        ];
        let marks = [
            Action::Mark(pods[5].clone(), Mark::Enabled),
            Action::Mark(pods[6].clone(), Mark::None),
            Action::Mark(pods[7].clone(), Mark::None),
            Action::Mark(pods[8].clone(), Mark::Enabled),
        ];
        let ambient = [("istio.io/dataplane-mode".into(), "ambient".into())];
        let namespaces = [
            ("in".into(), Labels::from(ambient)),
            ("out".into(), Labels::new()),
        ]
        .into();
        let known = |enrolled: &[&str]| -> BTreeMap<String, Captured> {
            let none = |uid: &&str| ((*uid).to_owned(), Captured::default());
            enrolled.iter().map(none).collect()
        };
        let plan =
            |enrolled: &[&str]| reconcile(&known(enrolled), &BTreeSet::new(), &pods, &namespaces);
        let leaves = |pod: &Pod| Changes {
            leaving: vec![pod.clone()],
            ..Changes::default()
        };
        let does = |action: Action| Changes {
            actions: vec![action],
            ..Changes::default()
        };
        let rows: [(&str, &[&str], Changes); 4] = [
            ("as it should be", &["1", "2", "6", "9"], Changes::default()),
            (
                "labelled",
                &["1", "6", "9"],
                does(Action::Enrol(pods[1].clone())),
            ),
            ("out", &["1", "2", "3", "6", "9"], leaves(&pods[2])),
            (
                "gone",
                &["0", "1", "2", "6", "9"],
                does(Action::Forget("0".into())),
            ),
        ];
        for (name, enrolled, mut expected) in rows {
            expected.actions.extend(marks.clone());
            assert_eq!(plan(enrolled), expected, "{name}");
        }
        // Whatever would be done about each of them.
        let enrolled = known(&["0", "1", "3"]);
        let leaving = (0..10).map(|uid| uid.to_string()).collect();
        let changes = reconcile(&enrolled, &leaving, &pods, &namespaces);
        assert_eq!(changes, Changes::default());
        // Something else is to be left alone of one that stays, and of one that leaves; or its UDP is.
        let mut enrolled = known(&["1", "2", "3", "6", "9"]);
        for uid in ["1", "3"] {
            let left_alone = Exclusions {
                inbound_ports: [80].into(),
                ..Exclusions::default()
            };
            let otherwise = Captured {
                exclusions: left_alone,
                udp: false,
            };
            enrolled.insert(uid.to_owned(), otherwise);
        }
        let mut expected = leaves(&pods[2]);
        expected.actions.push(Action::Recapture(pods[0].clone()));
        expected.actions.extend(marks);
        let changes = reconcile(&enrolled, &BTreeSet::new(), &pods, &namespaces);
        assert_eq!(changes, expected);
        let with_udp = Captured {
            udp: true,
            ..Captured::default()
        };
        enrolled.insert("1".to_owned(), with_udp);
        let changes = reconcile(&enrolled, &BTreeSet::new(), &pods, &namespaces);
        assert_eq!(changes, expected);
    }
}
