//! How the endpoints of a service are chosen and protected: DestinationRule and
//! XBackendTrafficPolicy, brought together for each Service, and the Service's own `sessionAffinity`, which holds
//! unless a DestinationRule says how to balance.
//!
//! Of several objects for a service the oldest counts, one of the service's namespace before one of the
//! root namespace. What of a DestinationRule has no effect is said.

mod settings;

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_http::model::traffic::{Balance, Limits, RetryBudget};
use ambit_http::model::{Resource, TrafficPolicy};
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::reference::port_of;
use super::route::created;
use super::service;
use super::status::{CONTROLLER, fails, holds};
use super::values;
use super::view::{Outcome, View};
use crate::source::gateway::{PolicyTarget, XBackendTrafficPolicy};
use crate::source::networking::DestinationRule;
use settings::{Notes, settings};

/// The traffic policies of a Service: for all its ports, and for those with settings of their own.
#[must_use]
pub fn of_service(
    namespace: &str,
    name: &str,
    service: &Service,
    view: &View<'_>,
) -> Vec<Resource> {
    let rule = rule_for(namespace, name, view);
    let budget = budget_for(namespace, name, view);
    let balance = match service::keeps_clients(service) {
        true => Balance::ClientAffinity,
        false => Balance::default(),
    };
    if rule.is_none() && budget.is_none() && balance == Balance::default() {
        return Vec::new();
    }
    let budget = budget
        .and_then(|policy| retry_budget(policy).ok())
        .unwrap_or_default();
    let base = TrafficPolicy {
        key: NamespacedName::new(namespace, name),
        service: view.service_key(namespace, name),
        port: None,
        balance: balance.clone(),
        slow_start: None,
        outlier: None,
        limits: Limits::default(),
        retry_budget: budget,
    };
    let mut ignored = Notes::default();
    let whole = rule.and_then(|rule| rule.spec.traffic_policy.as_ref());
    let all = match whole {
        Some(policy) => settings(policy, &base, "", &mut ignored),
        None => base,
    };
    let mut found = vec![Resource::Traffic(Arc::new(all.clone()))];
    for policy in whole.iter().flat_map(|policy| &policy.port_level_settings) {
        let number = policy.port.as_ref().map_or(0, |port| port.number);
        let Some(port) = i32::try_from(number)
            .ok()
            .and_then(|port| port_of(service, port))
        else {
            continue;
        };
        // Settings of a port do not inherit those of the destination.
        let mut fresh = TrafficPolicy {
            balance: balance.clone(),
            slow_start: None,
            outlier: None,
            limits: Limits::default(),
            ..all.clone()
        };
        fresh.key = NamespacedName::new(namespace, format!("{name}:{port}"));
        fresh.port = Some(port);
        let resource = settings(policy, &fresh, "", &mut ignored);
        found.push(Resource::Traffic(Arc::new(resource)));
    }
    found
}

/// What is wrong with a DestinationRule, and what of it has no effect.
#[must_use]
pub fn destination_rule(
    namespace: &str,
    name: &str,
    rule: &DestinationRule,
    view: &View<'_>,
) -> Outcome {
    let mut notes = Notes::default();
    let spec = &rule.spec;
    for (field, there) in [
        ("subsets", spec.subsets.is_some()),
        ("exportTo", spec.export_to.is_some()),
        ("workloadSelector", spec.workload_selector.is_some()),
    ] {
        notes.unless(!there, format!("spec.{field}"));
    }
    match host_of(namespace, &spec.host, view) {
        None => notes.problems.push(format!(
            "spec.host: {:?} is not the name of a Service; the rule has no effect",
            spec.host
        )),
        Some((of, _)) if of != namespace && namespace != &*view.mesh.root_namespace => {
            notes.problems.push(format!(
                "spec.host: rules for Services of {of} are in that namespace or in {}; the rule has no effect",
                view.mesh.root_namespace
            ));
        }
        Some((of, service)) => {
            let used = rule_for(&of, &service, view);
            if !used.is_some_and(|used| std::ptr::eq(&**used, rule)) {
                let what = format!("another DestinationRule for Service {of}/{service} is older");
                notes.problems.push(format!("{what}; {name} has no effect"));
            }
        }
    }
    let base = TrafficPolicy {
        key: NamespacedName::new(namespace, name),
        service: NamespacedName::new(namespace, name),
        port: None,
        balance: Balance::default(),
        slow_start: None,
        outlier: None,
        limits: Limits::default(),
        retry_budget: RetryBudget::default(),
    };
    if let Some(policy) = &spec.traffic_policy {
        settings(policy, &base, "spec.trafficPolicy.", &mut notes);
        for (at, policy) in policy.port_level_settings.iter().enumerate() {
            let field = format!("spec.trafficPolicy.portLevelSettings[{at}].");
            settings(policy, &base, &field, &mut notes);
        }
    }
    Outcome {
        problems: notes.problems,
        notices: notes.notices,
        ..Outcome::default()
    }
}

