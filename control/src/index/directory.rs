//! Questions about pods that the certificate authority asks.

use super::Index;
use crate::translate::workload::{is_over, service_account};

impl Index {
    /// Whether a pod that runs as this service account is, or is about to be, on the node.
    #[must_use]
    pub fn runs_on(&self, node: &str, namespace: &str, account: &str) -> bool {
        let names = self.pods_by_node.get(node).into_iter().flatten();
        let mut pods = names
            .filter(|name| &*name.namespace == namespace)
            .filter_map(|name| self.objects.pods.find(&name.namespace, &name.name));
        pods.any(|pod| service_account(pod) == account && !is_over(pod))
    }
}
