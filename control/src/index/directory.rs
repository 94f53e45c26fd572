//! Questions about pods that the certificate authority asks.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use k8s_openapi::api::core::v1::Pod;

use super::Index;
use crate::translate::workload::{is_over, service_account};

impl Index {
    /// Pods of a node, by namespace and name.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = (&NamespacedName, &Arc<Pod>)> {
        let names = self.pods_by_node.get(node).into_iter().flatten();
        names.filter_map(|name| {
            let pod = self.objects.pods.find(&name.namespace, &name.name)?;
            Some((name, pod))
        })
    }

    /// Whether a pod that runs as this service account is, or is about to be, on the node.
    #[must_use]
    pub fn runs_on(&self, node: &str, namespace: &str, account: &str) -> bool {
        self.pods_on(node).any(|(name, pod)| {
            &*name.namespace == namespace && service_account(pod) == account && !is_over(pod)
        })
    }
}
