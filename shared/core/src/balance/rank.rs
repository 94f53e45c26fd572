//! How near an endpoint is to a client, in the terms a service prefers.

use crate::model::Workload;
use crate::model::service::Scope;

/// How many leading scopes of the preference the two share.
#[must_use]
pub fn rank(preference: &[Scope], from: &Workload, to: &Workload) -> usize {
    preference
        .iter()
        .take_while(|scope| same(**scope, from, to))
        .count()
}

/// Regions, zones and subzones are nested: the same zone name in another region is another zone.
fn same(scope: Scope, from: &Workload, to: &Workload) -> bool {
    let (a, b) = (&from.locality, &to.locality);
    match scope {
        Scope::Region => a.region == b.region,
        Scope::Zone => a.region == b.region && a.zone == b.zone,
        Scope::Subzone => a == b,
        Scope::Node => from.node == to.node && from.cluster_id == to.cluster_id,
        Scope::Cluster => from.cluster_id == to.cluster_id,
        Scope::Network => from.network == to.network,
    }
}
