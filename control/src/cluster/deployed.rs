//! Which objects have to be applied or removed, so that every waypoint has what runs it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::FIELD_MANAGER;
use super::collection::{Collection, path};
use crate::parameters::Patches;
use crate::waypoints::{CONTAINER, GRACE, Objects};

/// The label of what is applied here, and only of that.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The program of the image.
const PROGRAM: &str = "/waypoint";
/// Who it runs as: nobody in particular, but not root.
const USER: i64 = 65_532;

/// The resources that run a waypoint, in the order they are applied.
pub const RESOURCES: [Collection; 5] = [
    Collection::all("", &["v1"], "serviceaccounts"),
    Collection::all("", &["v1"], "services"),
    Collection::all("apps", &["v1"], "deployments"),
    Collection::all("policy", &["v1"], "poddisruptionbudgets"),
    Collection::all("autoscaling", &["v2"], "horizontalpodautoscalers"),
];
/// The keys of their patches, in the same order.
const PATCHES: [&str; 5] = [
    "serviceAccount",
    "service",
    "deployment",
    "podDisruptionBudget",
    "horizontalPodAutoscaler",
];

/// One object that runs a waypoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Which of [`RESOURCES`].
    pub resource: usize,
    #[allow(missing_docs)]
    pub namespace: String,
    #[allow(missing_docs)]
    pub name: String,
}

impl Id {
    /// Where the API server has it.
    #[must_use]
    pub fn path(&self) -> String {
        let of = &RESOURCES[self.resource];
        let all = path(of.group, of.versions[0], Some(&self.namespace), of.plural);
        format!("{all}/{}", super::escaped(&self.name))
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = RESOURCES[self.resource].plural;
        write!(f, "{of} {}/{}", self.namespace, self.name)
    }
}

/// An object as it is in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its uid.
    pub uid: String,
    /// Of all that is not status.
    print: u64,
}

impl Found {
    /// What is looked at of an object.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let mut object = object.clone();
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        let uid = uid.to_owned();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for of_the_server in ["resourceVersion", "managedFields", "generation"] {
                metadata.remove(of_the_server);
            }
        }
        Self {
            uid,
            print: print(&object),
        }
    }
}

/// What to do with one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Apply this. `first`: nothing of ours is there; what is may be another's.
    Apply {
        #[allow(missing_docs)]
        object: Value,
        #[allow(missing_docs)]
        first: bool,
    },
    /// Remove the object of this uid.
    Remove(String),
}

/// What is wanted, what was applied, and what is there.
#[derive(Debug, Default)]
pub struct Deployed {
    wanted: BTreeMap<Id, Value>,
    applied: BTreeMap<Id, (u64, u64)>,
    found: BTreeMap<Id, Found>,
    held: BTreeSet<(String, String)>,
}

impl Deployed {
    /// From now on exactly this is wanted. What runs the Gateways of `held`, by namespace and name, stays as it is.
    pub fn want(&mut self, wanted: BTreeMap<Id, Value>, held: BTreeSet<(String, String)>) {
        (self.wanted, self.held) = (wanted, held);
    }

    /// What is there of an object with our label.
    pub fn is(&mut self, id: Id, found: Option<Found>) {
        match found {
            Some(found) => self.found.insert(id, found),
            None => self.found.remove(&id),
        };
    }

    /// All objects of a resource that are there.
    pub fn of(&self, resource: usize) -> impl Iterator<Item = &Id> {
        self.found.keys().filter(move |id| id.resource == resource)
    }

    /// An object was applied, and this is what came of it.
    pub fn applied(&mut self, id: &Id, object: &Value, result: &Value) {
        let found = Found::of(result);
        self.applied
            .insert(id.clone(), (print(object), found.print));
        self.found.insert(id.clone(), found);
    }

    /// What is to be done now.
    #[must_use]
    pub fn steps(&self) -> BTreeMap<Id, Step> {
        let mut steps = BTreeMap::new();
        for (id, object) in &self.wanted {
            let found = self.found.get(id);
            let applied = self.applied.get(id);
            let so = found.is_some_and(|found| Some(&(print(object), found.print)) == applied);
            if !so {
                let step = Step::Apply {
                    object: object.clone(),
                    first: found.is_none(),
                };
                steps.insert(id.clone(), step);
            }
        }
        for (id, found) in &self.found {
            if !self.wanted.contains_key(id) {
                steps.insert(id.clone(), Step::Remove(found.uid.clone()));
            }
        }
        steps.retain(|id, _| {
            let gateway = (id.namespace.clone(), id.name.clone());
            !self.held.contains(&gateway)
        });
        steps
    }
}

/// Whether an object that is not labelled as ours may be taken over: a Gateway owns it that is of this uid.
#[must_use]
pub fn is_owned_by(object: &Value, uid: &str) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    let ours = object["metadata"]["labels"][MANAGED_BY] == FIELD_MANAGER;
    ours || owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == uid))
}

/// What is applied for a waypoint on Kubernetes, as its parameters change it.
#[must_use]
pub fn applied(objects: &Objects, patches: &Patches) -> BTreeMap<Id, Value> {
    let values = [
        json!(objects.account),
        json!(objects.service),
        json!(objects.deployment),
        json!(objects.disruption),
    ];
    let autoscaler = patches
        .autoscales()
        .then(|| autoscaler(&objects.deployment));
    let values = values.into_iter().chain(autoscaler).enumerate();
    let applied = values.map(|(resource, mut object)| {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let id = Id {
            resource,
            namespace: text("namespace").to_owned(),
            name: text("name").to_owned(),
        };
        object["metadata"]["labels"][MANAGED_BY] = json!(FIELD_MANAGER);
        let runs = RESOURCES[resource].plural == "deployments";
        if runs {
            harden(&mut object["spec"]);
        }
        let mut patched = patches.apply(PATCHES[resource], object);
        if runs {
            tell_grace(&mut patched);
        }
        (id, patched)
    });
    applied.collect()
}

/// What scales a Deployment. How far is for the patch to say.
fn autoscaler(deployment: &Deployment) -> Value {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": deployment.metadata,
        "spec": {"scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": deployment.metadata.name,
        }},
    })
}

/// The image holds several programs; replicas are left to who scales; nothing more is allowed than is needed.
fn harden(deployment: &mut Value) {
    if let Some(spec) = deployment.as_object_mut() {
        spec.remove("replicas");
    }
    let pod = &mut deployment["template"]["spec"];
    pod["securityContext"] = json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let container = &mut pod["containers"][0];
    container["command"] = json!([PROGRAM]);
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
}

/// A waypoint is told of the grace period that its pod has, whoever has said so. What a user's parameters have made no
/// Deployment of stays as it is: the API server says what is wrong with it.
pub fn tell_grace(deployment: &mut Value) {
    let Some(pod) = deployment.pointer_mut("/spec/template/spec") else {
        return;
    };
    let Some(seconds) = pod["terminationGracePeriodSeconds"].as_u64() else {
        return;
    };
    let waypoints = items(pod, "containers").filter(|it| it["name"] == CONTAINER);
    let variables = waypoints.flat_map(|it| items(it, "env"));
    for variable in variables.filter(|it| it["name"] == GRACE) {
        variable["value"] = json!(seconds.to_string());
    }
}

/// What a list holds, if it is one.
fn items<'a>(of: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    let list = of.get_mut(name).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

fn print(object: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.to_string().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "deployed_tests.rs"]
mod tests;
