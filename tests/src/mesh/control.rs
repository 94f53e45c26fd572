//! How the control plane is started.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::component::{Place, Recipe};
use super::{component_log, names, published};
use crate::api::{new_uid, now};
use crate::cluster::Cluster;
use crate::controllers::SERVICE_NAME_LABEL;
use crate::net::plan;
use crate::stage::Mount;
use crate::tokens::{ISSUER, MESH_AUDIENCE};

/// Where the control plane's own endpoints are.
pub(super) const ADMIN_PORT: u16 = 15014;
/// Where discovery and certificates are.
pub(super) const DISCOVERY_PORT: u16 = 15012;
/// The names by which node proxies reach it.
pub(super) const NAMES: &[&str] = &[
    "ambit-control.ambit-system.svc",
    "ambit-control.ambit-system.svc.cluster.local",
    "istiod.istio-system.svc",
];
const NAMESPACE: &str = "ambit-system";
const SERVICE: &str = "ambit-control";

/// The recipe of the control plane.
pub(super) fn recipe(cluster: &Cluster, root: &Path, source: &Path) -> io::Result<Recipe> {
    let folder = root.join("control");
    fs::create_dir_all(&folder)?;
    let keys = folder.join("jwks.json");
    fs::write(&keys, serde_json::to_vec(cluster.issuer.key_set())?)?;
    let program = cluster.settings.programs.join("ambit");
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut argv = vec![text(&program), "control".to_owned()];
    let mut option = |name: &str, value: String| argv.extend([format!("--{name}"), value]);
    option("source", text(source));
    option("xds-address", format!("0.0.0.0:{DISCOVERY_PORT}"));
    option("admin-address", format!("0.0.0.0:{ADMIN_PORT}"));
    option("ca-dir", text(&ca_folder(root)));
    option("publish-dir", text(&published::folder(root)));
    option("jwks", text(&keys));
    option("token-audience", MESH_AUDIENCE.to_owned());
    option("token-issuer", ISSUER.to_owned());
    option("trusted-node-account", "ambit-system/ztunnel".to_owned());
    for name in NAMES {
        option("dns-name", (*name).to_owned());
    }
    argv.extend(cluster.settings.control_args.iter().cloned());
    let mut env = environment();
    let own = cluster.settings.trust_domain.clone();
    env.insert(names::OWN.to_owned(), own);
    let place = Place {
        name: "ambit-control",
        // Process 1 of the lab is in the lab's own network namespace, like control.
        netns: Path::new("/proc/1/ns/net"),
        folder: &folder,
        mounts: &[],
    };
    let name = "control".to_owned();
    Ok(Recipe {
        log: component_log(&cluster.state.logs(), &name),
        name,
        ..Recipe::at(&place, "control", argv, env, cluster)
    })
}

/// Lets pods find the control plane: what it publishes, and a name that leads to it.
pub(super) fn announce(cluster: &Cluster, root: &Path) -> io::Result<()> {
    let published = published::read(root)?;
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        uid: Some(new_uid()),
        creation_timestamp: Some(now()),
        ..ObjectMeta::default()
    };
    let port = i32::from(DISCOVERY_PORT);
    let service = Service {
        metadata: metadata(SERVICE),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            ports: Some(vec![ServicePort {
                name: Some("tls-xds".to_owned()),
                port,
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    let mut slice = EndpointSlice {
        metadata: metadata(SERVICE),
        address_type: "IPv4".to_owned(),
        endpoints: vec![Endpoint {
            addresses: vec![plan::bridge().v4.to_string()],
            ..Endpoint::default()
        }],
        ports: Some(vec![EndpointPort {
            name: Some("tls-xds".to_owned()),
            port: Some(port),
            ..EndpointPort::default()
        }]),
    };
    let labels = slice.metadata.labels.get_or_insert_default();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), SERVICE.to_owned());
    cluster.write(|store| {
        store.services.put(service);
        store.endpoint_slices.put(slice);
        store.publish(published);
    });
    Ok(())
}

/// Where the mesh's certificate authority keeps its key.
fn ca_folder(root: &Path) -> PathBuf {
    root.join("ca")
}

/// What every component gets of the lab's environment.
pub(super) fn environment() -> BTreeMap<String, String> {
    let kept = [
        "PATH",
        "HOME",
        "TMPDIR",
        "RUST_LOG",
        "RUST_BACKTRACE",
        "LD_LIBRARY_PATH",
    ];
    kept.into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// The names that components resolve without the cluster's DNS.
pub(super) fn hosts_mount(folder: &Path) -> io::Result<Mount> {
    let file = folder.join("hosts");
    let control = plan::bridge().v4;
    fs::write(
        &file,
        format!(
            "127.0.0.1 localhost\n::1 localhost\n{control} {}\n",
            NAMES.join(" ")
        ),
    )?;
    Ok(Mount {
        source: file,
        target: PathBuf::from("/etc/hosts"),
        read_only: true,
    })
}
