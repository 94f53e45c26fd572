//! Jobs: pods until enough of them succeeded.

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};

use super::pods;
use crate::api::{Key, Store, now, owner_reference, random_suffix};

const DEFAULT_BACKOFF_LIMIT: i32 = 6;

pub(super) fn reconcile(store: &mut Store) {
    let all: Vec<Job> = store.jobs.iter().map(|(_, it)| it.clone()).collect();
    for job in all {
        if let Some(spec) = &job.spec {
            adjust(store, &job, spec);
        }
    }
}

fn adjust(store: &mut Store, job: &Job, spec: &JobSpec) {
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    if conditions.is_some_and(|conditions| !conditions.is_empty()) {
        return;
    }
    let (mut active, mut succeeded, mut failed) = (0, 0, 0);
    for pod in pods::owned(store, &job.metadata) {
        match pods::phase(&pod) {
            "Succeeded" => succeeded += 1,
            "Failed" => failed += 1,
            _ if !pods::is_terminating(&pod) => active += 1,
            _ => {}
        }
    }
    let parallelism = spec.parallelism.unwrap_or(1);
    let completions = spec.completions.unwrap_or(1);
    let complete = succeeded >= completions;
    let hopeless = failed > spec.backoff_limit.unwrap_or(DEFAULT_BACKOFF_LIMIT);
    if !complete && !hopeless {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let missing = parallelism.min(completions - succeeded) - active;
        for _ in 0..missing.max(0) {
            let owner = owner_reference("batch/v1", "Job", &job.metadata);
            let pod_name = format!("{name}-{}", random_suffix(5));
            let labels = [("batch.kubernetes.io/job-name", name), ("job-name", name)];
            let pod = pods::from_template(&pod_name, namespace, &spec.template, owner, &labels);
            store.pods.put(pod);
            active += 1;
        }
    }
    let end = match (complete, hopeless) {
        (true, _) => Some("Complete"),
        (_, true) => Some("Failed"),
        _ => None,
    };
    store.jobs.update(&Key::of(&job.metadata), |job| {
        job.status = Some(JobStatus {
            active: Some(active),
            succeeded: Some(succeeded),
            failed: Some(failed),
            conditions: end.map(|type_| {
                vec![JobCondition {
                    type_: type_.to_owned(),
                    status: "True".to_owned(),
                    last_transition_time: Some(now()),
                    ..JobCondition::default()
                }]
            }),
            ..JobStatus::default()
        });
    });
}
