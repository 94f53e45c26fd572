//! A part of the mesh in the place of the one that runs, with more variables: what a rollout does on a cluster.
//!
//! A node proxy's successor serves before the earlier one ends. Both are in the node's network namespace here, so
//! the later one is asked for its state at other ports. Control has none, and ends first.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::sync::oneshot;

use super::component::Recipe;
use super::{Mesh, names};
use crate::cluster::Cluster;

/// Where a node proxy's own servers are in every other process: variables and ports.
const SHIFTED: [(&str, u16); 3] = [
    ("ADMIN_ADDR", 16000),
    ("STATS_ADDR", 16020),
    (READINESS, 16021),
];
const READINESS: &str = "READINESS_ADDR";
/// Where it says that it is ready unless it is told otherwise.
const READINESS_PORT: u16 = 15021;

/// Where the node proxy of this recipe says that it is ready.
pub(super) fn readiness(recipe: &Recipe) -> SocketAddr {
    let told = recipe.spec.env.get(READINESS);
    let told = told.and_then(|address| address.parse().ok());
    told.unwrap_or(SocketAddr::from(([127, 0, 0, 1], READINESS_PORT)))
}

impl Mesh {
    /// Starts control or a node proxy anew with these variables besides those it has, and waits until it is ready
    /// and the earlier one gone.
    ///
    /// # Errors
    /// There is nothing of that name, or why it is not ready.
    pub async fn replace(
        &self,
        cluster: &Cluster,
        name: &str,
        env: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let known = self.components.get(name);
        let component = known.ok_or_else(|| format!("no part of the mesh is called {name:?}"))?;
        let mut recipe = component.recipe();
        recipe.spec.env.extend(env.clone());
        let gone = "it was not replaced";
        if name == "control" {
            let trust_domains = names::of(&recipe.spec.env)?;
            let ended = component.replace(recipe, None);
            ended.await.map_err(|_| gone.to_owned())?;
            self.await_component(cluster, name).await?;
            cluster.write(|store| store.name_mesh(trust_domains));
            return Ok(());
        }
        if !name.starts_with("ztunnel/") {
            return Err(format!(
                "{name} cannot be replaced: control and ztunnel/NODE can"
            ));
        }
        let suffix = shift(&mut recipe.spec.env);
        recipe.spec.scratch.set_extension(format!("view{suffix}"));
        recipe.file.set_extension(format!("json{suffix}"));
        let (serves, serving) = oneshot::channel();
        let ended = component.replace(recipe, Some(serving));
        let ready = self.await_component(cluster, name).await;
        // Who is not ready has the place all the same.
        drop(serves);
        ended.await.map_err(|_| gone.to_owned())?;
        ready
    }
}

/// Moves a node proxy's own servers away from those of its predecessor, and says what tells their files apart.
fn shift(env: &mut BTreeMap<String, String>) -> &'static str {
    if env.contains_key(READINESS) {
        env.retain(|name, _| SHIFTED.iter().all(|(shifted, _)| name != shifted));
        return "";
    }
    let shifted = SHIFTED.map(|(name, port)| (name.to_owned(), format!("127.0.0.1:{port}")));
    env.extend(shifted);
    "-2"
}
