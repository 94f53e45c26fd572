//! How an [`Index`] takes in a change: what the old value claimed and the new one does not is
//! released, and nothing else is touched.

use std::net::IpAddr;
use std::sync::Arc;

use super::holders::{Holders, hold, release};
use super::{Change, Index, Map, ServiceEntry};
use crate::addr::{NamespacedName, NetworkAddr};
use crate::identity::Identity;
use crate::model::{NetworkMode, Service, Vip, Workload};

impl Index {
    /// Takes in one change. The cost does not depend on the size of the mesh.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Workload(mut workload) => {
                if !self.trust_domains.is_settled(&workload.identity) {
                    self.settle(&mut Arc::make_mut(&mut workload).identity);
                }
                self.put_workload(workload);
            }
            Change::Service(mut service) => {
                let settled = |name| self.trust_domains.is_settled(name);
                if !service.subject_alt_names.iter().all(settled) {
                    for name in &mut Arc::make_mut(&mut service).subject_alt_names {
                        self.settle(name);
                    }
                }
                self.put_service(service);
            }
            Change::RemoveAddress(name) => self.remove_address(&name),
            Change::Policy(mut policy) => {
                Arc::make_mut(&mut policy).spell_out(&self.trust_domains);
                self.policies.put(policy);
                self.epoch += 1;
            }
            Change::UndecodablePolicy(policy) => {
                self.policies.put_undecodable(policy);
                self.epoch += 1;
            }
            Change::RemovePolicy(key) => self.epoch += u64::from(self.policies.remove(&key)),
            Change::PoliciesSynced => {
                self.epoch += u64::from(!self.policies.synced);
                self.policies.synced = true;
            }
        }
    }

    fn settle(&self, identity: &mut Identity) {
        *identity = self.trust_domains.settle(identity.clone());
    }

    fn put_workload(&mut self, workload: Arc<Workload>) {
        let old = self.workloads.get(&workload.uid).cloned();
        if old.as_ref() == Some(&workload) {
            return;
        }
        let rejudge = match &old {
            Some(old) => {
                self.release_workload(old, Some(&workload));
                old.authorization_policies != workload.authorization_policies
                    || old.waypoint != workload.waypoint
                    || old.services != workload.services
            }
            // It may have been known before, and come back with more to obey.
            None => !workload.authorization_policies.is_empty() || workload.waypoint.is_some(),
        };
        self.epoch += u64::from(rejudge);
        self.endpoint_changes += 1;
        let version = self.endpoint_changes;
        for addr in workload.network_addrs() {
            hold(self.holders_for(&workload), addr, workload.clone());
        }
        for (at, (service, _)) in workload.services.iter().enumerate() {
            match self.services.get_mut(service) {
                Some(entry) => entry.endpoints.put(&workload, at, version),
                None => {
                    let mut entry = ServiceEntry::default();
                    entry.endpoints.put(&workload, at, version);
                    self.services.insert_mut(service.clone(), entry);
                }
            }
        }
        self.workloads.insert_mut(workload.uid.clone(), workload);
    }

    /// An address identifies a workload unless it shares its node's.
    fn holders_for(
        &mut self,
        workload: &Workload,
    ) -> &mut Map<NetworkAddr, Holders<Arc<Workload>>> {
        match workload.network_mode {
            NetworkMode::Standard => &mut self.addresses,
            NetworkMode::HostNetwork => &mut self.nodes,
        }
    }

    /// Releases what `old` claims and `new` does not.
    fn release_workload(&mut self, old: &Arc<Workload>, new: Option<&Arc<Workload>>) {
        for addr in old.network_addrs() {
            let is_kept = |new: &Arc<Workload>| {
                let mut all = new.network_addrs();
                new.network_mode == old.network_mode && all.any(|kept| kept == addr)
            };
            if !new.is_some_and(is_kept) {
                release(self.holders_for(old), &addr, old);
            }
        }
        self.endpoint_changes += 1;
        for (service, _) in &old.services {
            let kept = |new: &Arc<Workload>| new.services.iter().any(|(name, _)| name == service);
            if new.is_some_and(kept) {
                continue;
            }
            let Some(entry) = self.services.get_mut(service) else {
                continue;
            };
            entry.endpoints.remove(&old.uid, self.endpoint_changes);
            if entry.service.is_none() && entry.endpoints.is_empty() {
                self.services.remove_mut(service);
            }
        }
    }

    fn remove_address(&mut self, name: &str) {
        if let Some(workload) = self.workloads.get(name).cloned() {
            self.release_workload(&workload, None);
            self.workloads.remove_mut(name);
        } else if let Ok(key) = name.parse::<NamespacedName>() {
            self.remove_service(&key);
        }
    }

    fn put_service(&mut self, service: Arc<Service>) {
        let old = self.service(&service.key).cloned();
        if old.as_ref() == Some(&service) {
            return;
        }
        if let Some(old) = &old {
            for (at, vip) in old.vips.iter().enumerate() {
                if !claims_before(old, at, vip) && !claims(&service, vip) {
                    self.release_vip(vip, old);
                }
            }
            let is_taken_otherwise = !old.waypoints().eq(service.waypoints())
                || old.takes_direct_calls() != service.takes_direct_calls();
            self.epoch += u64::from(is_taken_otherwise);
        } else {
            self.service_count += 1;
            self.epoch += u64::from(service.waypoints().next().is_some());
        }
        for (at, vip) in service.vips.iter().enumerate() {
            if claims_before(&service, at, vip) {
                continue;
            }
            match key_of(vip) {
                VipKey::Address(addr) => hold(&mut self.vips, addr, service.clone()),
                VipKey::Range(range) if old.as_ref().is_some_and(|old| claims(old, vip)) => {
                    self.ranges.replace(range, service.clone());
                }
                VipKey::Range(range) => self.ranges.hold(range, service.clone()),
            }
        }
        hold(
            &mut self.hostnames,
            service.key.name.clone(),
            service.clone(),
        );
        match self.services.get_mut(&service.key) {
            Some(entry) => entry.service = Some(service),
            None => {
                let key = service.key.clone();
                let entry = ServiceEntry {
                    service: Some(service),
                    ..ServiceEntry::default()
                };
                self.services.insert_mut(key, entry);
            }
        }
    }

    /// Removes a service; its endpoints stay known, in case it comes back.
    fn remove_service(&mut self, key: &NamespacedName) {
        let Some(old) = self.service(key).cloned() else {
            return;
        };
        for (at, vip) in old.vips.iter().enumerate() {
            if !claims_before(&old, at, vip) {
                self.release_vip(vip, &old);
            }
        }
        release(&mut self.hostnames, &key.name, &old);
        self.service_count -= 1;
        self.epoch += u64::from(old.waypoints().next().is_some());
        let Some(entry) = self.services.get_mut(key) else {
            return;
        };
        entry.service = None;
        if entry.endpoints.is_empty() {
            self.services.remove_mut(key);
        }
    }

    fn release_vip(&mut self, vip: &Vip, service: &Arc<Service>) {
        match key_of(vip) {
            VipKey::Address(addr) => release(&mut self.vips, &addr, service),
            VipKey::Range(range) => self.ranges.release(&range, service),
        }
    }
}

enum VipKey {
    Address(NetworkAddr),
    Range(Vip),
}

fn key_of(vip: &Vip) -> VipKey {
    let ip: IpAddr = vip.net.addr();
    if vip.net.prefix_len() == vip.net.max_prefix_len() {
        VipKey::Address(NetworkAddr::new(vip.network.clone(), ip))
    } else {
        VipKey::Range(Vip {
            network: vip.network.clone(),
            net: vip.net.trunc(),
        })
    }
}

fn same_vip(a: &Vip, b: &Vip) -> bool {
    a.network == b.network && a.net.trunc() == b.net.trunc()
}

fn claims(service: &Service, vip: &Vip) -> bool {
    service.vips.iter().any(|claimed| same_vip(claimed, vip))
}

/// Whether the same VIP is listed at an earlier place.
fn claims_before(service: &Service, at: usize, vip: &Vip) -> bool {
    service.vips[..at]
        .iter()
        .any(|claimed| same_vip(claimed, vip))
}
