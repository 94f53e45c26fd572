//! The text formats of Prometheus and OpenMetrics: families, label values and numbers.

use std::fmt::Write;

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus.
    Prometheus,
    /// OpenMetrics 1.0, which has exemplars.
    OpenMetrics,
}

impl Format {
    /// Its media type, with parameters.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes the two header lines of a family. Of `name`, its samples have the whole.
pub(super) fn family(out: &mut String, format: Format, name: &str, kind: &str, help: &str) {
    let open = format == Format::OpenMetrics;
    let (name, kind) = match name.strip_suffix("_total") {
        Some(family) if open && kind == "counter" => (family, kind),
        // In OpenMetrics a counter without that suffix is none.
        None if open && kind == "counter" => (name, "unknown"),
        _ => (name, kind),
    };
    if !help.is_empty() {
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escape(out, help, open);
        out.push('\n');
    }
    let _ = writeln!(out, "# TYPE {name} {kind}");
}

/// Writes `name="value"`, with a comma before it unless it is the first.
pub(super) fn label(out: &mut String, first: &mut bool, name: &str, value: &str) {
    if !std::mem::take(first) {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value, true);
    out.push('"');
}

/// Writes a number as Prometheus reads it.
pub(super) fn number(out: &mut String, value: f64) {
    let _ = if value.is_nan() {
        out.write_str("NaN")
    } else if value.is_infinite() {
        out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        write!(out, "{value}")
    };
}

/// Makes a name that Prometheus accepts: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub(super) fn metric_name(name: &str) -> String {
    name.char_indices()
        .map(|(at, c)| match c {
            'a'..='z' | 'A'..='Z' | '_' | ':' => c,
            '0'..='9' if at > 0 => c,
            _ => '_',
        })
        .collect()
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}
