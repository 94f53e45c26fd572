//! How the lab is.

use crate::cluster::{Cluster, is_virtual};
use crate::controllers::is_ready;
use crate::protocol::Status;

/// Collects it.
pub(super) fn status(cluster: &Cluster) -> Status {
    let mut status = Status {
        name: cluster.state.name().to_owned(),
        ..Status::default()
    };
    cluster.read(|store| {
        for node in &cluster.nodes {
            let here = store.pods.iter().filter(|(_, pod)| {
                let spec = pod.spec.as_ref();
                !is_virtual(pod) && spec.and_then(|it| it.node_name.as_ref()) == Some(&node.name)
            });
            status.nodes.push((node.name.clone(), here.count()));
            let weather = node.weather();
            if !weather.is_fair() {
                status.weather.push((node.name.clone(), weather));
            }
        }
        let pods = || store.pods.iter().filter(|(_, pod)| !is_virtual(pod));
        status.pods = (
            pods().filter(|(_, pod)| is_ready(pod)).count(),
            pods().count(),
        );
    });
    if let Some(mesh) = cluster.mesh() {
        status.components = mesh.statuses();
        status.problems = mesh.synced().borrow().problems();
    }
    status
}
