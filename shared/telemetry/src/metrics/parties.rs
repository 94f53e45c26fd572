//! The labels that name two workloads and the service between them, under the names that Istio dashboards
//! expect.

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::model::Workload;

use super::text;

/// The label values that are text, in the order of [`NAMES`].
pub(super) type Texts<'a> = [&'a str; 13];

const NAMES: [&[&str]; 13] = [
    &["source_workload"],
    &["source_canonical_service", "source_app"],
    &["source_canonical_revision", "source_version"],
    &["source_workload_namespace"],
    &["source_cluster"],
    &["destination_workload"],
    &["destination_canonical_service", "destination_app"],
    &["destination_canonical_revision", "destination_version"],
    &["destination_workload_namespace"],
    &["destination_cluster"],
    &["destination_service"],
    &["destination_service_namespace"],
    &["destination_service_name"],
];

pub(super) fn texts<'a>(
    source: Option<&'a Workload>,
    destination: Option<&'a Workload>,
    service: Option<(&'a NamespacedName, &'a str)>,
) -> Texts<'a> {
    fn party(workload: Option<&Workload>) -> [&str; 5] {
        workload.map_or([""; 5], |w| {
            [
                &w.workload_name,
                &w.canonical_name,
                &w.canonical_revision,
                &w.namespace,
                &w.cluster_id,
            ]
        })
    }
    let [a, b, c, d, e] = party(source);
    let [f, g, h, i, j] = party(destination);
    let [k, l, m] = service.map_or([""; 3], |(key, name)| [&*key.name, &*key.namespace, name]);
    [a, b, c, d, e, f, g, h, i, j, k, l, m]
}

/// The parties of a series, which keeps them.
#[derive(Debug)]
pub struct Parties {
    texts: [Box<str>; 13],
    principals: [Option<Identity>; 2],
}

impl Parties {
    pub(super) fn new(texts: &Texts<'_>, principals: [Option<&Identity>; 2]) -> Self {
        Self {
            texts: texts.map(Box::from),
            principals: principals.map(Option::<&Identity>::cloned),
        }
    }

    pub(super) fn are(&self, texts: &Texts<'_>, principals: [Option<&Identity>; 2]) -> bool {
        self.principals[0].as_ref() == principals[0]
            && self.principals[1].as_ref() == principals[1]
            && self
                .texts
                .iter()
                .zip(texts)
                .all(|(own, asked)| **own == **asked)
    }

    /// The two workloads as (namespace, workload name), source first.
    pub(super) fn workloads(&self) -> [(&str, &str); 2] {
        [
            (&self.texts[3], &self.texts[0]),
            (&self.texts[8], &self.texts[5]),
        ]
    }

    /// Missing values and empty ones are shown as `unknown`.
    pub(super) fn write(&self, out: &mut String, first: &mut bool) {
        for (names, value) in NAMES.iter().zip(&self.texts) {
            let value = if value.is_empty() { "unknown" } else { value };
            for name in *names {
                text::label(out, first, name, value);
            }
        }
        for (name, principal) in ["source_principal", "destination_principal"]
            .into_iter()
            .zip(&self.principals)
        {
            let value = principal.as_ref().map(Identity::to_string);
            text::label(out, first, name, value.as_deref().unwrap_or("unknown"));
        }
    }
}
