//! What follows from there being networks, and gateways that lead into them.

use ambit_core::addr::NamespacedName;

use super::touched::Touched;
use super::{Changes, Index, key_of};
use crate::source::{Key, Kind};
use crate::translate::network;

impl Index {
    /// Which networks there are, and who leads into them, concerns all that is on any. Gives the gateways, whose statuses may differ.
    pub(super) fn find_networks(&mut self, touched: &mut Touched) -> Vec<Key> {
        if !touched.networks {
            return Vec::new();
        }
        let networks = network::Networks::of(&self.objects, &self.mesh);
        if networks == self.objects.networks {
            return Vec::new();
        }
        self.objects.networks = networks;
        touched.everyone(self);
        let gateways = self.objects.gateways.all();
        let between = gateways.filter(|(.., it)| network::is_gateway(it));
        let keys = between.map(|(namespace, name, _)| {
            let gateway = NamespacedName::new(namespace.clone(), name.clone());
            key_of(Kind::Gateway, &gateway)
        });
        keys.collect()
    }

    pub(super) fn translate_gateway(&mut self, name: &NamespacedName, changes: &mut Changes) {
        let (ns, gateway) = (&*name.namespace, &*name.name);
        let object = self.objects.gateways.find(ns, gateway);
        // Its status says what is wrong.
        let found = object
            .and_then(|it| network::translate(ns, gateway, it, &self.mesh).ok())
            .unwrap_or_default();
        let before = self.gateway_workloads.remove(name);
        if let Some(now) = self.replace_workloads(before, found, changes) {
            self.gateway_workloads.insert(name.clone(), now);
        }
    }
}
