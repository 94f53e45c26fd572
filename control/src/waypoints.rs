//! What runs a waypoint or a gateway between networks: the ServiceAccount, Service, Deployment and PodDisruptionBudget of a Gateway.
//!
//! Pure. Whoever keeps the objects of a cluster applies them: the lab, or the Kubernetes source. They are
//! owned by the Gateway and go with it. Pods of a waypoint terminate HBONE themselves and are not captured.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    ConfigMapEnvSource, ConfigMapProjection, Container, ContainerPort, EnvFromSource, EnvVar,
    EnvVarSource, HTTPGetAction, KeyToPath, ObjectFieldSelector, PodSpec, PodTemplateSpec, Probe,
    ProjectedVolumeSource, Service, ServiceAccount, ServiceAccountTokenProjection, ServicePort,
    ServiceSpec, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cluster::bundles::{Bundle, REVOKED, ROOTS};
use crate::parameters;
use crate::source::gateway::{Gateway, Infrastructure};
use crate::translate::labels::{
    DATAPLANE_MODE, GATEWAY_NAME, NETWORK, TUNNEL, USE_WAYPOINT, WAYPOINT_FOR, label,
};
use crate::translate::waypoint::{HBONE_PORT, is_waypoint};
use crate::translate::{Mesh, network};

/// The label that names the class of a Gateway on what runs it.
pub const GATEWAY_CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";
/// The container, as `kubectl logs -c` names it.
pub const CONTAINER: &str = "waypoint";
/// Where its readiness and metrics are served.
pub const READINESS_PORT: u16 = 15021;
/// Where operators and scrapers ask.
pub const METRICS_PORT: u16 = 15020;

const TOKEN_FOLDER: &str = "/var/run/secrets/tokens";
const ROOTS_FOLDER: &str = "/var/run/secrets/istio";
/// Audience of the token that waypoints show to the control plane.
const TOKEN_AUDIENCE: &str = "istio-ca";
const TOKEN_SECONDS: i64 = 43_200;
/// What tells a waypoint of its pod's grace period: it gives its connections a few seconds less.
pub const GRACE: &str = "TERMINATION_GRACE_PERIOD_SECONDS";
const GRACE_SECONDS: i64 = 45;

/// What waypoints of this cluster need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The image of the container.
    pub image: String,
    /// `https://HOST:PORT` of the control plane.
    pub control: String,
    /// `https://HOST:PORT` of the authority, where that is not the control plane.
    pub authority: Option<String>,
    /// A file with the roots of the control plane, where it is not in the ConfigMap of the namespace.
    pub roots: Option<String>,
    /// A file with a token, where it is not projected by the cluster.
    pub token: Option<String>,
    /// Instances, unless something scales them.
    pub replicas: i32,
}

/// The objects that run a Gateway.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Objects {
    pub account: ServiceAccount,
    pub service: Service,
    pub deployment: Deployment,
    pub disruption: PodDisruptionBudget,
}

