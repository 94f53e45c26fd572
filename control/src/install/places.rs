//! Where installations differ from `manifests/base`, and from one another.

use super::Settings;
use super::documents::Document;

/// Lines, or what is common to several, that a setting changes.
pub(super) struct Place {
    /// As it stands in `manifests/base`.
    pub(super) stands: &'static str,
    /// How often.
    #[cfg(test)]
    pub(super) times: usize,
    /// The same with a setting's value.
    value: fn(&Settings) -> String,
    /// The same in the chart.
    pub(super) chart: &'static str,
}

macro_rules! place {
    ($stands:expr, $times:literal, $value:expr, $chart:literal) => {
        Place {
            stands: $stands,
            #[cfg(test)]
            times: $times,
            value: $value,
            chart: $chart,
        }
    };
}

pub(super) const PLACES: [Place; 8] = [
    place!(
        concat!("image: ambit:", env!("CARGO_PKG_VERSION")),
        3,
        |settings| format!("image: {}", quoted(&settings.image)),
        "image: {{ .Values.image | quote }}"
    ),
    place!(
        concat!("value: ambit:", env!("CARGO_PKG_VERSION")),
        1,
        |settings| format!("value: {}", quoted(&settings.image)),
        "value: {{ .Values.image | quote }}"
    ),
    place!(
        "replicas: 2",
        1,
        |settings| format!("replicas: {}", settings.replicas),
        "replicas: {{ .Values.control.replicas }}"
    ),
    place!(
        "name: TRUST_DOMAIN\n          value: cluster.local",
        2,
        |settings| variable("TRUST_DOMAIN", &settings.trust_domain.to_string()),
        "name: TRUST_DOMAIN\n          value: {{ .Values.trustDomain | quote }}"
    ),
    place!(
        "name: AMBIT_TRUST_DOMAIN_ALIASES\n          value: \"\"",
        2,
        |settings| {
            let aliases = settings.trust_domain_aliases.to_string();
            variable("AMBIT_TRUST_DOMAIN_ALIASES", &aliases)
        },
        "name: AMBIT_TRUST_DOMAIN_ALIASES\n          value: {{ .Values.trustDomainAliases | quote }}"
    ),
    place!(
        "name: AMBIT_OUTBOUND_TRAFFIC_POLICY\n          value: ALLOW_ANY",
        1,
        |settings| {
            let policy = settings.outbound_traffic_policy.to_string();
            variable("AMBIT_OUTBOUND_TRAFFIC_POLICY", &policy)
        },
        "name: AMBIT_OUTBOUND_TRAFFIC_POLICY\n          value: {{ .Values.outboundTrafficPolicy | quote }}"
    ),
    place!(
        "path: /opt/cni/bin",
        1,
        |settings| format!("path: {}", quoted(&settings.cni_bin_dir)),
        "path: {{ .Values.cni.binDir | quote }}"
    ),
    place!(
        "path: /etc/cni/net.d",
        1,
        |settings| format!("path: {}", quoted(&settings.cni_conf_dir)),
        "path: {{ .Values.cni.confDir | quote }}"
    ),
];

/// The settings in their places.
pub(super) fn set(text: &str, settings: &Settings) -> String {
    PLACES.iter().fold(text.to_owned(), |text, place| {
        text.replace(place.stands, &(place.value)(settings))
    })
}

/// Objects that not every installation has.
struct Condition {
    of: fn(&Document) -> bool,
    holds: fn(&Settings) -> bool,
    chart: &'static str,
}

const CONDITIONS: [Condition; 4] = [
    Condition {
        of: |document| document.kind == "GatewayClass",
        holds: |settings| settings.gateway_classes,
        chart: ".Values.gatewayClasses",
    },
    Condition {
        of: |document| document.kind == "NetworkPolicy",
        holds: |settings| settings.network_policies,
        chart: ".Values.networkPolicies",
    },
    // One replica that must not be disrupted is a node that cannot be drained.
    Condition {
        of: |document| document.kind == "PodDisruptionBudget",
        holds: |settings| settings.replicas > 1,
        chart: "gt (int .Values.control.replicas) 1",
    },
    // Helm makes the namespace of a release itself, and does not take over one that it made.
    Condition {
        of: |document| document.kind == "Namespace",
        holds: |_| true,
        chart: "ne .Release.Namespace \"ambit-system\"",
    },
];

/// Whether an installation has this object.
pub(super) fn wanted(document: &Document, settings: &Settings) -> bool {
    CONDITIONS
        .iter()
        .all(|condition| !(condition.of)(document) || (condition.holds)(settings))
}

/// When the chart has this object, unless it always has.
pub(super) fn chart_condition(document: &Document) -> Option<&'static str> {
    let condition = CONDITIONS.iter().find(|one| (one.of)(document))?;
    Some(condition.chart)
}

/// A variable of a container.
fn variable(name: &str, value: &str) -> String {
    format!("name: {name}\n          value: {}", quoted(value))
}

fn quoted(text: &str) -> String {
    // JSON's strings are YAML's.
    serde_json::Value::from(text).to_string()
}