/// The status of an XBackendTrafficPolicy.
#[must_use]
pub fn backend_policy(
    namespace: &str,
    name: &str,
    policy: &XBackendTrafficPolicy,
    view: &View<'_>,
) -> Outcome {
    let mut outcome = Outcome::default();
    if policy.spec.session_persistence.is_some() {
        outcome
            .notices
            .push("spec.sessionPersistence has no effect".to_owned());
    }
    let metadata = &policy.metadata;
    let valid = retry_budget(policy);
    let mut ancestors = Vec::new();
    for target in &policy.spec.target_refs {
        let service = view.find::<Service>(namespace, &target.name);
        let used = budget_for(namespace, &target.name, view);
        let accepted = match &valid {
            Err(error) => Err(("Invalid", error.clone())),
            Ok(_) if !is_service(target) => {
                let what = format!("{} is not a Service", target.name);
                Err(("TargetNotFound", what))
            }
            Ok(_) if service.is_none() => {
                let what = format!("Service {namespace}/{} does not exist", target.name);
                Err(("TargetNotFound", what))
            }
            Ok(_) if !used.is_some_and(|used| std::ptr::eq(&**used, policy)) => {
                let what = format!(
                    "another policy for Service {namespace}/{} is older",
                    target.name
                );
                Err(("Conflicted", what))
            }
            Ok(_) => Ok(()),
        };
        let condition = match accepted {
            Ok(()) => holds(metadata, "Accepted", "Accepted", "the policy is in force"),
            Err((reason, message)) => {
                outcome
                    .problems
                    .push(format!("{message}; {name} has no effect there"));
                fails(metadata, "Accepted", reason, &message)
            }
        };
        ancestors.push(json!({
            "ancestorRef": {"group": "", "kind": "Service", "namespace": namespace, "name": target.name},
            "controllerName": CONTROLLER,
            "conditions": [condition],
        }));
    }
    outcome.status = Some(json!({ "ancestors": ancestors }));
    outcome
}

/// Whether a policy's target is a Service.
pub(super) fn is_service(target: &PolicyTarget) -> bool {
    matches!(target.group.as_str(), "" | "core") && target.kind == "Service"
}

/// `NAME`, or `NAME.NAMESPACE`, with or without `.svc` and the domain.
fn host_of(namespace: &str, host: &str, view: &View<'_>) -> Option<(String, String)> {
    if host.is_empty() || host.contains('*') {
        return None;
    }
    let Some((name, rest)) = host.split_once('.') else {
        return Some((namespace.to_owned(), host.to_owned()));
    };
    let (of, suffix) = rest.split_once('.').unwrap_or((rest, "svc"));
    let full = format!("svc.{}", view.mesh.cluster_domain);
    (suffix == "svc" || suffix == full).then(|| (of.to_owned(), name.to_owned()))
}

fn rule_for<'a>(namespace: &str, name: &str, view: &View<'a>) -> Option<&'a Arc<DestinationRule>> {
    let root = view.mesh.root_namespace.clone();
    let mut places = vec![namespace];
    if namespace != &*root {
        places.push(&root);
    }
    places.into_iter().find_map(|place| {
        let meant = view.within::<DestinationRule>(place).filter(|(_, rule)| {
            host_of(place, &rule.spec.host, view)
                .is_some_and(|(of, service)| of == namespace && service == name)
        });
        let oldest = meant.min_by_key(|(name, rule)| (created(&rule.metadata), (*name).clone()));
        oldest.map(|(_, rule)| rule)
    })
}

fn budget_for<'a>(
    namespace: &str,
    name: &str,
    view: &View<'a>,
) -> Option<&'a Arc<XBackendTrafficPolicy>> {
    let meant = view
        .within::<XBackendTrafficPolicy>(namespace)
        .filter(|(_, policy)| {
            let mut targets = policy.spec.target_refs.iter();
            targets.any(|target| is_service(target) && target.name == name)
        });
    let oldest = meant.min_by_key(|(name, policy)| (created(&policy.metadata), (*name).clone()));
    oldest.map(|(_, policy)| policy)
}

fn retry_budget(policy: &XBackendTrafficPolicy) -> Result<RetryBudget, String> {
    let mut found = RetryBudget::default();
    let Some(constraint) = &policy.spec.retry_constraint else {
        return Ok(found);
    };
    if let Some(budget) = &constraint.budget {
        if let Some(percent) = budget.percent {
            found.percent = u32::try_from(percent)
                .ok()
                .filter(|percent| *percent <= 100)
                .ok_or_else(|| {
                    format!("retryConstraint.budget.percent: {percent} is not 0 to 100")
                })?;
        }
        if let Some(interval) = &budget.interval {
            found.interval = values::duration(interval)
                .map_err(|error| format!("retryConstraint.budget.interval: {error}"))?;
        }
    }
    if let Some(rate) = &constraint.min_retry_rate {
        let count = rate.count.unwrap_or(10);
        let interval = values::duration(rate.interval.as_deref().unwrap_or("1s"))
            .map_err(|error| format!("retryConstraint.minRetryRate.interval: {error}"))?;
        let wrong = || format!("retryConstraint.minRetryRate: {count} in {interval:?} is no rate");
        let count = u128::try_from(count).map_err(|_| wrong())?;
        let a_second = (count * 1000)
            .checked_div(interval.as_millis())
            .ok_or_else(wrong)?;
        found.min_per_second = u32::try_from(a_second).map_err(|_| wrong())?;
    }
    Ok(found)
}

#[cfg(test)]
#[path = "../traffic_tests.rs"]
mod tests;
