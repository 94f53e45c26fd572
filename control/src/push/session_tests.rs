//! Streams without a network: requests in, responses out.

use bytes::Bytes;

use super::*;
use crate::index::readers::Reader;
use crate::push::shelf::Update;
use ambit_proto::xds::Status;

use ResourceType::{Address, Authorization, Waypoint};

#[derive(Default)]
struct Case {
    shelves: Shelves,
    session: Session,
}

#[derive(Debug, PartialEq, Eq)]
struct Sent {
    of: ResourceType,
    nonce: String,
    /// `name=version`.
    present: Vec<String>,
    removed: Vec<String>,
    more_follows: bool,
}

impl Case {
    fn set(&mut self, of: ResourceType, name: &str, version: &str) -> &mut Self {
        self.set_sized(of, name, version, 10)
    }

    /// For these waypoints.
    fn set_for(&mut self, name: &str, version: &str, waypoints: &[&str]) -> &mut Self {
        let readers = waypoints
            .iter()
            .map(|name| Reader::Waypoint(waypoint(name)));
        let resource = Resource {
            name: name.into(),
            version: version.into(),
            body: Bytes::new(),
            aliases: Vec::new(),
            readers: Some(Arc::new(readers.collect())),
            node: None,
        };
        self.shelves.update(Waypoint, Update::Set(resource));
        self
    }

    fn set_sized(&mut self, of: ResourceType, name: &str, version: &str, size: usize) -> &mut Self {
        self.shelves
            .update(of, Update::Set(resource(name, version, size)));
        self
    }

    /// A pod of this node.
    fn set_on(&mut self, node: &str, name: &str, version: &str) -> &mut Self {
        let pod = Resource {
            node: Some(node.into()),
            ..resource(name, version, 10)
        };
        self.shelves.update(Address, Update::Set(pod));
        self
    }

    fn remove(&mut self, of: ResourceType, name: &str) -> &mut Self {
        self.shelves.update(of, Update::Remove(name.into()));
        self
    }

