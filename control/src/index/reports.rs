//! What authors of objects are told: what is wrong with them, and what they may not expect.

use ambit_core::addr::NamespacedName;

use super::{Index, key_of};
use crate::source::{Kind, Problem};
use crate::translate::PolicyOutcome;
use crate::translate::view::Outcome;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) problems: Vec<String>,
    pub(super) notices: Vec<String>,
}

impl Index {
    /// Keeps what a policy's author should know.
    pub(super) fn report(
        &mut self,
        kind: Kind,
        name: &NamespacedName,
        outcome: Option<PolicyOutcome>,
    ) -> PolicyOutcome {
        let outcome = outcome.unwrap_or_default();
        let report = Report {
            problems: outcome.problems.clone(),
            notices: outcome.notices.clone(),
        };
        self.set_report(kind, name, report);
        outcome
    }

    pub(super) fn accept<T>(
        &mut self,
        kind: Kind,
        name: &NamespacedName,
        result: Option<Result<T, String>>,
    ) -> Option<T> {
        let (value, problems) = match result {
            Some(Ok(value)) => (Some(value), Vec::new()),
            Some(Err(error)) => (None, vec![error]),
            None => (None, Vec::new()),
        };
        let report = Report {
            problems,
            notices: Vec::new(),
        };
        self.set_report(kind, name, report);
        value
    }

    pub(super) fn set_report(&mut self, kind: Kind, name: &NamespacedName, report: Report) {
        let key = key_of(kind, name);
        if report == Report::default() {
            self.reports.remove(&key);
        } else {
            self.reports.insert(key, report);
        }
    }

    /// What is wrong with objects that could be read.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.reported(|report| &report.problems, |outcome| &outcome.problems)
    }

    /// What authors of objects may not expect.
    #[must_use]
    pub fn notices(&self) -> Vec<Problem> {
        self.reported(|report| &report.notices, |outcome| &outcome.notices)
    }

    fn reported(
        &self,
        of: impl Fn(&Report) -> &Vec<String>,
        and: impl Fn(&Outcome) -> &Vec<String>,
    ) -> Vec<Problem> {
        let mut found = Vec::new();
        let reports = self.reports.iter().map(|(key, report)| (key, of(report)));
        let outcomes = self.attached.outcomes();
        for (key, texts) in reports.chain(outcomes.map(|(key, outcome)| (key, and(outcome)))) {
            found.extend(texts.iter().map(|error| Problem {
                origin: self.origins.get(key).cloned().unwrap_or_default(),
                object: key.to_string(),
                error: error.clone(),
            }));
        }
        found
    }
}
