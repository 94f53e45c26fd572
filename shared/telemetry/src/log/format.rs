//! The two line formats, shared by events and by the access log.
//!
//! Plain: time, level, scope and message, each followed by a tab, then `key=value` with spaces
//! between. JSON: `level`, `time`, `scope`, `message`, then the fields. Values are escaped, so a
//! peer's words can never start a line of their own.

use std::fmt::{self, Debug, Display, Write};

use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::{Format, time};

/// A line in the plain format, appended to a text.
pub(crate) struct PlainLine<'a, W: Write> {
    out: &'a mut W,
    first: bool,
}

impl<'a, W: Write> PlainLine<'a, W> {
    pub(crate) fn start(out: &'a mut W, level: Level, scope: &str, message: &str) -> Self {
        let _ = time::write_now(out);
        let _ = write!(out, "\t{}\t{scope}\t", level_name(level));
        let _ = write!(Escaped(out), "{message}");
        Self { out, first: true }
    }

    pub(crate) fn text(&mut self, key: &str, value: &dyn Display) {
        self.key(key);
        let _ = self.out.write_char('"');
        let _ = write!(Escaped(self.out), "{value}");
        let _ = self.out.write_char('"');
    }

    /// A value that needs no quotes: a number, an address, a truth.
    pub(crate) fn bare(&mut self, key: &str, value: &dyn Display) {
        self.key(key);
        let _ = write!(Escaped(self.out), "{value}");
    }

    pub(crate) fn end(self) {
        let _ = self.out.write_char('\n');
    }

    fn key(&mut self, key: &str) {
        let between = if self.first { '\t' } else { ' ' };
        self.first = false;
        let _ = write!(self.out, "{between}{key}=");
    }
}

/// A line in the JSON format, appended to a text.
pub(crate) struct JsonLine<'a, W: Write> {
    out: &'a mut W,
}

impl<'a, W: Write> JsonLine<'a, W> {
    pub(crate) fn start(out: &'a mut W, level: Level, scope: &str, message: &str) -> Self {
        let _ = write!(out, "{{\"level\":\"{}\",\"time\":\"", level_name(level));
        let _ = time::write_now(out);
        let _ = out.write_char('"');
        let mut line = Self { out };
        line.text("scope", &scope);
        line.text("message", &message);
        line
    }

    pub(crate) fn text(&mut self, key: &str, value: &dyn Display) {
        let _ = write!(self.out, ",\"{key}\":\"");
        let _ = write!(Escaped(self.out), "{value}");
        let _ = self.out.write_char('"');
    }

    /// A number or a truth.
    pub(crate) fn bare(&mut self, key: &str, value: &dyn Display) {
        let _ = write!(self.out, ",\"{key}\":{value}");
    }

    pub(crate) fn end(self) {
        let _ = self.out.write_str("}\n");
    }
}

/// Escapes as JSON strings do, which reads well in the plain format too.
struct Escaped<'a, W: Write>(&'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c == '"' || c == '\\' || c.is_control()) {
            let (clean, special) = rest.split_at(at);
            self.0.write_str(clean)?;
            let mut chars = special.chars();
            match chars.next() {
                Some('\n') => self.0.write_str("\\n")?,
                Some('\t') => self.0.write_str("\\t")?,
                Some(c @ ('"' | '\\')) => write!(self.0, "\\{c}")?,
                Some(c) => write!(self.0, "\\u{:04x}", u32::from(c))?,
                None => {}
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The crate's own prefix says nothing to an operator.
fn scope(target: &str) -> &str {
    target.strip_prefix("ambit_").unwrap_or(target)
}

/// Formats events.
pub(super) struct Event(pub(super) Format);

impl<S, N> FormatEvent<S, N> for Event
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let (level, scope) = (*meta.level(), scope(meta.target()));
        let mut message = Message(String::new());
        event.record(&mut message);
        match self.0 {
            Format::Plain => {
                let mut line = PlainLine::start(&mut writer, level, scope, &message.0);
                event.record(&mut PlainFields(&mut line));
                line.end();
            }
            Format::Json => {
                let mut line = JsonLine::start(&mut writer, level, scope, &message.0);
                event.record(&mut JsonFields(&mut line));
                line.end();
            }
        }
        Ok(())
    }
}

/// Span fields are not part of a line.
pub(super) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, _: Writer<'w>, _: R) -> fmt::Result {
        Ok(())
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

/// Shows a value by `Debug`, which is what `%value` arrives as.
struct Shown<'a>(&'a dyn Debug);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! fields {
    ($visitor:ident, $line:ident) => {
        struct $visitor<'a, 'b, W: Write>(&'a mut $line<'b, W>);

        impl<W: Write> Visit for $visitor<'_, '_, W> {
            fn record_f64(&mut self, field: &Field, value: f64) {
                self.0.bare(field.name(), &value);
            }

            fn record_i64(&mut self, field: &Field, value: i64) {
                self.0.bare(field.name(), &value);
            }

            fn record_u64(&mut self, field: &Field, value: u64) {
                self.0.bare(field.name(), &value);
            }

            fn record_bool(&mut self, field: &Field, value: bool) {
                self.0.bare(field.name(), &value);
            }

            fn record_str(&mut self, field: &Field, value: &str) {
                if field.name() != "message" {
                    self.0.text(field.name(), &value);
                }
            }

            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                if field.name() != "message" {
                    self.0.text(field.name(), &Shown(value));
                }
            }
        }
    };
}

fields!(PlainFields, PlainLine);
fields!(JsonFields, JsonLine);