    fn request(
        &mut self,
        of: ResourceType,
        change: impl FnOnce(&mut DeltaDiscoveryRequest),
    ) -> Told {
        let mut request = DeltaDiscoveryRequest {
            type_url: of.url().to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        change(&mut request);
        self.session.on_request(request)
    }

    fn subscribe(&mut self, of: ResourceType) -> &mut Self {
        assert_eq!(self.request(of, |_| {}), Told::Nothing);
        self
    }

    fn resume(&mut self, of: ResourceType, held: &[(&str, &str)]) -> &mut Self {
        self.request(of, |request| {
            request.initial_resource_versions = held
                .iter()
                .map(|(name, version)| ((*name).to_owned(), (*version).to_owned()))
                .collect();
        });
        self
    }

    fn ack(&mut self, sent: &Sent) -> Told {
        self.request(sent.of, |request| {
            request.response_nonce = sent.nonce.clone()
        })
    }

    fn nack(&mut self, sent: &Sent, message: &str) -> Told {
        self.request(sent.of, |request| {
            request.response_nonce = sent.nonce.clone();
            request.error_detail = Some(Status {
                message: message.to_owned(),
                ..Status::default()
            });
        })
    }

    fn poll(&mut self) -> Option<Sent> {
        let response = self
            .session
            .poll(&self.shelves)
            .expect("not too far behind")?;
        let mut present: Vec<_> = response
            .resources
            .iter()
            .map(|r| format!("{}={}", r.name, r.version))
            .collect();
        present.sort();
        let mut removed = response.removed_resources;
        removed.sort();
        let more_follows = response.system_version_info == MORE_FOLLOWS;
        Some(Sent {
            of: ResourceType::from_url(&response.type_url).expect("a served type"),
            nonce: response.nonce,
            present,
            removed,
            more_follows,
        })
    }

    /// Sends one response and takes its ACK.
    fn exchange(&mut self) -> Sent {
        let sent = self.poll().expect("a response");
        assert_eq!(self.ack(&sent), Told::Ack(sent.of));
        sent
    }

    fn settled(&mut self, of: ResourceType) -> bool {
        assert_eq!(self.poll(), None, "nothing is left to send");
        let progress = self.session.progress(of).expect("subscribed");
        progress.settled == self.shelves.generation()
    }
}

fn resource(name: &str, version: &str, size: usize) -> Resource {
    Resource {
        name: name.into(),
        version: version.into(),
        body: Bytes::from(vec![0; size]),
        aliases: vec![format!("net/{name}").into()],
        readers: None,
        node: None,
    }
}

#[test]
fn a_wildcard_gets_everything_then_only_changes() {
    let mut case = Case::default();
    case.set(Address, "a", "1")
        .set(Address, "b", "1")
        .remove(Address, "b");
    case.subscribe(Address);
    let first = case.exchange();
    assert_eq!(
        (first.present, first.removed),
        (vec!["a=1".to_owned()], vec![])
    );
    assert!(case.settled(Address));
    case.set(Address, "c", "1");
    assert_eq!(case.exchange().present, ["c=1"]);
    case.remove(Address, "a");
    let last = case.exchange();
    assert_eq!((last.present, last.removed), (vec![], vec!["a".to_owned()]));
    assert!(case.settled(Address));
}

#[test]
fn an_empty_mesh_is_an_answer_too() {
    let mut case = Case::default();
    case.subscribe(Authorization).subscribe(Address);
    assert_eq!(case.exchange().of, Authorization);
    assert_eq!(case.exchange().of, Address);
    assert!(case.settled(Authorization) && case.settled(Address));
}

#[test]
fn a_slow_proxy_gets_the_newest_state() {
    let mut case = Case::default();
    case.set(Address, "a", "1").subscribe(Address);
    let first = case.poll().expect("a response");
    for version in ["2", "3", "4"] {
        case.set(Address, "a", version).set(Address, "b", version);
        assert_eq!(case.poll(), None, "one response waits for its ACK");
    }
    case.remove(Address, "b");
    case.ack(&first);
    let second = case.exchange();
    assert_eq!(second.present, ["a=4"]);
    assert_eq!(second.removed, ["b"]);
    assert!(case.settled(Address));
}

#[test]
fn a_returning_proxy_gets_the_difference() {
    let mut case = Case::default();
    case.set(Address, "same", "1")
        .set(Address, "other", "2")
        .set(Address, "new", "1");
    case.resume(Address, &[("same", "1"), ("other", "1"), ("gone", "1")]);
    let sent = case.exchange();
    assert_eq!(sent.present, ["new=1", "other=2"]);
    assert_eq!(sent.removed, ["gone"]);
    assert!(case.settled(Address));

    let mut case = Case::default();
    case.set(Address, "same", "1")
        .resume(Address, &[("same", "1")]);
    let sent = case.exchange();
    assert_eq!(
        (sent.present, sent.removed),
        (vec![], vec![]),
        "it is told that this is all"
    );
    assert!(case.settled(Address));
}

#[test]
fn large_states_come_in_bounded_pieces() {
    let mut case = Case::default();
    for n in 0..10 {
        case.set_sized(Address, &n.to_string(), "1", 1 << 20);
    }
    case.resume(Address, &[("gone", "1")]);
    let mut pieces = Vec::new();
    let mut removed = Vec::new();
    while let Some(sent) = case.poll() {
        assert!(
            !case.session.progress(Address).expect("subscribed").answered || !pieces.is_empty()
        );
        pieces.push((sent.present.len(), sent.more_follows));
        removed.extend(sent.removed.clone());
        case.ack(&sent);
    }
    assert_eq!(pieces, [(3, true), (3, true), (3, true), (1, false)]);
    assert_eq!(removed, ["gone"]);
    assert!(case.settled(Address));
}

/// Who was told that more follows is told when nothing does: what was left concerns others.
#[test]
fn the_last_piece_may_be_empty() {
    let mut case = of_waypoint();
    for n in 0..3 {
        case.set_sized(Waypoint, &n.to_string(), "1", 1 << 20);
    }
    case.set_for("theirs", "1", &["b"]).subscribe(Waypoint);
    let first = case.exchange();
    assert_eq!((first.present.len(), first.more_follows), (3, true));
    let last = case.exchange();
    assert_eq!((last.present.len(), last.more_follows), (0, false));
    assert!(case.settled(Waypoint));
}

#[test]
fn policies_come_before_and_go_after_what_refers_to_them() {
    for policies in [Authorization, Waypoint] {
        let mut case = Case::default();
        case.subscribe(Address).subscribe(policies);
        case.exchange();
        case.exchange();
        case.set(Address, "w", "with p").set(policies, "p", "1");
        let policy = case.poll().expect("a response");
        assert_eq!(policy.of, policies);
        let workload = case.poll().expect("sent behind it");
        assert_eq!(workload.of, Address);
        case.ack(&policy);
        case.ack(&workload);
        case.set(Address, "w", "without").remove(policies, "p");
        let workload = case.poll().expect("a response");
        assert_eq!(workload.of, Address);
        let policy = case.poll().expect("sent behind it");
        assert_eq!(
            (policy.of, &*policy.removed),
            (policies, &["p".to_owned()][..])
        );
        case.ack(&workload);
        case.ack(&policy);
        assert!(case.settled(Address) && case.settled(policies));
    }
}

#[test]
fn a_policy_is_not_gone_while_the_workload_waits_for_an_ack() {
    for policies in [Authorization, Waypoint] {
        let mut case = Case::default();
        case.set(policies, "p", "1").set(Address, "w", "1");
        case.subscribe(policies).subscribe(Address);
        case.exchange();
        let first = case.poll().expect("the workload");
        case.set(Address, "w", "2").remove(policies, "p");
        assert_eq!(
            case.poll(),
            None,
            "the new workload cannot be sent yet, so the policy stays"
        );
        case.ack(&first);
        let of: Vec<_> = [case.exchange(), case.exchange()]
            .iter()
            .map(|s| s.of)
            .collect();
        assert_eq!(of, [Address, policies]);
    }
}

fn waypoint(name: &str) -> NamespacedName {
    NamespacedName::new("shop", name)
}

/// A stream of an instance of waypoint `a` that has nothing yet.
fn of_waypoint() -> Case {
    let mut case = Case::default();
    case.session.is_of(waypoint("a"));
    case
}

#[test]
fn a_waypoint_gets_what_concerns_it() {
    let mut case = of_waypoint();
    case.set_for("mine", "1", &["a"])
        .set_for("theirs", "1", &["b"])
        .set_for("ours", "1", &["a", "b"])
        .set_for("nobody's", "1", &[])
        .set(Waypoint, "everybody's", "1")
        .subscribe(Waypoint);
    assert_eq!(
        case.exchange().present,
        ["everybody's=1", "mine=1", "ours=1"]
    );
    case.set_for("theirs", "2", &["b"]);
    assert_eq!(case.poll(), None, "no message for what concerns others");
    assert!(case.settled(Waypoint));
    case.remove(Waypoint, "theirs");
    assert_eq!(case.poll(), None);
    assert!(case.settled(Waypoint));

    case.set_for("ours", "1", &["a"]);
    assert_eq!(case.poll(), None, "it has it");
    case.set_for("ours", "1", &["b"])
        .set_for("nobody's", "1", &["a"]);
    let sent = case.exchange();
    assert_eq!(sent.present, ["nobody's=1"]);
    assert_eq!(sent.removed, ["ours"]);
    assert!(case.settled(Waypoint));
    case.set_for("ours", "2", &["b"]);
    assert_eq!(case.poll(), None, "gone is gone");
    case.set_for("ours", "2", &["a", "b"]);
    assert_eq!(case.exchange().present, ["ours=2"]);
    case.remove(Waypoint, "ours");
    assert_eq!(case.exchange().removed, ["ours"]);
}

#[test]
fn what_a_waypoint_loses_and_gets_back_before_it_was_told_it_keeps() {
    let mut case = of_waypoint();
    case.set_for("r", "1", &["a"])
        .set_for("s", "1", &["a"])
        .subscribe(Waypoint);
    let first = case.poll().expect("a response");
    case.set_for("r", "1", &["b"]).set_for("s", "1", &["b"]);
    assert_eq!(case.poll(), None, "one response waits for its ACK");
    case.set_for("r", "1", &["a"]).set_for("s", "2", &["a"]);
    case.ack(&first);
    let sent = case.exchange();
    assert_eq!((sent.present, sent.removed), (vec!["s=2".into()], vec![]));
    // Lost, and then gone for everybody: told once.
    case.set_for("r", "1", &["b"]).remove(Waypoint, "r");
    assert_eq!(case.exchange().removed, ["r"]);
    assert_eq!(case.poll(), None);
}

#[test]
fn a_policy_is_not_lost_before_the_service_that_was_bound() {
    let mut case = of_waypoint();
    case.set_for("p", "1", &["a"])
        .set(Address, "service", "bound")
        .subscribe(Waypoint)
        .subscribe(Address);
    case.exchange();
    let bound = case.poll().expect("the service");
    case.set(Address, "service", "unbound")
        .set_for("p", "1", &["b"]);
    assert_eq!(case.poll(), None, "the service cannot be sent yet");
    assert!(!case.settled(Waypoint));
    case.ack(&bound);
    assert_eq!(case.exchange().present, ["service=unbound"]);
    assert_eq!(case.exchange().removed, ["p"]);
    assert!(case.settled(Waypoint) && case.settled(Address));
    // And the other way round: known before it counts.
    case.set_for("p", "1", &["a", "b"])
        .set(Address, "service", "bound");
    assert_eq!(case.exchange().present, ["p=1"]);
    assert_eq!(case.exchange().present, ["service=bound"]);
}

#[test]
fn a_waypoint_that_returns_gets_the_difference() {
    let mut case = of_waypoint();
    case.set_for("same", "1", &["a"])
        .set_for("newer", "2", &["a"])
        .set_for("lost", "1", &["b"])
        .set_for("theirs", "1", &["b"])
        .resume(
            Waypoint,
            &[("same", "1"), ("newer", "1"), ("lost", "1"), ("gone", "1")],
        );
    let sent = case.exchange();
    assert_eq!(sent.present, ["newer=2"]);
    assert_eq!(sent.removed, ["gone", "lost"]);
    assert!(case.settled(Waypoint));
}

#[test]
fn a_refusal_stands_until_the_resource_is_sent_anew() {
    let mut case = Case::default();
    case.set(Address, "good", "1")
        .set(Address, "bad", "1")
        .subscribe(Address);
    let sent = case.poll().expect("a response");
    let told = case.nack(&sent, "bad: no such thing");
    let nack = Nack {
        message: "bad: no such thing".to_owned(),
        resources: ["bad".into()].into(),
    };
    assert_eq!(told, Told::Nack(Address, nack.clone()));
    assert!(
        case.settled(Address),
        "it was answered, and is not sent again by itself"
    );
    let nacks = |case: &Case| {
        case.session
            .progress(Address)
            .expect("subscribed")
            .nacks
            .clone()
    };
    case.set(Address, "good", "2");
    case.exchange();
    assert_eq!(nacks(&case), [nack]);
    case.set(Address, "bad", "2");
    case.exchange();
    assert_eq!(nacks(&case), []);
    case.set(Address, "bad", "3");
    let sent = case.poll().expect("a response");
    case.nack(&sent, "no name in here");
    assert_eq!(nacks(&case)[0].resources, ["bad".into()].into());
    case.remove(Address, "bad");
    case.exchange();
    assert_eq!(nacks(&case), []);
}

#[test]
fn stale_answers_change_nothing() {
    let mut case = Case::default();
    case.set(Address, "a", "1").subscribe(Address);
    let sent = case.poll().expect("a response");
    for nonce in ["", "0", "99"] {
        let stale = Sent {
            nonce: nonce.to_owned(),
            ..case_copy(&sent)
        };
        assert_eq!(case.ack(&stale), Told::Nothing, "{nonce:?}");
    }
    assert_eq!(case.ack(&sent), Told::Ack(Address));
    assert_eq!(case.nack(&sent, "late"), Told::Nothing);
}

fn case_copy(sent: &Sent) -> Sent {
    Sent {
        of: sent.of,
        nonce: sent.nonce.clone(),
        present: Vec::new(),
        removed: Vec::new(),
        more_follows: false,
    }
}

#[test]
fn names_are_answered_by_name_or_alias_and_then_followed() {
    let mut case = Case::default();
    case.set(Address, "a", "1").set(Address, "b", "1");
    case.request(Address, |request| {
        request.resource_names_subscribe = vec!["a".into(), "net/b".into(), "nowhere".into()];
    });
    let sent = case.exchange();
    assert_eq!(sent.present, ["a=1", "b=1"]);
    assert_eq!(sent.removed, ["nowhere"]);
    case.set(Address, "c", "1");
    assert_eq!(case.poll(), None);
    case.set(Address, "b", "2");
    assert_eq!(case.exchange().present, ["b=2"]);
    case.request(Address, |r| r.resource_names_unsubscribe = vec!["a".into()]);
    case.set(Address, "a", "2");
    assert_eq!(case.poll(), None);
    case.request(Address, |r| r.resource_names_subscribe = vec!["c".into()]);
    assert_eq!(case.exchange().present, ["c=1"]);
    assert!(case.settled(Address));
}

#[test]
fn the_references_on_demand_start_is_an_empty_subscription() {
    let mut case = Case::default();
    case.set(Address, "a", "1");
    case.request(Address, |request| {
        request.resource_names_subscribe = vec!["*".into()];
        request.resource_names_unsubscribe = vec!["*".into()];
    });
    assert_eq!(case.exchange().present, [""; 0]);
    case.request(Address, |r| {
        r.resource_names_subscribe = vec!["net/a".into()]
    });
    assert_eq!(case.exchange().present, ["a=1"]);
}

#[test]
fn pods_of_the_node_are_told_unasked_to_who_asks_for_the_others() {
    let mut case = Case::default();
    case.session.is_on("node-1");
    case.set_on("node-1", "own", "1")
        .set_on("node-2", "other", "1");
    case.request(Address, |request| {
        request.resource_names_subscribe = vec!["*".into()];
        request.resource_names_unsubscribe = vec!["*".into()];
    });
    assert_eq!(case.exchange().present, ["own=1"]);
    case.set_on("node-1", "new", "1")
        .set_on("node-2", "newer", "1");
    assert_eq!(case.exchange().present, ["new=1"]);
    case.remove(Address, "own").remove(Address, "other");
    assert_eq!(case.exchange().removed, ["own"]);
    assert!(case.settled(Address));
}

#[test]
fn what_was_asked_for_by_its_address_is_followed_until_it_is_gone() {
    let mut case = Case::default();
    case.set(Address, "a", "1");
    case.request(Address, |r| {
        r.resource_names_subscribe = vec!["net/a".into()]
    });
    assert_eq!(case.exchange().present, ["a=1"]);
    case.remove(Address, "a");
    assert_eq!(case.exchange().removed, ["a"]);
}

#[test]
fn other_types_are_not_served() {
    let mut session = Session::default();
    let request = DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/other".to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    let told = session.on_request(request);
    assert_eq!(
        told,
        Told::UnknownType("type.googleapis.com/other".to_owned())
    );
    assert_eq!(session.poll(&Shelves::default()), Ok(None));
}
