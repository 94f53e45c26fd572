//! Injected faults: a delay, an answer instead of the backend's.

use std::time::Duration;

use ambit_core::balance::Picker;

use crate::model::route::Fault;
use crate::refusal::{Flag, Refusal};

/// What one request suffers. The delay comes first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drawn {
    /// Wait before anything else is done.
    pub delay: Option<Duration>,
    /// Then answer this instead of asking a backend; a gRPC request gets its
    /// [`grpc_status`](Refusal::grpc_status).
    pub abort: Option<Refusal>,
}

/// Draws, each fault by itself.
pub fn draw(fault: &Fault, picker: &mut impl Picker) -> Drawn {
    let mut hit = |millionths: u32| picker.next(1_000_000) < millionths;
    let delay = fault.delay.filter(|(_, share)| hit(*share));
    let abort = fault.abort.filter(|(_, share)| hit(*share));
    Drawn {
        delay: delay.map(|(wait, _)| wait),
        abort: abort.map(|(status, _)| {
            Refusal::new(status, Flag::FaultInjected, "aborted by fault injection")
        }),
    }
}

#[cfg(test)]
mod tests {
    use ambit_core::balance::Seeded;

    use super::*;

    const WAIT: Duration = Duration::from_secs(2);

    #[test]
    fn shares_are_what_they_say() {
        let cases = [
            ("neither", None, None, (0, 0)),
            (
                "both always",
                Some(1_000_000),
                Some(1_000_000),
                (10_000, 10_000),
            ),
            ("both never", Some(0), Some(0), (0, 0)),
            (
                "a tenth, a half",
                Some(100_000),
                Some(500_000),
                (1_000, 5_000),
            ),
        ];
        for (case, delay, abort, (delays, aborts)) in cases {
            let fault = Fault {
                delay: delay.map(|share| (WAIT, share)),
                abort: abort.map(|share| (503, share)),
            };
            let mut picker = Seeded::new(1);
            let drawn: Vec<_> = (0..10_000).map(|_| draw(&fault, &mut picker)).collect();
            let near = |found: usize, wanted: usize| found.abs_diff(wanted) * 20 <= wanted;
            let delayed = drawn.iter().filter(|it| it.delay == Some(WAIT)).count();
            let aborted = drawn.iter().filter(|it| it.abort.is_some()).count();
            assert!(
                near(delayed, delays) && near(aborted, aborts),
                "{case}: {delayed} {aborted}"
            );
        }
    }

    #[test]
    fn aborts_are_answers_with_a_grpc_code() {
        let fault = Fault {
            delay: None,
            abort: Some((404, 1_000_000)),
        };
        let abort = draw(&fault, &mut ambit_core::balance::First)
            .abort
            .expect("always");
        assert_eq!((abort.status, abort.grpc_status()), (404, 12));
        assert_eq!(abort.flag.as_str(), "FI");
    }
}
