//! The Helm chart, made from `manifests/base`: `UPDATE_GENERATED=1 cargo test -p ambit-control chart` writes it.

use super::documents::{BASE, CRDS, Document, base};
use super::places::{PLACES, chart_condition};
use super::{Settings, join};

/// The files of the chart: paths relative to its folder, and what is in them.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let definitions = CRDS
        .iter()
        .map(|(name, text)| (format!("crds/{name}"), (*text).to_owned()));
    let templates = BASE
        .iter()
        .map(|(name, _)| (format!("templates/{name}"), template(name)));
    let about = [
        ("Chart.yaml".to_owned(), about()),
        ("values.yaml".to_owned(), values()),
    ];
    about
        .into_iter()
        .chain(definitions)
        .chain(templates)
        .collect()
}

fn template(file: &str) -> String {
    let documents = base().filter(|document| document.file == file);
    join(documents.map(|document| conditional(&document)))
}

fn conditional(document: &Document) -> String {
    let set = PLACES.iter().fold(document.text.clone(), |text, place| {
        text.replace(place.stands, place.chart)
    });
    match chart_condition(document) {
        Some(condition) => format!("{{{{- if {condition} }}}}\n{set}{{{{- end }}}}\n"),
        None => set,
    }
}

fn about() -> String {
    format!(
        "apiVersion: v2\nname: ambit\ndescription: An ambient service mesh.\ntype: application\n\
         version: {0}\nappVersion: {0}\nkubeVersion: \">=1.30.0-0\"\n",
        env!("CARGO_PKG_VERSION"),
    )
}

fn values() -> String {
    let Settings {
        image,
        replicas,
        trust_domain,
        trust_domain_aliases,
        outbound_traffic_policy,
        cni_bin_dir,
        cni_conf_dir,
        gateway_classes,
        network_policies,
    } = Settings::default();
    format!(
        "# The one image of all programs.\n\
         image: {image}\n\
         control:\n  replicas: {replicas}\n\
         # The mesh's trust domain, and its other names, separated by commas, while it is renamed.\n\
         trustDomain: {trust_domain}\n\
         trustDomainAliases: \"{trust_domain_aliases}\"\n\
         # What pods may connect to: ALLOW_ANY, or with REGISTRY_ONLY what is a service, a ServiceEntry or a workload of the mesh.\n\
         outboundTrafficPolicy: {outbound_traffic_policy}\n\
         # Folders of the nodes; manifests/overlays has those of some distributions.\n\
         cni:\n  binDir: {cni_bin_dir}\n  confDir: {cni_conf_dir}\n\
         # They need the CRDs of the Gateway API.\n\
         gatewayClasses: {gateway_classes}\n\
         networkPolicies: {network_policies}\n"
    )
}
