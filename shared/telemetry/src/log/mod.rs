//! Logging set-up: one line an event, plain or JSON, with a level that changes while running.
//!
//! Lines are written by a thread of their own, so that a slow reader of standard output never
//! holds up traffic; when it falls too far behind, lines are dropped and counted.

mod format;
mod sink;
mod time;

#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use tracing::Subscriber;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

pub(crate) use format::{JsonLine, PlainLine};
pub use sink::Sink;
pub(crate) use time::stamp;

/// How lines look (`LOG_FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Tab-separated time, level, scope and message, then `key=value`.
    #[default]
    Plain,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err("plain or json"),
        }
    }
}

/// A point in time as log lines write it, such as `2026-01-31T12:00:00.000001Z`.
#[must_use]
pub fn utc(at: SystemTime) -> String {
    String::from_utf8_lossy(&stamp(at)).into_owned()
}

/// Checks a filter without installing it.
///
/// # Errors
/// It does not parse.
pub fn check_filter(filter: &str) -> Result<(), ParseError> {
    Targets::from_str(filter).map(drop)
}

/// The running logger.
#[derive(Clone)]
pub struct Logging {
    filter: reload::Handle<Targets, Registry>,
    initial: Arc<str>,
    format: Format,
    sink: Sink,
}

impl Logging {
    /// Installs the process's logger on standard output. `filter` reads `level` or
    /// `target=level`, separated by commas, as `RUST_LOG` does.
    ///
    /// # Errors
    /// The filter does not parse.
    ///
    /// # Panics
    /// When a logger is already installed: a process calls this once.
    pub fn install(format: Format, filter: &str) -> Result<Self, ParseError> {
        let sink = Sink::stdout();
        let (logging, subscriber) = Self::new(format, filter, sink)?;
        tracing::subscriber::set_global_default(subscriber)
            .expect("a process installs its logger once");
        Ok(logging)
    }

    /// A logger that writes to `sink`, and the subscriber that feeds it.
    ///
    /// # Errors
    /// The filter does not parse.
    pub fn new(
        format: Format,
        filter: &str,
        sink: Sink,
    ) -> Result<(Self, impl Subscriber + Send + Sync + use<>), ParseError> {
        let (targets, handle) = reload::Layer::new(Targets::from_str(filter)?);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(sink.clone())
            .fmt_fields(format::Fields)
            .event_format(format::Event(format));
        let subscriber = tracing_subscriber::registry().with(targets).with(lines);
        let logging = Self {
            filter: handle,
            initial: filter.into(),
            format,
            sink,
        };
        Ok((logging, subscriber))
    }

    /// How lines look.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Where lines go.
    #[must_use]
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// The filter in force.
    #[must_use]
    pub fn level(&self) -> String {
        self.filter
            .with_current(Targets::to_string)
            .unwrap_or_default()
    }

    /// Adds directives to the filter, after going back to the initial one when `reset`.
    ///
    /// # Errors
    /// A directive does not parse; nothing changes then.
    pub fn set_level(&self, reset: bool, directives: &str) -> Result<(), ParseError> {
        let base = if reset {
            self.initial.to_string()
        } else {
            self.level()
        };
        let all = match directives {
            "" => base,
            more => format!("{base},{more}"),
        };
        let targets = Targets::from_str(&all)?;
        // It fails only when the subscriber is gone, and then there is nothing to filter.
        let _ = self.filter.reload(targets);
        Ok(())
    }
}
