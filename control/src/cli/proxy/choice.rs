//! Which pod is meant where a proxy is named.
//!
//! Pure: of what the API server lists, the instance that is to be asked, or why it cannot be told.

use serde_json::Value;

use super::part::Part;
use crate::cluster::escaped;
use crate::translate::labels::GATEWAY_NAME;
use crate::translate::waypoint::CLASSES;
use crate::waypoints::GATEWAY_CLASS;

/// How many of those that could be meant an error names.
const NAMED: usize = 10;

/// A kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NodeProxy,
    Waypoint,
}

impl Kind {
    /// The query that lists its pods.
    pub(super) fn selector(self) -> String {
        let labels = match self {
            Self::NodeProxy => "app.kubernetes.io/name=ztunnel".to_owned(),
            Self::Waypoint => format!("{GATEWAY_CLASS} in ({})", CLASSES.join(",")),
        };
        format!("?labelSelector={}", escaped(&labels))
    }

    /// What errors call it.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::NodeProxy => "node proxy",
            Self::Waypoint => "waypoint",
        }
    }

    /// How somebody names one of several.
    fn by(self) -> &'static str {
        match self {
            Self::NodeProxy => "name its pod, or its node with --node",
            Self::Waypoint => "name it",
        }
    }
}

/// What somebody names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// A pod; of waypoints also the waypoint itself, any instance of it.
    Named(&'a str),
    /// The node proxy of a node.
    OnNode(&'a str),
    /// The only one there is.
    Only,
}

/// A pod of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance {
    /// The pod.
    pub(super) name: String,
    /// What it is an instance of: a node has one proxy, but for moments; a waypoint several.
    of: String,
    state: State,
}

/// How a pod is, the best to ask first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ready,
    Running,
    /// It runs, and is to end.
    Ending,
    /// Nothing runs in it.
    Not(String),
}

impl Instance {
    /// The instance that a pod is.
    pub(super) fn read(kind: Kind, pod: &Value) -> Option<Self> {
        let metadata = &pod["metadata"];
        let of = match kind {
            Kind::NodeProxy => &pod["spec"]["nodeName"],
            Kind::Waypoint => &metadata["labels"][GATEWAY_NAME],
        };
        let status = &pod["status"];
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        let ready = conditions.any(|it| it["type"] == "Ready" && it["status"] == "True");
        let state = match status["phase"].as_str() {
            Some("Running") if !metadata["deletionTimestamp"].is_null() => State::Ending,
            Some("Running") if ready => State::Ready,
            Some("Running") => State::Running,
            phase => State::Not(phase.unwrap_or("Pending").to_owned()),
        };
        Some(Self {
            name: metadata["name"].as_str()?.to_owned(),
            of: of.as_str().unwrap_or_default().to_owned(),
            state,
        })
    }

    fn runs(&self) -> bool {
        !matches!(self.state, State::Not(_))
    }

    fn stays(&self) -> bool {
        self.state <= State::Running
    }
}

/// Why no pod is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unclear {
    /// None of them has this name.
    Unknown(String),
    /// What to say of it.
    Said(String),
}

/// The pod to ask for `part`.
///
/// # Errors
/// None is meant, several could be, or nothing runs in it.
pub(super) fn choose<'a>(
    kind: Kind,
    wanted: Wanted<'_>,
    part: Part,
    instances: &'a [Instance],
) -> Result<&'a Instance, Unclear> {
    let noun = kind.noun();
    let mut meant: Vec<&Instance> = match wanted {
        Wanted::Named(name) => match instances.iter().find(|it| it.name == name) {
            Some(pod) => vec![pod],
            None if kind == Kind::Waypoint => all_of(instances, name),
            None => Vec::new(),
        },
        Wanted::OnNode(node) => all_of(instances, node),
        Wanted::Only => instances.iter().filter(|it| it.stays()).collect(),
    };
    meant.sort_by(|a, b| (&a.state, &a.name).cmp(&(&b.state, &b.name)));
    let Some(best) = meant.first() else {
        return Err(match wanted {
            Wanted::Named(name) => Unclear::Unknown(name.to_owned()),
            Wanted::OnNode(node) => Unclear::Said(format!(
                "node {node} has no {noun}; {}",
                there(kind, instances.iter())
            )),
            Wanted::Only => Unclear::Said(format!("no {noun} runs there")),
        });
    };
    if let State::Not(phase) = &best.state {
        let name = &best.name;
        let said = format!("nothing runs in pod {name}, which is {phase}");
        return Err(Unclear::Said(said));
    }
    let several = || {
        let there = there(kind, meant.iter().copied());
        format!("there is more than one {noun} ({}): {there}", kind.by())
    };
    if meant.iter().any(|it| it.of != best.of) {
        return Err(Unclear::Said(several()));
    }
    let serving = meant.iter().filter(|it| it.runs()).count();
    if kind == Kind::Waypoint && part.is_of_one_instance() && serving > 1 {
        let pods: Vec<&str> = meant.iter().map(|it| it.name.as_str()).collect();
        let said = format!(
            "each instance of {} has its own connections: name one of {}",
            best.of,
            listed(pods)
        );
        return Err(Unclear::Said(said));
    }
    Ok(best)
}

fn all_of<'a>(instances: &'a [Instance], of: &str) -> Vec<&'a Instance> {
    instances.iter().filter(|it| it.of == of).collect()
}

/// What there is, by the names that choose it.
pub(super) fn there<'a>(kind: Kind, instances: impl Iterator<Item = &'a Instance>) -> String {
    let mut names: Vec<String> = instances
        .map(|it| match kind {
            Kind::NodeProxy => format!("{} on {}", it.name, it.of),
            Kind::Waypoint => it.of.clone(),
        })
        .collect();
    names.sort();
    names.dedup();
    match names.is_empty() {
        true => "there is none".to_owned(),
        false => format!(
            "there is {}",
            listed(names.iter().map(String::as_str).collect())
        ),
    }
}

fn listed(names: Vec<&str>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let shown = names[..names.len() - more].join(", ");
    match more {
        0 => shown,
        _ => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
