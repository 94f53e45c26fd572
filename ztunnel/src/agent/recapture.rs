//! Pods that are in the mesh and are to be captured otherwise than they are, and what is said of those whose annotations
//! do not read.

use std::io;

use super::enrolment::Enrolment;
use super::failing::{Complaint, Failing};
use super::pod::{Mark, Pod};
use super::records::Record;
use super::source::Source;

impl<S: Source> Enrolment<S> {
    /// Who is said to be captured is: an agent before this one may have begun to let the pod go.
    pub(super) async fn is_as_marked(&self, pod: &Pod, mark: Mark) -> bool {
        let _alone = self.locks.lock(&pod.full_name()).await;
        let Some(record) = self.records.by_uid(&pod.uid) else {
            return mark != Mark::Enabled;
        };
        if mark != Mark::Enabled {
            return true;
        }
        let captured = self.capture_again(&record).await;
        if let Err(error) = &captured {
            tracing::warn!(pod = pod.full_name(), %error, "a pod's redirection cannot be brought up to date");
        }
        captured.is_ok()
    }

    /// Something else of a pod is to be left alone, or its UDP captured or not any more. What it opens from now on goes by
    /// that, what is open goes on as it was.
    pub(super) async fn recapture(&self, pod: &Pod) -> bool {
        let name = pod.full_name();
        let _alone = self.locks.lock(&name).await;
        let Some(mut record) = self.records.by_uid(&pod.uid) else {
            return true;
        };
        // An agent that has to go on from here must find nothing open that is to be closed.
        record.exclusions = record.exclusions.common(&pod.exclusions);
        record.udp |= pod.udp;
        let captured = match self.records.insert(record.clone()) {
            Ok(()) => {
                record.exclusions = pod.exclusions.clone();
                record.udp = pod.udp;
                self.capture_again(&record).await
            }
            Err(error) => Err(error),
        };
        let captured = captured.and_then(|()| self.records.insert(record));
        match &captured {
            Ok(()) => {
                tracing::info!(pod = name, left_alone = ?pod.exclusions, udp = pod.udp, "a pod is captured otherwise")
            }
            Err(error) => {
                tracing::warn!(pod = name, %error, "how a pod is captured cannot be changed");
            }
        }
        captured.is_ok()
    }

    async fn capture_again(&self, record: &Record) -> io::Result<()> {
        let netns = record.open()?;
        let captured = self.capture(record, &netns).await;
        captured.map_err(io::Error::other)
    }

    /// Says of pods in the mesh that what they want to be left alone does not read.
    pub(super) async fn tell_unread(&self, pods: &[Pod], failing: &mut Failing) {
        let complaint = Complaint::InvalidAnnotation;
        for pod in pods {
            let Some(why) = &pod.unread else {
                failing.ends(&pod.uid, complaint);
                continue;
            };
            let is_in = self.records.by_uid(&pod.uid).is_some();
            if is_in {
                self.complain(pod, complaint, why, failing).await;
            }
        }
    }
}
