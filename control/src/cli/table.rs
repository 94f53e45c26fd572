//! What commands show: rows of JSON, as they are or as a table.

use std::net::IpAddr;

use clap::ValueEnum;
use serde_json::Value;

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Form {
    Table,
    Json,
}

impl Form {
    /// The text to print.
    #[must_use]
    pub fn print(self, columns: Columns, rows: Vec<Value>) -> String {
        match self {
            Self::Json => format!("{:#}\n", Value::Array(rows)),
            Self::Table => table(columns, &rows),
        }
    }
}

/// Head and JSON pointer of each column.
pub type Columns = &'static [(&'static str, &'static str)];

/// Rows as a table.
#[must_use]
pub fn table(columns: Columns, rows: &[Value]) -> String {
    let head = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let mut lines: Vec<Vec<String>> = vec![head];
    for row in rows {
        let cell = |(_, pointer): &(&str, &str)| cell(row.pointer(pointer));
        lines.push(columns.iter().map(cell).collect());
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).filter_map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(&widths);
        let padded: Vec<_> = padded
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// An address of the network without a name stands alone.
fn word(text: &str) -> &str {
    match text.strip_prefix('/') {
        Some(address) if address.parse::<IpAddr>().is_ok() => address,
        _ => text,
    }
}

/// A value in one word, or in few. Objects in lists or by their names are counted.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => word(text).to_owned(),
        Some(Value::Number(number)) if number.is_f64() => {
            format!("{:.1}", number.as_f64().unwrap_or_default())
        }
        Some(Value::Array(all)) if all.iter().all(Value::is_string) && all.len() <= 2 => {
            let words: Vec<_> = all.iter().filter_map(Value::as_str).map(word).collect();
            if words.is_empty() {
                "-".to_owned()
            } else {
                words.join(",")
            }
        }
        Some(Value::Array(all)) => all.len().to_string(),
        Some(Value::Object(fields)) if fields.values().all(Value::is_object) => {
            fields.len().to_string()
        }
        Some(Value::Object(fields)) => {
            let words: Vec<_> = fields.values().map(|value| cell(Some(value))).collect();
            words.join("/")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_short() {
        let rows = [
            (Value::Null, "-"),
            (json!(""), "-"),
            (json!("a"), "a"),
            (json!(true), "true"),
            (json!(1.26), "1.3"),
            (json!([]), "-"),
            (json!(["10.0.0.1", "fd00::1"]), "10.0.0.1,fd00::1"),
            (json!(["a", "b", "c"]), "3"),
            (
                json!(["/10.0.0.1", "west/10.0.0.2"]),
                "10.0.0.1,west/10.0.0.2",
            ),
            (json!({"a": {"port": 1}, "b": {}}), "2"),
            (json!("/10.0.0.1"), "10.0.0.1"),
            (json!("/read"), "/read"),
            (json!([{"from": []}, {}]), "2"),
            (json!({"Hostname": "shop/w"}), "shop/w"),
        ];
        for (value, expected) in rows {
            assert_eq!(cell(Some(&value)), expected, "{value}");
        }
    }
}
