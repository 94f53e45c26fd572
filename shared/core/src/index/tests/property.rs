//! Any sequence of changes leaves the same answers as a naive model that scans what is there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use crate::addr::NetworkAddr;
use crate::fixtures::{index, key, pod_in, policy, service, vip};
use crate::index::{Applicable, Change, Index};
use crate::model::policy::Scope;
use crate::model::{AuthorizationPolicy, Health, NetworkMode, Service, Workload};

/// What was applied last, in the order of first appearance; claims of addresses in their order.
#[derive(Default)]
struct Naive {
    workloads: Vec<Workload>,
    services: Vec<Service>,
    policies: Vec<(AuthorizationPolicy, bool)>,
    claims: Vec<(IpAddr, String)>,
}

impl Naive {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Workload(workload) => {
                let workload = Workload::clone(workload);
                let uid = workload.uid.to_string();
                let own: &[IpAddr] = match workload.network_mode {
                    NetworkMode::Standard => &workload.addresses,
                    NetworkMode::HostNetwork => &[],
                };
                self.claims
                    .retain(|(ip, holder)| *holder != uid || own.contains(ip));
                for ip in own {
                    if !self.claims.contains(&(*ip, uid.clone())) {
                        self.claims.push((*ip, uid.clone()));
                    }
                }
                self.workloads.retain(|known| known.uid != workload.uid);
                self.workloads.push(workload);
            }
            Change::Service(service) => {
                self.services.retain(|known| known.key != service.key);
                self.services.push(Service::clone(service));
            }
            Change::RemoveAddress(name) => {
                self.workloads.retain(|known| known.uid != *name);
                self.claims.retain(|(_, holder)| **holder != **name);
                self.services
                    .retain(|known| known.key.to_string() != **name);
            }
            Change::Policy(policy) => {
                self.policies.retain(|(known, _)| known.key != policy.key);
                self.policies
                    .push((AuthorizationPolicy::clone(policy), true));
            }
            Change::UndecodablePolicy(bad) => {
                let mut stand_in = policy("x/x", Vec::new());
                stand_in.key = bad.key.clone();
                stand_in.scope = bad.scope.unwrap_or(Scope::Namespace);
                self.policies.retain(|(known, _)| known.key != bad.key);
                self.policies.push((stand_in, false));
            }
            Change::RemovePolicy(key) => self.policies.retain(|(known, _)| known.key != *key),
            Change::PoliciesSynced => {}
        }
    }

    fn workload_at(&self, ip: IpAddr) -> Option<&Workload> {
        let (_, uid) = self
            .claims
            .iter()
            .rev()
            .find(|(claimed, _)| *claimed == ip)?;
        self.workloads.iter().find(|w| *w.uid == **uid)
    }

    fn preferred<'a>(
        candidates: impl Iterator<Item = &'a Service>,
        client: &str,
    ) -> Option<&'a Service> {
        let mut visible: Vec<&Service> = candidates
            .filter(|s| !s.namespace_private || &*s.key.namespace == client)
            .collect();
        visible.sort_by_key(|s| {
            let own = &*s.key.namespace == client;
            (!own, !s.canonical, s.key.clone())
        });
        visible.first().copied()
    }

    fn service_at(&self, ip: IpAddr, client: &str) -> Option<&Service> {
        let found = (0..=32).rev().find_map(|length| {
            let holding = self.services.iter().filter(|service| {
                let mut vips = service.vips.iter();
                vips.any(|vip| vip.net.prefix_len() == length && vip.net.contains(&ip))
            });
            Self::preferred(holding, client)
        })?;
        let pod = self.workload_at(ip).filter(|pod| !pod.node.is_empty());
        let is_theirs = |pod: &Workload| pod.namespace != found.key.namespace;
        (!pod.is_some_and(is_theirs)).then_some(found)
    }

    fn endpoints(&self, service: &str) -> BTreeSet<(String, bool)> {
        let service = key(service);
        self.workloads
            .iter()
            .filter(|w| w.services.iter().any(|(name, _)| *name == service))
            .map(|w| (w.uid.to_string(), w.health == Health::Healthy))
            .collect()
    }

    fn policies_for(&self, workload: &Workload) -> BTreeSet<String> {
        let by_scope = |policy: &AuthorizationPolicy| match policy.scope {
            Scope::Global => true,
            Scope::Namespace => policy.key.namespace == workload.namespace,
            Scope::WorkloadSelector => false,
        };
        let mut found: BTreeSet<String> = self
            .policies
            .iter()
            .filter(|(policy, _)| {
                by_scope(policy) || workload.authorization_policies.contains(&policy.key)
            })
            .map(|(policy, good)| shown(&policy.key.to_string(), *good))
            .collect();
        for named in &workload.authorization_policies {
            if !self.policies.iter().any(|(policy, _)| policy.key == *named) {
                found.insert(format!("unknown {named}"));
            }
        }
        found
    }
}

