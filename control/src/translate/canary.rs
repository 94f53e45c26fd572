//! The canary of a waypoint (Istio 1.31): a second one beside it, and the share of new connections that it takes.
//!
//! A canary is an experiment. Whatever is wrong with it, the service stays bound to its waypoint, which then takes all
//! connections. One that is bound takes what comes through it also while its share is nothing, so that a canary that is
//! called back ends what it has in order.

use std::fmt;

use ambit_core::addr::NamespacedName;
use ambit_core::model::{GatewayAddress, WeightedWaypoint};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Mesh;
use super::labels::{
    USE_WAYPOINT, USE_WAYPOINT_CANARY, USE_WAYPOINT_CANARY_NAMESPACE, USE_WAYPOINT_CANARY_WEIGHT,
    annotation, label,
};
use super::view::View;
use super::waypoint::{self, Reference, Serves};
use crate::index::objects::Objects;
use crate::source::gateway::Gateway;

/// A whole, of which a weight is a part.
const ALL: u32 = 100;

/// The canary that labels ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// `namespace/name` of the Gateway.
    pub waypoint: NamespacedName,
    /// Its share of new connections, 0 to 100.
    pub weight: u32,
    /// What is wrong.
    pub wrong: Option<Wrong>,
}

/// Why all new connections take the waypoint that the service is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// The service is bound to no waypoint that there could be a canary of.
    NoWaypoint,
    /// It is the waypoint that the service is bound to.
    TheSame,
    /// Neither the Gateway nor its Service is there.
    Missing,
    /// It is no waypoint of services.
    NotForServices,
    /// It may not be used.
    Refused(String),
    /// This is no weight.
    Weight(String),
}

impl Canary {
    /// Whether it takes calls.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        matches!(self.wrong, None | Some(Wrong::Weight(_)))
    }

    /// What is wrong, and what holds instead; in one word for a condition, and for a reader.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let of = &self.waypoint;
        let alone = "all new connections take the waypoint of the label istio.io/use-waypoint";
        let (reason, why) = match self.wrong.as_ref()? {
            Wrong::NoWaypoint => {
                let why = format!(
                    "label {USE_WAYPOINT_CANARY} has no effect: there is no waypoint beside it, see {USE_WAYPOINT}"
                );
                return Some(("NoWaypoint", why));
            }
            Wrong::TheSame => (
                "CanaryIsWaypoint",
                format!("the canary {of} is the waypoint itself"),
            ),
            Wrong::Missing => (
                "WaypointMissing",
                format!("the canary, Gateway {of}, does not exist"),
            ),
            Wrong::NotForServices => (
                "UnsupportedTrafficType",
                format!(
                    "the canary {of} does not serve services: see its label istio.io/waypoint-for"
                ),
            ),
            Wrong::Refused(why) => ("WaypointNotAllowed", format!("the canary: {why}")),
            Wrong::Weight(text) => (
                "InvalidWeight",
                format!(
                    "annotation {USE_WAYPOINT_CANARY_WEIGHT} of canary {of} is {text:?}, and not an integer from 0 to 100"
                ),
            ),
        };
        Some((reason, format!("{why}; {alone}")))
    }
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of, weight) = (&self.waypoint, self.weight);
        write!(f, "canary {of} takes {weight} % of new connections")
    }
}

/// The waypoints that share the new connections of a Service or a ServiceEntry that is bound to `primary`; none when
/// that one takes them all.
#[must_use]
pub fn weighted(
    namespace: &str,
    metadata: &ObjectMeta,
    primary: Option<&GatewayAddress>,
    objects: &Objects,
    mesh: &Mesh,
) -> Vec<WeightedWaypoint> {
    let canary = of_service(namespace, metadata, objects).filter(Canary::is_bound);
    let (Some(primary), Some(canary)) = (primary, canary) else {
        return Vec::new();
    };
    let Canary {
        waypoint, weight, ..
    } = canary;
    let weighted = |waypoint, weight| WeightedWaypoint { waypoint, weight };
    vec![
        weighted(primary.clone(), ALL - weight),
        weighted(waypoint::address(&waypoint, mesh), weight),
    ]
}

/// The canary of a Service or a ServiceEntry as statuses tell it.
#[must_use]
pub fn seen(namespace: &str, metadata: &ObjectMeta, view: &View<'_>) -> Option<Canary> {
    let canary = of_service(namespace, metadata, view.objects)?;
    let Reference { namespace, name } = &canary.waypoint;
    view.find::<Gateway>(namespace, name);
    view.find::<Service>(namespace, name);
    Some(canary)
}

/// The canary of a Service or a ServiceEntry. That of its namespace holds for what has its waypoint from there, too; so does the
/// weight.
#[must_use]
pub fn of_service(namespace: &str, metadata: &ObjectMeta, objects: &Objects) -> Option<Canary> {
    let inherited = waypoint::inherits(metadata)
        .then(|| objects.namespaces.find("", namespace))
        .flatten();
    let levels = || std::iter::once(metadata).chain(inherited.map(|it| &it.metadata));
    let said = levels().find(|it| label(it, USE_WAYPOINT_CANARY).is_some())?;
    let name = label(said, USE_WAYPOINT_CANARY).filter(|name| !matches!(*name, "" | "none"))?;
    let of = label(said, USE_WAYPOINT_CANARY_NAMESPACE).unwrap_or(namespace);
    let waypoint = Reference::new(of, name);
    let text = levels().find_map(|it| annotation(it, USE_WAYPOINT_CANARY_WEIGHT));
    let weight = text.map_or(Some(0), |text| {
        text.parse().ok().filter(|weight| *weight <= ALL)
    });
    let bound_to = waypoint::named_by(namespace, metadata, objects);
    let wrong = match (bound_to, waypoint::serves(&waypoint, namespace, objects)) {
        (None, _) => Some(Wrong::NoWaypoint),
        (Some(primary), _) if primary == waypoint => Some(Wrong::TheSame),
        (_, Serves::Unknown) => Some(Wrong::Missing),
        (_, Serves::Refused(why)) => Some(Wrong::Refused(why)),
        (_, Serves::Known { services, .. }) if !services => Some(Wrong::NotForServices),
        _ if weight.is_none() => Some(Wrong::Weight(text.unwrap_or_default().to_owned())),
        _ => None,
    };
    Some(Canary {
        waypoint,
        weight: weight.unwrap_or_default(),
        wrong,
    })
}

#[cfg(test)]
#[path = "canary_tests.rs"]
mod tests;
