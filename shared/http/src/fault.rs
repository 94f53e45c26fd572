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