fn shown(key: &str, good: bool) -> String {
    if good {
        key.to_owned()
    } else {
        format!("bad {key}")
    }
}

fn addr(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, number / 4, number % 4)
}

fn namespace(number: u8) -> &'static str {
    ["a", "b"][usize::from(number % 2)]
}

fn service_name(number: u8) -> String {
    format!("{}/s{}", namespace(number), number / 2)
}

fn policy_name(number: u8) -> String {
    format!("{}/p{}", namespace(number), number / 2)
}

const ADDRESSES: u8 = 16;

fn a_workload() -> impl Strategy<Value = Change> {
    (
        0..6u8,
        proptest::collection::btree_set(0..ADDRESSES, 0..3),
        proptest::collection::btree_set(0..6u8, 0..3),
        proptest::collection::btree_set(0..6u8, 0..3),
        any::<bool>(),
        0..6u8,
        1..3u32,
    )
        .prop_map(
            |(name, addrs, services, policies, healthy, host, capacity)| {
                let mut workload = pod_in(namespace(name), &format!("w{name}"), &[]);
                workload.addresses = addrs.into_iter().map(|a| addr(a).into()).collect();
                for number in services {
                    workload = workload.serving(&service_name(number), &[(80, 8080)]);
                }
                workload.authorization_policies =
                    policies.into_iter().map(|p| key(&policy_name(p))).collect();
                if !healthy {
                    workload.health = Health::Unhealthy;
                }
                if host == 0 {
                    workload.network_mode = NetworkMode::HostNetwork;
                }
                workload.capacity = capacity;
                workload.into()
            },
        )
}

fn a_service() -> impl Strategy<Value = Change> {
    (
        0..6u8,
        proptest::collection::vec((0..ADDRESSES, 28..=32u8), 0..3),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(name, vips, canonical, private)| {
            let mut made = service(&service_name(name), &[]);
            made.key.name = format!("s{}", name / 2).into();
            made.vips = vips
                .into_iter()
                .map(|(number, length)| vip(&format!("{}/{length}", addr(number))))
                .collect();
            made.canonical = canonical;
            made.namespace_private = private;
            made.into()
        })
}

fn a_policy() -> impl Strategy<Value = Change> {
    let scope = prop_oneof![
        Just(Scope::Global),
        Just(Scope::Namespace),
        Just(Scope::WorkloadSelector)
    ];
    (0..6u8, scope, 0..4u8).prop_map(|(name, scope, bad)| {
        let mut made = policy(&policy_name(name), Vec::new());
        made.scope = scope;
        match bad {
            0 => Change::undecodable_policy(made.key, "bad"),
            _ => made.into(),
        }
    })
}

fn a_change() -> impl Strategy<Value = Change> {
    let removal = |name: String| Change::RemoveAddress(name.into());
    prop_oneof![
        4 => a_workload(),
        3 => a_service(),
        2 => a_policy(),
        2 => (0..6u8).prop_map(move |name| {
            removal(format!("Kubernetes//Pod/{}/w{name}", namespace(name)))
        }),
        1 => (0..6u8).prop_map(move |name| removal(service_name(name))),
        1 => (0..6u8).prop_map(|name| Change::RemovePolicy(key(&policy_name(name)))),
    ]
}

