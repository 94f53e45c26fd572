//! What nobody hears: labels with a value that is not known, Gateways that no controller takes.

use serde_json::Value;

use super::{Check, Finding, GATEWAY_API, condition, finding, hidden, items, name};
use crate::translate::gateway::known_classes;
use crate::translate::labels::DATAPLANE_MODE;
use crate::translate::{network, waypoint};

/// Those whose label `istio.io/dataplane-mode` is neither of its values.
pub(super) const NAMESPACES: &str = "/api/v1/namespaces?labelSelector=istio.io/dataplane-mode,istio.io/dataplane-mode%20notin%20(ambient,none)";
pub(super) const PODS: &str = "/api/v1/pods?labelSelector=istio.io/dataplane-mode,istio.io/dataplane-mode%20notin%20(ambient,none)";
pub(super) const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1/gateways";
pub(super) const CLASSES: &str = "/apis/gateway.networking.k8s.io/v1/gatewayclasses";

/// What is asked for this. Who may not see all of a cluster need not.
pub(super) const QUESTIONS: [&str; 4] = [NAMESPACES, PODS, GATEWAYS, CLASSES];

impl Check<'_> {
    /// Whether every label that is to put pods into the mesh, or to keep them out, says so.
    pub(super) fn labels(&self) -> Finding {
        let what = format!("labels {DATAPLANE_MODE} are ambient or none");
        let mut odd = Vec::new();
        let mut skipped = None;
        for (path, kind) in [(NAMESPACES, "namespace"), (PODS, "pod")] {
            if self.is_hidden(path) {
                skipped = skipped.or_else(|| Some(hidden(path)));
                continue;
            }
            match self.answer(path) {
                Ok(found) => odd.extend(items(found).map(|object| {
                    let value = &object["metadata"]["labels"][DATAPLANE_MODE];
                    format!("{kind} {} has {value}", full_name(object))
                })),
                Err(failure) => return finding(what, Some(failure)),
            }
        }
        let failure = (!odd.is_empty()).then(|| {
            let fix = format!("kubectl label --overwrite namespace NAME {DATAPLANE_MODE}=ambient, or the same for a pod");
            (format!("{}; any other value has no effect", odd.join(", ")), fix)
        });
        Finding {
            skipped,
            ..finding(what, failure)
        }
    }

    pub(super) fn is_hidden(&self, path: &str) -> bool {
        matches!(self.answers.get(path), Some(Err(401 | 403)))
    }

    /// Whether somebody takes every Gateway. Nothing is found where there are none to look at.
    pub(super) fn gateways(&self) -> Option<Finding> {
        // That it is not there is found already.
        self.answer(GATEWAY_API).ok()?;
        let what = "every Gateway has a controller";
        if let Some(path) = [GATEWAYS, CLASSES]
            .into_iter()
            .find(|it| self.is_hidden(it))
        {
            let skipped = Some(hidden(path));
            return Some(Finding {
                skipped,
                ..finding(what, None)
            });
        }
        let (gateways, classes) = match (self.answer(GATEWAYS), self.answer(CLASSES)) {
            (Ok(gateways), Ok(classes)) => (gateways, classes),
            (Err(failure), _) | (_, Err(failure)) => return Some(finding(what, Some(failure))),
        };
        let alone = items(gateways).filter_map(|gateway| {
            let class = gateway["spec"]["gatewayClassName"].as_str()?;
            let ours = waypoint::CLASSES.contains(&class) || network::CLASSES.contains(&class);
            let why = match items(classes).find(|it| name(it) == class) {
                _ if ours => return None,
                Some(found) if is_accepted(found) => return None,
                Some(_) => "no controller has accepted",
                None => "is not there",
            };
            Some(format!(
                "{} is of class {class}, which {why}",
                full_name(gateway)
            ))
        });
        let alone: Vec<_> = alone.collect();
        let failure = (!alone.is_empty()).then(|| {
            let fix = format!("install the controller of this class; {}", known_classes());
            (alone.join(", "), fix)
        });
        Some(finding(what, failure))
    }
}

fn is_accepted(class: &Value) -> bool {
    condition(class, "Accepted").is_some_and(|it| it["status"] == "True")
}

fn full_name(object: &Value) -> String {
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", name(object)),
        None => name(object).to_owned(),
    }
}
