//! What a cluster lacks for the mesh, and how to get it.
//!
//! Pure: the answers of an API server by path, in; findings, out. A finding that fails names its fix.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::translate::labels::{
    DATAPLANE_MODE, REDIRECTION, USE_WAYPOINT, USE_WAYPOINT_CANARY, USE_WAYPOINT_CANARY_NAMESPACE,
    USE_WAYPOINT_NAMESPACE,
};
use crate::translate::status::CONTROLLER;

mod unheard;
mod unselected;

/// The oldest version whose API servers know every field of the manifests.
const OLDEST: (u64, u64) = (1, 30);
/// The oldest kernel that the redirection and the proxies are made for.
const KERNEL: (u64, u64) = (5, 15);
const GATEWAY_API: &str = "/apis/gateway.networking.k8s.io/v1";
const POLICIES: &str = "/apis/security.istio.io/v1";
const SYSTEM: &str = "/api/v1/namespaces/ambit-system";
/// Where the control plane's Deployment is.
pub const CONTROL: &str = "/apis/apps/v1/namespaces/ambit-system/deployments/ambit-control";
const NODES: &str = "/api/v1/nodes";
/// Where the DaemonSet of the node proxies is.
pub const PROXIES: &str = "/apis/apps/v1/namespaces/ambit-system/daemonsets/ztunnel";
const CLASS: &str = "/apis/gateway.networking.k8s.io/v1/gatewayclasses/ambit-waypoint";

/// The answers to the questions of [`questions`]: an object, or the status of a refusal.
pub type Answers = BTreeMap<String, Result<Value, u16>>;

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What should be so.
    pub what: String,
    /// Why it is not, and what to do.
    pub failure: Option<Failure>,
    /// Why it was not looked at, or not everywhere, which is no failure.
    pub skipped: Option<String>,
    /// What may not be meant so, which is no failure either.
    pub notice: Option<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Failure {
    pub reason: String,
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        if let Some(Failure { reason, fix }) = &self.failure {
            return write!(f, "failed  {what}: {reason}\n        fix: {fix}");
        }
        match (&self.skipped, &self.notice) {
            (None, None) => write!(f, "ok      {what}"),
            (Some(why), _) => write!(f, "skipped {what}: {why}"),
            (None, Some(notice)) => write!(f, "notice  {what}: {notice}"),
        }
    }
}

/// The paths to ask for, of a namespace too if one is given.
#[must_use]
pub fn questions(namespace: Option<&str>) -> Vec<String> {
    let cluster = [
        "/version",
        NODES,
        GATEWAY_API,
        POLICIES,
        SYSTEM,
        CONTROL,
        PROXIES,
        CLASS,
    ];
    let cluster = cluster.into_iter().chain(unheard::QUESTIONS);
    let of = namespace.into_iter().flat_map(|name| {
        let own = [
            format!("/api/v1/namespaces/{name}"),
            format!("/api/v1/namespaces/{name}/pods"),
            format!("/apis/gateway.networking.k8s.io/v1/namespaces/{name}/gateways"),
        ];
        own.into_iter().chain(unselected::questions(name))
    });
    cluster.map(str::to_owned).chain(of).collect()
}

/// What the answers say: about the cluster, about the installation if there is one, about the namespace.
#[must_use]
pub fn findings(answers: &Answers, namespace: Option<&str>) -> Vec<Finding> {
    let check = Check { answers };
    let mut found = vec![
        check.version(),
        check.kernels(),
        check.there(
            "the Gateway API is installed",
            GATEWAY_API,
            "kubectl apply --server-side -k manifests/external-crds",
        ),
        check.there(
            "Istio's policies are known",
            POLICIES,
            "kubectl apply --server-side -k manifests/external-crds",
        ),
    ];
    let install = "ambit install | kubectl apply -f -";
    let installed = check.there("Ambit is installed", SYSTEM, install);
    let is_installed = installed.failure.is_none();
    found.push(installed);
    if is_installed {
        found.push(check.rolled_out(
            "the control plane is ready",
            CONTROL,
            "deployment/ambit-control",
            |object| {
                (
                    &object["status"]["readyReplicas"],
                    &object["spec"]["replicas"],
                )
            },
        ));
        found.push(check.rolled_out(
            "every node has its proxy",
            PROXIES,
            "daemonset/ztunnel",
            |object| {
                let status = &object["status"];
                (&status["numberReady"], &status["desiredNumberScheduled"])
            },
        ));
        found.push(check.class(install));
    }
    found.push(check.labels());
    found.extend(check.gateways());
    if let Some(namespace) = namespace {
        found.extend(check.namespace(namespace));
    }
    found
}

