//! From what comes of a request on each way to the decision.

use super::{Decision, Steps};

/// What comes of a request on one way of one caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A proxy answers it.
    Refused,
    /// Everybody on the way lets it pass.
    Passes,
    /// Those that were asked let it pass.
    NotAsked,
}

impl Steps {
    /// The outcome of the way whose steps were said last.
    pub(super) fn outcome(&mut self, passes: bool) -> Outcome {
        match (passes, std::mem::take(&mut self.missing)) {
            (false, _) => Outcome::Refused,
            (true, false) => Outcome::Passes,
            (true, true) => Outcome::NotAsked,
        }
    }
}

/// The decision from the outcomes of each caller's ways.
pub(super) fn decision(callers: &[Vec<Outcome>]) -> Decision {
    let any = |wanted| callers.iter().flatten().any(|it| *it == wanted);
    let drawn = |of: &Vec<_>| of.contains(&Outcome::Refused) && of.contains(&Outcome::Passes);
    match [Outcome::Refused, Outcome::Passes, Outcome::NotAsked].map(any) {
        [true, true, _] if callers.iter().any(drawn) => Decision::Depends,
        [true, true, _] => Decision::DependsOnCaller,
        [_, _, true] => Decision::Undecided,
        [false, true, false] => Decision::Passes,
        [_, false, false] => Decision::Refused,
    }
}