/// The objects that run this Gateway; `None` when it is neither a waypoint nor a gateway that leads into a network.
#[must_use]
pub fn objects(gateway: &Gateway, mesh: &Mesh, settings: &Settings) -> Option<Objects> {
    if !is_waypoint(gateway) && network::leads_into(gateway).is_none() {
        return None;
    }
    let metadata = metadata(gateway);
    let name = gateway.metadata.name.clone().unwrap_or_default();
    let selector = BTreeMap::from([(GATEWAY_NAME.to_owned(), name.clone())]);
    let pods = LabelSelector {
        match_labels: Some(selector.clone()),
        ..LabelSelector::default()
    };
    let port = ServicePort {
        name: Some("mesh".to_owned()),
        port: HBONE_PORT.into(),
        app_protocol: Some("all".to_owned()),
        target_port: Some(IntOrString::Int(HBONE_PORT.into())),
        ..ServicePort::default()
    };
    let account = ServiceAccount {
        metadata: metadata.clone(),
        ..ServiceAccount::default()
    };
    let service = Service {
        metadata: metadata.clone(),
        spec: Some(ServiceSpec {
            selector: Some(selector),
            ports: Some(vec![port]),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    let deployment = Deployment {
        metadata: metadata.clone(),
        spec: Some(DeploymentSpec {
            replicas: Some(settings.replicas),
            selector: pods.clone(),
            template: PodTemplateSpec {
                metadata: Some(pod_metadata(gateway, &metadata)),
                spec: Some(pod(gateway, &name, mesh, settings)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    };
    // One at a time: of a single instance as well, or its node could never be drained.
    let disruption = PodDisruptionBudget {
        metadata,
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(pods),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    };
    Some(Objects {
        account,
        service,
        deployment,
        disruption,
    })
}

/// Name, namespace, labels and owner: alike for all objects.
fn metadata(gateway: &Gateway) -> ObjectMeta {
    let of = &gateway.metadata;
    let name = of.name.clone().unwrap_or_default();
    let infrastructure = gateway.spec.infrastructure.clone().unwrap_or_default();
    let Infrastructure {
        mut labels,
        annotations,
        ..
    } = infrastructure;
    labels.insert(GATEWAY_NAME.to_owned(), name.clone());
    labels.insert(
        GATEWAY_CLASS.to_owned(),
        gateway.spec.gateway_class_name.clone(),
    );
    if let Some(network) = network::leads_into(gateway) {
        labels.insert(NETWORK.to_owned(), network.to_owned());
    }
    if let Some(serves) = label(of, WAYPOINT_FOR) {
        labels.insert(WAYPOINT_FOR.to_owned(), serves.to_owned());
    }
    let owner = OwnerReference {
        api_version: "gateway.networking.k8s.io/v1".to_owned(),
        kind: "Gateway".to_owned(),
        name: name.clone(),
        uid: of.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    ObjectMeta {
        name: Some(name),
        namespace: Some(of.namespace.clone().unwrap_or_else(|| "default".to_owned())),
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

fn pod_metadata(gateway: &Gateway, metadata: &ObjectMeta) -> ObjectMeta {
    let mut labels = metadata.labels.clone().unwrap_or_default();
    let name = gateway.metadata.name.clone().unwrap_or_default();
    labels.insert(DATAPLANE_MODE.to_owned(), "none".to_owned());
    labels.insert(TUNNEL.to_owned(), "http".to_owned());
    labels.insert(USE_WAYPOINT.to_owned(), "none".to_owned());
    let canonical = "service.istio.io/canonical-name";
    labels.entry(canonical.to_owned()).or_insert(name);
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    for (annotation, value) in [
        ("prometheus.io/scrape", "true".to_owned()),
        ("prometheus.io/port", METRICS_PORT.to_string()),
        ("prometheus.io/path", "/metrics".to_owned()),
    ] {
        annotations.entry(annotation.to_owned()).or_insert(value);
    }
    ObjectMeta {
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

fn pod(gateway: &Gateway, name: &str, mesh: &Mesh, settings: &Settings) -> PodSpec {
    let mut sources = Vec::new();
    let mut mounts = Vec::new();
    if settings.token.is_none() {
        sources.push(volume("token", vec![token_projection()]));
        mounts.push(mount("token", TOKEN_FOLDER));
    }
    if settings.roots.is_none() {
        sources.push(volume(
            "roots",
            vec![roots_projection(), lists_projection()],
        ));
        mounts.push(mount("roots", ROOTS_FOLDER));
    }
    let port = |name: &str, number: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        ..ContainerPort::default()
    };
    let readiness = Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/healthz/ready".to_owned()),
            port: IntOrString::Int(READINESS_PORT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(1),
        ..Probe::default()
    };
    PodSpec {
        service_account_name: Some(name.to_owned()),
        // It leads into the network that it is on.
        node_selector: network::leads_into(gateway)
            .map(|network| BTreeMap::from([(NETWORK.to_owned(), network.to_owned())])),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        containers: vec![Container {
            name: CONTAINER.to_owned(),
            image: Some(settings.image.clone()),
            env: Some(environment(
                name,
                network::leads_into(gateway),
                mesh,
                settings,
            )),
            env_from: parameters(gateway).map(|source| vec![source]),
            ports: Some(vec![
                port("mesh", HBONE_PORT),
                port("readiness", READINESS_PORT),
                port("metrics", METRICS_PORT),
            ]),
            readiness_probe: Some(readiness),
            volume_mounts: (!mounts.is_empty()).then_some(mounts),
            ..Container::default()
        }],
        volumes: (!sources.is_empty()).then_some(sources),
        ..PodSpec::default()
    }
}

fn environment(
    name: &str,
    leads_into: Option<&str>,
    mesh: &Mesh,
    settings: &Settings,
) -> Vec<EnvVar> {
    let token = format!("{TOKEN_FOLDER}/istio-token");
    let roots = format!("{ROOTS_FOLDER}/{}", ROOTS.file);
    let token = settings.token.clone().unwrap_or(token);
    let roots = settings.roots.clone().unwrap_or(roots);
    let authority = settings.authority.as_ref().unwrap_or(&settings.control);
    let mut all = vec![
        value("XDS_ADDRESS", &settings.control),
        value("CA_ADDRESS", authority),
        value("XDS_ROOT_CA", &roots),
        value("CA_ROOT_CA", &roots),
        value("AUTH_TOKEN", &token),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("NODE_NAME", "spec.nodeName"),
        value("CLUSTER_ID", &mesh.cluster_id),
        value("CLUSTER_DOMAIN", &mesh.cluster_domain),
        value("TRUST_DOMAIN", mesh.trust_domains.own()),
        value("NETWORK", leads_into.unwrap_or(&mesh.network)),
        value("GATEWAY_NAME", name),
        value(GRACE, &GRACE_SECONDS.to_string()),
    ];
    if settings.roots.is_none() {
        let lists = format!("{ROOTS_FOLDER}/{}", REVOKED.file);
        all.push(value("CRL_PATH", &lists));
    }
    if let Some(network) = leads_into {
        all.push(value("AMBIT_GATEWAY_TO_NETWORK", network));
    }
    let aliases = mesh.trust_domains.aliases().to_string();
    if !aliases.is_empty() {
        all.push(value("AMBIT_TRUST_DOMAIN_ALIASES", &aliases));
    }
    all
}

/// The ConfigMap of `infrastructure.parametersRef`, as more environment: what the waypoint reads besides what it
/// is told here, which wins.
fn parameters(gateway: &Gateway) -> Option<EnvFromSource> {
    let name = parameters::named(gateway).ok()??.to_owned();
    Some(EnvFromSource {
        config_map_ref: Some(ConfigMapEnvSource {
            name,
            optional: None,
        }),
        ..EnvFromSource::default()
    })
}

fn value(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
    }
}

fn volume(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: None,
            sources: Some(sources),
        }),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

fn token_projection() -> VolumeProjection {
    VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: Some(TOKEN_AUDIENCE.to_owned()),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: "istio-token".to_owned(),
        }),
        ..VolumeProjection::default()
    }
}

fn roots_projection() -> VolumeProjection {
    projection(&ROOTS, None)
}

/// Most meshes have none.
fn lists_projection() -> VolumeProjection {
    projection(&REVOKED, Some(true))
}

fn projection(bundle: &Bundle, optional: Option<bool>) -> VolumeProjection {
    VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: bundle.name.to_owned(),
            items: Some(vec![KeyToPath {
                key: bundle.file.to_owned(),
                path: bundle.file.to_owned(),
                mode: None,
            }]),
            optional,
        }),
        ..VolumeProjection::default()
    }
}

#[cfg(test)]
#[path = "waypoints_tests.rs"]
mod tests;
