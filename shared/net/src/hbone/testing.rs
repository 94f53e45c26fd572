//! Lives of a pool, and errors of every kind.

use super::{Error, Stage};

pub use super::pool::live;

/// An error at this stage, because of that.
#[must_use]
pub fn error(stage: Stage, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(stage, source)
}