struct Check<'a> {
    answers: &'a Answers,
}

fn finding(what: impl Into<String>, failure: Option<(String, String)>) -> Finding {
    Finding {
        what: what.into(),
        failure: failure.map(|(reason, fix)| Failure { reason, fix }),
        skipped: None,
        notice: None,
    }
}

impl<'a> Check<'a> {
    fn answer(&self, path: &str) -> Result<&'a Value, (String, String)> {
        match self.answers.get(path) {
            Some(Ok(value)) => Ok(value),
            Some(Err(401 | 403)) => Err((
                hidden(path),
                "kubectl auth can-i --list says what you may; ask for the rest".to_owned(),
            )),
            Some(Err(404)) => Err(("it is not there".to_owned(), String::new())),
            Some(Err(status)) => Err((
                format!("the API server answers {status}"),
                "look at the API server".to_owned(),
            )),
            None => Err((format!("{path} was not asked for"), String::new())),
        }
    }

    fn is_absent(&self, path: &str) -> bool {
        matches!(self.answers.get(path), Some(Err(404)))
    }

    /// Whether something answers at `path`; if not, `fix` puts it there.
    fn there(&self, what: &str, path: &str, fix: &str) -> Finding {
        let failure = self
            .answer(path)
            .err()
            .map(|(reason, own)| match own.is_empty() {
                true => (reason, fix.to_owned()),
                false => (reason, own),
            });
        finding(what, failure)
    }

    /// Whether Gateways of the class of waypoints are Ambit's. Without a GatewayClass they are, as with `--no-gateway-classes`.
    fn class(&self, install: &str) -> Finding {
        let what = "no other controller has the class of waypoints";
        let failure = match self.answer(CLASS) {
            Ok(class) => {
                let controller = class["spec"]["controllerName"].as_str();
                let other = controller.filter(|name| *name != CONTROLLER);
                other.map(|name| {
                    let fix = format!("kubectl delete gatewayclass ambit-waypoint, then {install}");
                    (format!("its controller is {name}"), fix)
                })
            }
            Err(_) if self.is_absent(CLASS) => None,
            Err(failure) => Some(failure),
        };
        finding(what, failure)
    }

    fn version(&self) -> Finding {
        let (major, minor) = OLDEST;
        let what = format!("Kubernetes is {major}.{minor} or newer");
        let failure = match self.answer("/version") {
            Ok(version) => {
                let text = version["gitVersion"].as_str().unwrap_or_default();
                let old = release(text).is_none_or(|release| release < OLDEST);
                old.then(|| (format!("it is {text:?}"), "upgrade the cluster".to_owned()))
            }
            Err(failure) => Some(failure),
        };
        finding(what, failure)
    }

    fn kernels(&self) -> Finding {
        let (major, minor) = KERNEL;
        let what = format!("nodes run Linux {major}.{minor} or newer");
        let failure = match self.answer(NODES) {
            Ok(nodes) => {
                let old = items(nodes).filter_map(|node| {
                    let kernel = node["status"]["nodeInfo"]["kernelVersion"].as_str()?;
                    let old = release(kernel).is_none_or(|release| release < KERNEL);
                    old.then(|| format!("{} has {kernel}", name(node)))
                });
                let old: Vec<_> = old.collect();
                (!old.is_empty()).then(|| (old.join(", "), "upgrade these nodes".to_owned()))
            }
            Err(failure) => Some(failure),
        };
        finding(what, failure)
    }

    fn rolled_out(
        &self,
        what: &str,
        path: &str,
        named: &str,
        counts: impl Fn(&'a Value) -> (&'a Value, &'a Value),
    ) -> Finding {
        let fix = format!("kubectl -n ambit-system describe {named} says what is missing");
        let failure = match self.answer(path) {
            Ok(object) => {
                let (ready, wanted) = counts(object);
                let ready = ready.as_u64().unwrap_or_default();
                let wanted = wanted.as_u64().unwrap_or_default();
                (ready < wanted || wanted == 0).then(|| (format!("{ready} of {wanted}"), fix))
            }
            Err((reason, _)) => Some((reason, fix)),
        };
        finding(what, failure)
    }

    fn namespace(&self, namespace: &str) -> Vec<Finding> {
        let what = format!("namespace {namespace} is in the mesh");
        let fix = format!("kubectl label namespace {namespace} {DATAPLANE_MODE}=ambient");
        let object = match self.answer(&format!("/api/v1/namespaces/{namespace}")) {
            Ok(object) => object,
            Err((reason, _)) => {
                let fix = format!("kubectl create namespace {namespace}");
                return vec![finding(what, Some((reason, fix)))];
            }
        };
        let labels = &object["metadata"]["labels"];
        let mode = labels[DATAPLANE_MODE].as_str();
        let failure = (mode != Some("ambient")).then(|| {
            let reason = format!(
                "its label {DATAPLANE_MODE} is {:?}",
                mode.unwrap_or_default()
            );
            (reason, fix)
        });
        let is_in = failure.is_none();
        let mut found = vec![finding(what, failure)];
        if is_in {
            found.push(self.captured(namespace));
        }
        for (by, namespace_by) in [
            (USE_WAYPOINT, USE_WAYPOINT_NAMESPACE),
            (USE_WAYPOINT_CANARY, USE_WAYPOINT_CANARY_NAMESPACE),
        ] {
            let of = labels[namespace_by].as_str();
            let here = of.is_none_or(|of| of == namespace);
            let named = labels[by].as_str().filter(|name| *name != "none" && here);
            found.extend(named.map(|waypoint| self.waypoint(namespace, waypoint)));
        }
        found.extend(self.selectors(namespace));
        found
    }

    fn captured(&self, namespace: &str) -> Finding {
        let what = format!("pods of {namespace} are captured");
        let pods = match self.answer(&format!("/api/v1/namespaces/{namespace}/pods")) {
            Ok(pods) => pods,
            Err(failure) => return finding(what, Some(failure)),
        };
        let left = items(pods).filter(|pod| {
            let metadata = &pod["metadata"];
            pod["status"]["phase"] == "Running"
                && pod["spec"]["hostNetwork"] != true
                && metadata["labels"][DATAPLANE_MODE] != "none"
                && metadata["annotations"][REDIRECTION] != "enabled"
        });
        let left: Vec<_> = left.map(name).collect();
        let failure = left.first().map(|first| {
            let fix =
                format!("kubectl -n {namespace} describe pod {first} says why, in its events");
            (left.join(", "), fix)
        });
        finding(what, failure)
    }

    fn waypoint(&self, namespace: &str, waypoint: &str) -> Finding {
        let what = format!("waypoint {waypoint} of {namespace} is programmed");
        let path = format!("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/gateways");
        let gateways = match self.answer(&path) {
            Ok(gateways) => gateways,
            Err(failure) => return finding(what, Some(failure)),
        };
        let Some(gateway) = items(gateways).find(|gateway| name(gateway) == waypoint) else {
            let fix = "manifests/samples/waypoint.yaml has one".to_owned();
            return finding(what, Some(("there is no such Gateway".to_owned(), fix)));
        };
        let failure = match condition(gateway, "Programmed") {
            Some(condition) if condition["status"] == "True" => None,
            Some(condition) => {
                let message = condition["message"].as_str().unwrap_or_default();
                Some(message.to_owned())
            }
            None => Some("nobody has looked at it".to_owned()),
        };
        let fix = || format!("kubectl -n {namespace} describe gateway {waypoint}");
        finding(what, failure.map(|reason| (reason, fix())))
    }
}

fn hidden(path: &str) -> String {
    format!("the API server does not let you see {path}")
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// A condition of an object's status.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let all = object["status"]["conditions"].as_array();
    all.into_iter().flatten().find(|it| it["type"] == kind)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// `v1.32.4-gke.1` and `6.1.0-18-amd64` begin with major and minor.
fn release(text: &str) -> Option<(u64, u64)> {
    let mut parts = text
        .trim_start_matches('v')
        .split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;
