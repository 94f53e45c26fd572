//! Pages of the Prometheus text format, as proxies write them.

use std::borrow::Cow;

/// One line.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    pub(super) value: f64,
}

impl Sample<'_> {
    /// The value of a label, empty when it has none.
    pub(super) fn label(&self, name: &str) -> &str {
        let mut labels = self.labels.iter();
        let found = labels.find(|(label, _)| *label == name);
        found.map_or("", |(_, value)| value)
    }
}

/// The lines that can be read.
pub(super) fn samples(page: &str) -> impl Iterator<Item = Sample<'_>> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name,
        labels,
        value,
    })
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// Labels up to the closing brace, and what is behind it.
fn labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let end = quote(after)?;
        labels.push((name, unescaped(&after[..end])));
        rest = &after[end + 1..];
    }
}

/// Where a label's value ends.
fn quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(c) => plain.push(c),
                None => {}
            },
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_or_left_out() {
        let page = "# HELP a b\na 1\nb{} 2.5\nc{x=\"1\",y=\"p,\\\"}\\\\\"} 3 1700000000\n\
                    broken{x=\"1 4\nnothing\nd{x=\"1\"} NaN\ne one\n\n";
        let read: Vec<_> = samples(page).collect();
        let names: Vec<_> = read.iter().map(|sample| sample.name).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!(
            (read[0].value, read[1].value, read[2].value),
            (1.0, 2.5, 3.0)
        );
        assert_eq!((read[2].label("x"), read[2].label("y")), ("1", "p,\"}\\"));
        assert_eq!(read[2].label("z"), "");
    }
}
