//! The names of the trust domain: what is applied is about one of them afterwards.

use std::sync::Arc;

use crate::authz::{Facts, authorize};
use crate::fixtures::{ip, key, pod, policy, service, sock};
use crate::identity::Identity;
use crate::index::{Change, Index};
use crate::model::{Action, AuthorizationPolicy, Match, StringMatch, Workload};
use crate::trust_domain::TrustDomains;

fn renamed() -> Index {
    let own = "new".parse().expect("a name");
    let aliases = "old".parse().expect("aliases");
    Index::default().within(TrustDomains::new(own, aliases))
}

fn of(trust_domain: &str) -> Workload {
    let mut workload = pod("w", &["10.0.0.1"]);
    workload.identity = Identity::new(trust_domain, "ns", "w").expect("an identity");
    workload
}

#[test]
fn identities_of_workloads_and_services_are_settled() {
    let mut index = renamed();
    for (shown, settled) in [("old", "new"), ("new", "new"), ("other", "other")] {
        index.apply(Change::Workload(Arc::new(of(shown))));
        let found = index.workload(&of(shown).uid).expect("it is known");
        assert_eq!(found.identity, of(settled).identity);
    }
    let mut web = service("ns/web", &[]);
    web.subject_alt_names = ["new", "old", "other"].map(|it| of(it).identity).to_vec();
    index.apply(web.into());
    let found = index.service(&key("ns/web")).expect("it is known");
    let expected = ["new", "new", "other"].map(|it| of(it).identity);
    assert_eq!(found.subject_alt_names, expected);
}

#[test]
fn a_workload_that_is_told_under_another_name_has_not_changed() {
    let mut index = renamed();
    index.apply(Change::Workload(Arc::new(of("old"))));
    let before = index
        .workload(&of("old").uid)
        .cloned()
        .expect("it is known");
    index.apply(Change::Workload(Arc::new(of("new"))));
    let after = index.workload(&of("old").uid).expect("it is known");
    assert!(Arc::ptr_eq(&before, after));
}

/// Whether a policy of this action, which says `says` in `field`, lets in a caller who is settled.
fn lets_in(action: Action, says: &str, not: bool) -> bool {
    let mut found = Match::default();
    let field = match not {
        true => &mut found.not_principals,
        false => &mut found.principals,
    };
    field.push(StringMatch::Exact(says.into()));
    let policy = AuthorizationPolicy {
        action,
        ..policy("ns/p", vec![found])
    };
    let mut index = renamed();
    index.apply(policy.into());
    index.apply(Change::PoliciesSynced);
    let caller = index.trust_domains().settle(of("old").identity);
    let facts = Facts {
        source: Some(&caller),
        source_ip: ip("10.0.0.7"),
        destination: sock("10.0.0.1:80"),
    };
    authorize(&index, &of("new"), &facts).allowed
}

#[test]
fn policies_mean_a_caller_by_whatever_name() {
    for name in ["old", "new", "cluster.local"] {
        let says = format!("{name}/ns/ns/sa/w");
        for (action, not, allowed) in [
            (Action::Allow, false, true),
            (Action::Allow, true, false),
            (Action::Deny, false, false),
            (Action::Deny, true, true),
        ] {
            assert_eq!(
                lets_in(action, &says, not),
                allowed,
                "{action:?} {says} {not}"
            );
        }
    }
    assert!(lets_in(Action::Deny, "other/ns/ns/sa/w", false));
}
