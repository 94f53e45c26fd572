//! A pod's status from what is known of its sandbox and containers.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    ContainerState as KubeState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::now;

/// How a container is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    Waiting {
        reason: String,
        message: Option<String>,
    },
    Running {
        since: Time,
    },
    Ended {
        code: i32,
        since: Time,
        at: Time,
    },
}

/// What is known of one container.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) state: State,
    pub(super) last: Option<State>,
    pub(super) restarts: i32,
    pub(super) ready: bool,
    /// It will not be started again.
    pub(super) finished: bool,
}

impl Known {
    pub(super) fn new(name: &str, image: Option<&str>) -> Self {
        let reason = "ContainerCreating".to_owned();
        Self {
            name: name.to_owned(),
            image: image.unwrap_or_default().to_owned(),
            state: State::Waiting {
                reason,
                message: None,
            },
            last: None,
            restarts: 0,
            ready: false,
            finished: false,
        }
    }

    fn succeeded(&self) -> bool {
        self.finished && matches!(self.state, State::Ended { code: 0, .. })
    }

    fn status(&self) -> ContainerStatus {
        ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: String::new(),
            ready: self.ready,
            restart_count: self.restarts,
            started: Some(matches!(self.state, State::Running { .. })),
            state: Some(kube_state(&self.state)),
            last_state: self.last.as_ref().map(kube_state),
            ..ContainerStatus::default()
        }
    }
}

fn kube_state(state: &State) -> KubeState {
    let mut kube = KubeState::default();
    match state {
        State::Waiting { reason, message } => {
            kube.waiting = Some(ContainerStateWaiting {
                reason: Some(reason.clone()),
                message: message.clone(),
            });
        }
        State::Running { since } => {
            kube.running = Some(ContainerStateRunning {
                started_at: Some(since.clone()),
            });
        }
        State::Ended { code, since, at } => {
            let reason = if *code == 0 { "Completed" } else { "Error" };
            kube.terminated = Some(ContainerStateTerminated {
                exit_code: *code,
                reason: Some(reason.to_owned()),
                started_at: Some(since.clone()),
                finished_at: Some(at.clone()),
                ..ContainerStateTerminated::default()
            });
        }
    }
    kube
}

/// Everything a status is made of.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) addresses: Option<[IpAddr; 2]>,
    pub(super) host: [IpAddr; 2],
    pub(super) init: &'a [Known],
    pub(super) main: &'a [Known],
    pub(super) ending: bool,
    /// Why the sandbox is not there yet.
    pub(super) trouble: Option<&'a str>,
    pub(super) started: &'a Time,
}

/// The status; `previous` keeps the times of conditions that did not change.
pub(super) fn status(facts: &Facts<'_>, previous: Option<&PodStatus>) -> PodStatus {
    let initialized = facts.init.iter().all(Known::succeeded);
    let all_ready = facts.main.iter().all(|known| known.ready);
    let phase = phase(facts);
    let done = phase == "Succeeded";
    let kept = previous
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let condition = |kind: &str, holds: bool, reason: Option<&str>| {
        let status = if holds { "True" } else { "False" };
        let old = kept
            .iter()
            .find(|old| old.type_ == kind && old.status == status);
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.filter(|_| !holds).map(str::to_owned),
            message: facts.trouble.filter(|_| !holds).map(str::to_owned),
            last_transition_time: Some(
                old.and_then(|old| old.last_transition_time.clone())
                    .unwrap_or_else(now),
            ),
            ..PodCondition::default()
        }
    };
    let unready = if done {
        "PodCompleted"
    } else {
        "ContainersNotReady"
    };
    let ready = all_ready && initialized && !facts.ending && facts.addresses.is_some();
    let ips = |addresses: [IpAddr; 2]| addresses.map(|ip| ip.to_string());
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(vec![
            condition("PodReadyToStartContainers", facts.addresses.is_some(), None),
            condition("Initialized", initialized, Some("ContainersNotInitialized")),
            condition("Ready", ready, Some(unready)),
            condition("ContainersReady", all_ready, Some(unready)),
            condition("PodScheduled", true, None),
        ]),
        reason: facts.trouble.map(|_| "FailedCreatePodSandBox".to_owned()),
        message: facts.trouble.map(str::to_owned),
        host_ip: Some(facts.host[0].to_string()),
        host_ips: Some(
            ips(facts.host)
                .into_iter()
                .map(|ip| HostIP { ip })
                .collect(),
        ),
        pod_ip: facts.addresses.map(|addresses| addresses[0].to_string()),
        pod_ips: facts
            .addresses
            .map(|it| ips(it).into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: Some(facts.started.clone()),
        qos_class: Some("BestEffort".to_owned()),
        init_container_statuses: statuses(facts.init),
        container_statuses: statuses(facts.main),
        ..PodStatus::default()
    }
}

fn statuses(known: &[Known]) -> Option<Vec<ContainerStatus>> {
    (!known.is_empty()).then(|| known.iter().map(Known::status).collect())
}

fn phase(facts: &Facts<'_>) -> &'static str {
    let failed = |known: &Known| known.finished && !known.succeeded();
    if facts.init.iter().any(failed) {
        return "Failed";
    }
    if !facts.main.is_empty() && facts.main.iter().all(|known| known.finished) {
        return if facts.main.iter().any(failed) {
            "Failed"
        } else {
            "Succeeded"
        };
    }
    let began = |known: &Known| !matches!(known.state, State::Waiting { .. }) || known.restarts > 0;
    if facts.main.iter().all(began) {
        "Running"
    } else {
        "Pending"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(state: State, ready: bool, finished: bool) -> Known {
        Known {
            state,
            ready,
            finished,
            ..Known::new("c", None)
        }
    }

    #[test]
    fn phases_and_readiness() {
        let running = || State::Running { since: now() };
        let ended = |code| State::Ended {
            code,
            since: now(),
            at: now(),
        };
        let waiting = || Known::new("c", None).state;
        for (name, state, ready, finished, ending, phase, is_ready) in [
            (
                "created",
                waiting(),
                false,
                false,
                false,
                "Pending",
                "False",
            ),
            (
                "starting",
                running(),
                false,
                false,
                false,
                "Running",
                "False",
            ),
            ("serving", running(), true, false, false, "Running", "True"),
            ("ending", running(), true, false, true, "Running", "False"),
            ("done", ended(0), false, true, false, "Succeeded", "False"),
            ("failed", ended(3), false, true, false, "Failed", "False"),
            (
                "between restarts",
                ended(3),
                false,
                false,
                false,
                "Running",
                "False",
            ),
        ] {
            let main = [known(state, ready, finished)];
            let address = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([0u16; 8])];
            let facts = Facts {
                addresses: Some(address),
                host: address,
                init: &[],
                main: &main,
                ending,
                trouble: None,
                started: &now(),
            };
            let status = status(&facts, None);
            assert_eq!(status.phase.as_deref(), Some(phase), "{name}");
            let conditions = status.conditions.expect("conditions");
            let found = conditions
                .iter()
                .find(|it| it.type_ == "Ready")
                .expect("Ready");
            assert_eq!(found.status, is_ready, "{name}");
        }
    }
}
