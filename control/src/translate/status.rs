//! Conditions as Kubernetes has them. Pure: the time of a transition is for who writes them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

/// Who says what is in the statuses of Gateway API objects.
pub const CONTROLLER: &str = "ambit.dev/waypoint-controller";

/// A condition that holds.
#[must_use]
pub fn holds(of: &ObjectMeta, condition: &str, reason: &str, message: &str) -> Value {
    one(of, condition, "True", reason, message)
}

/// A condition that does not hold.
#[must_use]
pub fn fails(of: &ObjectMeta, condition: &str, reason: &str, message: &str) -> Value {
    one(of, condition, "False", reason, message)
}

fn one(of: &ObjectMeta, condition: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": condition,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": of.generation.unwrap_or_default(),
    })
}