fn compare(index: &Index, naive: &Naive) -> Result<(), TestCaseError> {
    for number in 0..ADDRESSES {
        let ip = IpAddr::from(addr(number));
        let at = NetworkAddr::new("", ip);
        let found = index.workload_at(&at).map(|w| (**w).clone());
        prop_assert_eq!(found.as_ref(), naive.workload_at(ip), "workload at {}", ip);
        for client in ["a", "b", "c"] {
            let found = index.service_at(&at, client).map(|s| (**s).clone());
            let expected = naive.service_at(ip, client);
            prop_assert_eq!(found.as_ref(), expected, "service at {} for {}", ip, client);
        }
    }
    for number in 0..6 {
        let name = service_name(number);
        let endpoints = index.endpoints(&key(&name));
        let found: Vec<(String, bool)> = endpoints
            .into_iter()
            .flat_map(|endpoints| endpoints.iter())
            .map(|e| {
                let workload = e.workload();
                (workload.uid.to_string(), workload.health == Health::Healthy)
            })
            .collect();
        if let Some(endpoints) = endpoints {
            let uniform = endpoints.iter().all(|e| e.workload().capacity == 1);
            prop_assert_eq!(endpoints.uniform(), uniform);
        }
        let unique: BTreeSet<_> = found.iter().cloned().collect();
        prop_assert_eq!(unique.len(), found.len(), "{} has no endpoint twice", name);
        prop_assert_eq!(unique, naive.endpoints(&name), "endpoints of {}", name);
        let hostname = format!("s{number}");
        let same = naive.services.iter().filter(|s| *s.key.name == *hostname);
        let found = index.service_by_hostname(&hostname, "b");
        prop_assert_eq!(found.map(|s| &**s), Naive::preferred(same, "b"));
    }
    prop_assert_eq!(index.workloads().count(), naive.workloads.len());
    prop_assert_eq!(index.services().count(), naive.services.len());
    prop_assert_eq!(index.policies().count(), naive.policies.len());
    for workload in &naive.workloads {
        let found: Vec<String> = index
            .policies_for(workload)
            .map(|applicable| match applicable {
                Applicable::Ready(policy) => policy.key.to_string(),
                Applicable::Undecodable(bad) => shown(&bad.key.to_string(), false),
                Applicable::Unknown(key) => format!("unknown {key}"),
            })
            .collect();
        let unique: BTreeSet<String> = found.iter().cloned().collect();
        prop_assert_eq!(unique.len(), found.len(), "each policy once");
        prop_assert_eq!(unique, naive.policies_for(workload));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_history_gives_the_same_answers(
        changes in proptest::collection::vec(a_change(), 0..60),
        snapshot in 0..60usize,
    ) {
        let mut index = index([]);
        let mut naive = Naive::default();
        let mut kept = None;
        for (at, change) in changes.iter().enumerate() {
            if at == snapshot {
                kept = Some((index.clone(), at));
            }
            naive.apply(change);
            index.apply(change.clone());
        }
        compare(&index, &naive)?;
        if let Some((snapshot, at)) = kept {
            let mut naive = Naive::default();
            changes[..at].iter().for_each(|change| naive.apply(change));
            compare(&snapshot, &naive)?;
        }
    }

    #[test]
    fn what_is_removed_leaves_nothing(
        changes in proptest::collection::vec(a_change(), 0..60),
    ) {
        let mut index = index(changes);
        let uids: Vec<_> = index.workloads().map(|w| w.uid.clone()).collect();
        let keys: Vec<_> = index.services().map(|s| s.key.to_string().into()).collect();
        for name in uids.into_iter().chain(keys) {
            index.apply(Change::RemoveAddress(name));
        }
        for number in 0..6 {
            index.apply(Change::RemovePolicy(key(&policy_name(number))));
        }
        compare(&index, &Naive::default())?;
        prop_assert!(index.holds_nothing());
    }
}
