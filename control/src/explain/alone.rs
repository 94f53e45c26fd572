//! What annotations of pods leave to no proxy: connections that go past them, in plain text.

use ambit_core::authz;
use ambit_core::exclusions::{Exclusions, ExclusionsError};
use ambit_core::model::Workload;
use ambit_core::plan::{Passthrough, Transport, plan_passthrough};

use super::callers::is_pod;
use super::{CALLER, ENDPOINT, Steps, Walk};
use crate::index::Index;
use crate::translate::labels::annotation;

/// What the annotations of a workload's pod leave alone.
fn of(index: &Index, workload: &Workload) -> Result<Exclusions, ExclusionsError> {
    let (namespace, name) = (&workload.namespace, &workload.name);
    let pod = index.objects().pods.find(namespace, name);
    let pod = pod.filter(|_| is_pod(workload));
    Exclusions::read(|wanted| annotation(&pod?.metadata, wanted))
}

impl Walk<'_> {
    /// Whether the connection goes past all that the caller's node proxy and a waypoint would decide; then, whether it reaches
    /// the application all the same.
    pub(super) fn past_the_caller(&self, source: &Workload, steps: &mut Steps) -> Option<bool> {
        self.service.vips.first()?;
        let annotation = match of(self.index, source) {
            Ok(exclusions) => exclusions.of_outbound(self.dialled())?,
            Err(error) => {
                steps.say(CALLER, format_args!("captures everything: {error}"));
                return None;
            }
        };
        let (namespace, name) = (&source.namespace, &source.name);
        steps.say(
            CALLER,
            format_args!(
                "does not see it: {annotation} of pod {namespace}/{name} leaves {} alone",
                self.dialled()
            ),
        );
        Some(self.arrives_in_plain_text(steps))
    }

    /// Whether plain text of a pod reaches the application.
    pub(super) fn arrives_in_plain_text(&self, steps: &mut Steps) -> bool {
        let (service, port) = (self.service, self.question.port);
        let Some((workload, destination)) = self.judging(service, port, steps) else {
            return true;
        };
        if self.says_open(workload, destination.port(), steps) {
            return true;
        }
        let peer_addr = self.source_addr();
        let passthrough = Passthrough {
            local: workload,
            peer_addr,
            destination,
            transport: Transport::Tcp,
        };
        let allowed = match plan_passthrough(self.mesh, &passthrough) {
            Ok(plan) => {
                let verdict = authz::authorize(self.mesh, workload, &plan.facts(None, peer_addr));
                let (namespace, name) = (&workload.namespace, &workload.name);
                let at = destination.port();
                steps.say(
                    ENDPOINT,
                    format_args!("{verdict} ({namespace}/{name} port {at}, in plain text)"),
                );
                self.says_strict(workload, &verdict, steps);
                verdict.allowed
            }
            Err(refusal) => {
                steps.say(ENDPOINT, refusal);
                false
            }
        };
        self.says_others(service, port, steps);
        allowed
    }

    /// Whether anybody reaches this port in plain text; said if it is so.
    pub(super) fn says_open(&self, workload: &Workload, port: u16, steps: &mut Steps) -> bool {
        let (namespace, name) = (&workload.namespace, &workload.name);
        match of(self.index, workload).map(|exclusions| exclusions.of_inbound(port)) {
            Ok(Some(annotation)) => {
                steps.say(
                    ENDPOINT,
                    format_args!(
                        "does not see plain text to port {port}: {annotation} of pod {namespace}/{name} lets anybody in"
                    ),
                );
                true
            }
            Ok(None) => false,
            Err(error) => {
                steps.say(ENDPOINT, format_args!("captures everything: {error}"));
                false
            }
        }
    }
}
