//! Counters of the control plane, in the Prometheus text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ambit_proto::xds::DeltaDiscoveryResponse;
use tonic::Code;

use super::Admin;
use crate::push::{ByType, ResourceType};

/// What is counted where it happens; the rest is read when metrics are asked for.
#[derive(Debug, Default)]
pub struct Metrics {
    pushes: ByType<AtomicU64>,
    resources: ByType<AtomicU64>,
    nacks: ByType<AtomicU64>,
    signed: AtomicU64,
    refused: [AtomicU64; 4],
}

const REFUSALS: [(Code, &str); 4] = [
    (Code::Unauthenticated, "unauthenticated"),
    (Code::PermissionDenied, "permission_denied"),
    (Code::InvalidArgument, "invalid_argument"),
    (Code::Internal, "internal"),
];

impl Metrics {
    /// A response was sent.
    pub fn pushed(&self, response: &DeltaDiscoveryResponse) {
        if let Some(of) = ResourceType::from_url(&response.type_url) {
            let count = response.resources.len() + response.removed_resources.len();
            self.pushes[of].fetch_add(1, Relaxed);
            self.resources[of].fetch_add(count as u64, Relaxed);
        }
    }

    /// A response was refused.
    pub fn nacked(&self, of: ResourceType) {
        self.nacks[of].fetch_add(1, Relaxed);
    }

    /// A certificate was signed, or refused with this code.
    pub fn signed(&self, refused: Option<Code>) {
        let Some(code) = refused else {
            self.signed.fetch_add(1, Relaxed);
            return;
        };
        let at = REFUSALS.iter().position(|(known, _)| *known == code);
        self.refused[at.unwrap_or(REFUSALS.len() - 1)].fetch_add(1, Relaxed);
    }
}

/// All metrics.
#[must_use]
pub fn render(admin: &Admin) -> String {
    let mut page = Page::default();
    let metrics = &admin.metrics;
    for (name, help, counters) in [
        (
            "pushes_total",
            "Responses sent to proxies.",
            &metrics.pushes,
        ),
        (
            "pushed_resources_total",
            "Resources and removals sent to proxies.",
            &metrics.resources,
        ),
        (
            "nacks_total",
            "Responses that proxies refused.",
            &metrics.nacks,
        ),
    ] {
        page.family(name, "counter", help);
        for of in ResourceType::ALL {
            let value = counters[of].load(Relaxed);
            page.sample(name, &[("type", of.name())], value);
        }
    }
    let name = "certificates_total";
    page.family(name, "counter", "Answers to certificate requests.");
    page.sample(name, &[("result", "signed")], metrics.signed.load(Relaxed));
    for ((_, result), count) in REFUSALS.iter().zip(&metrics.refused) {
        page.sample(name, &[("result", result)], count.load(Relaxed));
    }
    page.family("proxies", "gauge", "Proxies that are connected.");
    page.sample("proxies", &[], admin.connections.proxies().len() as u64);
    page.family(
        "generation",
        "gauge",
        "Changes to resources since the start.",
    );
    let shelves = admin.state.shelves();
    page.sample("generation", &[], shelves.generation());
    page.family("resources", "gauge", "Resources that are served.");
    for of in ResourceType::ALL {
        let count = shelves.of(of).len() as u64;
        page.sample("resources", &[("type", of.name())], count);
    }
    drop(shelves);
    page.family("objects", "gauge", "Objects that are acted upon.");
    for (kind, count) in admin.state.index().objects().counts() {
        page.sample("objects", &[("kind", &kind.to_string())], count as u64);
    }
    page.family(
        "object_problems",
        "gauge",
        "Things that are wrong with objects.",
    );
    let problems = admin.state.problems().len() as u64;
    page.sample("object_problems", &[], problems);
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP ambit_control_{name} {help}"));
        self.line(format_args!("# TYPE ambit_control_{name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        if labels.is_empty() {
            self.line(format_args!("ambit_control_{name} {value}"));
        } else {
            let labels = labels.join(",");
            self.line(format_args!("ambit_control_{name}{{{labels}}} {value}"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("writing to a String cannot fail");
    }
}
