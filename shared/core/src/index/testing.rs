//! Any sequence of changes leaves the same answers as a naive model that scans what is there. Property tests and the
//! fuzzer choose the sequences.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::addr::NetworkAddr;
use crate::fixtures::{index, key, pod_in, policy, service, vip};
use crate::index::{Applicable, Change, Index};
use crate::model::policy::Scope;
use crate::model::{AuthorizationPolicy, Health, NetworkMode, Service, Workload};

/// Octets of a step.
pub const STEP: usize = 8;
/// Steps that are taken of a history; none of the model's few names needs more.
const LONGEST: usize = 64;

/// Lives through a history, [`STEP`] octets a step: an index and the model are told of the same changes and asked the same
/// questions, one that was put aside in between as well. At last everything is removed, and nothing is left.
///
/// # Panics
/// When the index says something else than the model.
pub fn live(history: &[u8]) {
    let (mut index, mut naive) = (index([]), Naive::default());
    let mut aside = None;
    let (steps, _) = history.as_chunks::<STEP>();
    for step in steps.iter().take(LONGEST) {
        match change(*step) {
            Some(change) => {
                let epoch = index.authorization_epoch();
                index.apply(change.clone());
                // Who is judged again may hear the same; who is not has to.
                let is_judged = index.authorization_epoch() != epoch;
                let before = (!is_judged).then(|| naive.judgements());
                naive.apply(&change);
                if let Some(before) = before {
                    let after = naive.judgements();
                    let mut known = before.iter().filter(|(uid, _)| after.contains_key(*uid));
                    assert!(known.all(|(uid, before)| after[uid] == *before), "{step:?}");
                }
            }
            None => aside = Some((index.clone(), naive.clone())),
        }
    }
    compare(&index, &naive);
    if let Some((index, naive)) = aside {
        compare(&index, &naive);
    }
    remove_all(&mut index);
    compare(&index, &Naive::default());
    assert!(index.holds_nothing(), "something is left of what is gone");
}

fn remove_all(index: &mut Index) {
    let uids: Vec<_> = index.workloads().map(|w| w.uid.clone()).collect();
    let keys: Vec<_> = index.services().map(|s| s.key.to_string().into()).collect();
    for name in uids.into_iter().chain(keys) {
        index.apply(Change::RemoveAddress(name));
    }
    for number in 0..NAMES {
        index.apply(Change::RemovePolicy(key(&policy_name(number))));
    }
}

/// What was applied last, in the order of first appearance; claims of addresses in their order.
#[derive(Default, Clone)]
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

    /// The policies of each workload.
    fn judgements(&self) -> BTreeMap<String, BTreeSet<String>> {
        let of = |it: &Workload| (it.uid.to_string(), self.policies_for(it));
        self.workloads.iter().map(of).collect()
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
        let found = (SHORTEST..=32).rev().find_map(|length| {
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
/// Of the prefixes of services' addresses.
const SHORTEST: u8 = 28;
/// Workloads, services and policies, each.
const NAMES: u8 = 6;

/// What a step changes; `None` for one that puts aside what there is.
fn change([kind, name, rest @ ..]: [u8; STEP]) -> Option<Change> {
    let name = name % NAMES;
    Some(match kind % 14 {
        0..4 => a_workload(name, rest),
        4..7 => a_service(name, rest),
        7..9 => a_policy(name, rest),
        9..11 => {
            let uid = format!("Kubernetes//Pod/{}/w{name}", namespace(name));
            Change::RemoveAddress(uid.into())
        }
        11 => Change::RemoveAddress(service_name(name).into()),
        12 => Change::RemovePolicy(key(&policy_name(name))),
        _ => return None,
    })
}

fn a_workload(name: u8, [first, second, services, policies, flags, _]: [u8; 6]) -> Change {
    let mut workload = pod_in(namespace(name), &format!("w{name}"), &[]);
    let addresses = BTreeSet::from([first % 24, second % 24]);
    let addresses = addresses.into_iter().filter(|number| *number < ADDRESSES);
    workload.addresses = addresses.map(|number| addr(number).into()).collect();
    for number in two(services) {
        workload = workload.serving(&service_name(number), &[(80, 8080)]);
    }
    let policies = two(policies).into_iter();
    workload.authorization_policies = policies.map(|number| key(&policy_name(number))).collect();
    if flags & 1 != 0 {
        workload.health = Health::Unhealthy;
    }
    if flags & 6 == 6 {
        workload.network_mode = NetworkMode::HostNetwork;
    }
    workload.capacity = 1 + u32::from(flags >> 3 & 1);
    workload.into()
}

/// Up to two names, by half an octet each.
fn two(octet: u8) -> BTreeSet<u8> {
    let halves = [octet & 0xf, octet >> 4].into_iter();
    halves.filter(|number| *number < NAMES).collect()
}

fn a_service(name: u8, [first, second, lengths, flags, ..]: [u8; 6]) -> Change {
    let mut made = service(&service_name(name), &[]);
    made.key.name = format!("s{}", name / 2).into();
    let vips = [(first % 24, lengths & 0xf), (second % 24, lengths >> 4)];
    let vips = vips.iter().filter(|(number, _)| *number < ADDRESSES);
    made.vips = vips
        .map(|(number, length)| vip(&format!("{}/{}", addr(*number), SHORTEST + length % 5)))
        .collect();
    made.canonical = flags & 1 != 0;
    made.namespace_private = flags & 2 != 0;
    made.into()
}

fn a_policy(name: u8, [scope, bad, ..]: [u8; 6]) -> Change {
    let mut made = policy(&policy_name(name), Vec::new());
    made.scope = match scope % 3 {
        0 => Scope::Global,
        1 => Scope::Namespace,
        _ => Scope::WorkloadSelector,
    };
    match bad % 4 {
        0 => Change::undecodable_policy(made.key, "bad"),
        _ => made.into(),
    }
}

fn compare(index: &Index, naive: &Naive) {
    for number in 0..ADDRESSES {
        let ip = IpAddr::from(addr(number));
        let at = NetworkAddr::new("", ip);
        let found = index.workload_at(&at).map(|w| (**w).clone());
        assert_eq!(found.as_ref(), naive.workload_at(ip), "workload at {}", ip);
        for client in ["a", "b", "c"] {
            let found = index.service_at(&at, client).map(|s| (**s).clone());
            let expected = naive.service_at(ip, client);
            assert_eq!(found.as_ref(), expected, "service at {} for {}", ip, client);
        }
    }
    for number in 0..NAMES {
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
            assert_eq!(endpoints.uniform(), uniform);
        }
        let unique: BTreeSet<_> = found.iter().cloned().collect();
        assert_eq!(unique.len(), found.len(), "{} has no endpoint twice", name);
        assert_eq!(unique, naive.endpoints(&name), "endpoints of {}", name);
        let hostname = format!("s{number}");
        let same = naive.services.iter().filter(|s| *s.key.name == *hostname);
        let found = index.service_by_hostname(&hostname, "b");
        assert_eq!(found.map(|s| &**s), Naive::preferred(same, "b"));
    }
    assert_eq!(index.workloads().count(), naive.workloads.len());
    assert_eq!(index.services().count(), naive.services.len());
    assert_eq!(index.policies().count(), naive.policies.len());
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
        assert_eq!(unique.len(), found.len(), "each policy once");
        assert_eq!(unique, naive.policies_for(workload));
    }
}
