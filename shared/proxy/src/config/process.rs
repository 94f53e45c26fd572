//! The process itself: its end, its own servers, its log.

use std::time::Duration;

use serde::Serialize;

use super::reader::Reader;
use super::value::{self, Filter, Listen};

/// The end of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Connections may go on for this long after the process was told to end, or after their pod
    /// was removed.
    #[serde(serialize_with = "value::duration")]
    pub grace: Duration,
}

impl Drain {
    /// Reads it from an environment.
    pub fn read(reader: &mut Reader) -> Self {
        let explicit: Option<Duration> = reader.optional(
            "CONNECTION_TERMINATION_DEADLINE",
            "time connections have to end before the process does",
        );
        let kubernetes: Option<u32> = reader.optional(
            "TERMINATION_GRACE_PERIOD_SECONDS",
            "the pod's grace period, from which that time is taken when it is not set",
        );
        // A few seconds are kept back to end what remains in order before SIGKILL.
        let within = |seconds: u32| match seconds {
            0..=2 => 1,
            3..=10 => seconds - 1,
            _ => seconds - 5,
        };
        let grace = explicit.or(kubernetes.map(|s| Duration::from_secs(within(s).into())));
        Self {
            grace: grace.unwrap_or(Duration::from_secs(5)),
        }
    }
}

/// Admin, metrics and readiness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Servers {
    /// Operators; never open this to others.
    pub admin: Listen,
    /// Metrics.
    pub stats: Listen,
    /// Readiness.
    pub readiness: Listen,
}

impl Servers {
    /// Reads it from an environment.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            admin: reader.value(
                "ADMIN_ADDR",
                "where operators ask and change things",
                Listen::localhost(15000),
            ),
            stats: reader.value("STATS_ADDR", "where metrics are read", Listen::any(15020)),
            readiness: reader.value(
                "READINESS_ADDR",
                "where readiness is probed",
                Listen::any(15021),
            ),
        }
    }
}

/// Log lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// How they look.
    pub format: ambit_telemetry::log::Format,
    /// Which are written.
    pub filter: Filter,
}

impl Log {
    /// Reads them.
    pub fn read(reader: &mut Reader) -> Self {
        use ambit_telemetry::log::Format;
        Self {
            format: reader.value("LOG_FORMAT", "how log lines look", Format::Plain),
            filter: reader.value(
                "RUST_LOG",
                "which log lines are written: LEVEL or TARGET=LEVEL, separated by commas",
                Filter("info".to_owned()),
            ),
        }
    }
}
