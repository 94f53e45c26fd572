//! Reads manifests: YAML or JSON, many documents a file, `List` objects unpacked. Every bad
//! document is reported by its file and number; the good ones are still returned.

use std::fmt;

use ambit_control::source::parse::{self, blame};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kind::Kind;

/// One manifest file's text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The file, as the user named it.
    pub file: String,
    /// Its contents.
    pub text: String,
}

/// One object of a manifest.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file it came from.
    pub file: String,
    /// Its number in the file, from 1.
    pub number: usize,
    /// The line of the file at which it begins, or at which the control plane does not read it.
    pub line: usize,
    /// What it is.
    pub kind: &'static Kind,
    /// Its namespace; empty for kinds without.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The object, with `metadata.namespace` filled in.
    pub value: Value,
}

/// A document that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentError {
    /// The file.
    pub file: String,
    /// The document's number in the file, from 1.
    pub document: usize,
    /// The line of the file at which it begins, or at which it does not read.
    pub line: usize,
    /// `Kind namespace/name`, as far as it is known.
    pub object: String,
    /// What is wrong with it.
    pub error: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            document,
            ..
        } = self;
        write!(formatter, "{file}:{line}, document {document}")?;
        if !self.object.is_empty() {
            write!(formatter, " ({})", self.object)?;
        }
        write!(formatter, ": {}", self.error)
    }
}

impl Document {
    /// An error about this document.
    #[must_use]
    pub fn error(&self, error: impl fmt::Display) -> DocumentError {
        DocumentError {
            file: self.file.clone(),
            document: self.number,
            line: self.line,
            object: self.to_string(),
            error: error.to_string(),
        }
    }

    /// `FILE:LINE`, for whoever looks for it.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

impl fmt::Display for Document {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return write!(formatter, "{} {}", self.kind, self.name);
        }
        write!(formatter, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// All objects of `manifests`, and what is wrong with the rest.
#[must_use]
pub fn parse(manifests: &[Manifest]) -> (Vec<Document>, Vec<DocumentError>) {
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    for manifest in manifests {
        for document in parse::documents(&manifest.text).into_iter().map(begun) {
            let mut place = Place {
                file: &manifest.file,
                number: document.number,
                line: document.line,
            };
            // As the control plane reads it: `n` and `on` are texts.
            let options = serde_saphyr::options! { strict_booleans: true };
            let value: Value = match serde_saphyr::from_str_with_options(document.text, options) {
                Ok(value) => value,
                Err(error) => {
                    let (within, error) = blame(&error);
                    place.line += within - 1;
                    errors.push(place.error("", error));
                    continue;
                }
            };
            // Of an item of a list nobody says a line.
            if value["kind"] != "List" {
                place.line = blamed(&document);
            }
            place.collect(value, &mut documents, &mut errors);
        }
    }
    (documents, errors)
}

/// A document from its first line that says something.
fn begun(document: parse::Document<'_>) -> parse::Document<'_> {
    let quiet = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let before = document.text.split_inclusive('\n').take_while(quiet);
    let (lines, bytes) = before.fold((0, 0), |(lines, bytes), line| {
        (lines + 1, bytes + line.len())
    });
    parse::Document {
        line: document.line + lines,
        text: &document.text[bytes..],
        ..document
    }
}

/// The line at which the control plane does not read a document, which it will say of its copy; else that of the document.
fn blamed(document: &parse::Document<'_>) -> usize {
    let errors = parse::parse(document).errors;
    errors.first().map_or(document.line, |error| error.line)
}

struct Place<'a> {
    file: &'a str,
    number: usize,
    line: usize,
}

impl Place<'_> {
    fn error(&self, object: &str, error: String) -> DocumentError {
        DocumentError {
            file: self.file.to_owned(),
            document: self.number,
            line: self.line,
            object: object.to_owned(),
            error,
        }
    }

    fn collect(&self, value: Value, good: &mut Vec<Document>, bad: &mut Vec<DocumentError>) {
        if value["kind"] == "List" {
            let items = value["items"].as_array().cloned().unwrap_or_default();
            for item in items {
                self.collect(item, good, bad);
            }
            return;
        }
        match self.read(value) {
            Ok(document) => good.push(document),
            Err(error) => bad.push(error),
        }
    }

    fn read(&self, mut value: Value) -> Result<Document, DocumentError> {
        let text = |path: &str| {
            value
                .pointer(path)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let (kind, version) = (text("/kind"), text("/apiVersion"));
        let (name, namespace) = (text("/metadata/name"), text("/metadata/namespace"));
        let Some(kind_name) = kind else {
            return Err(self.error("", "kind is missing: is it a Kubernetes object?".to_owned()));
        };
        let shown = format!(
            "{kind_name} {}",
            name.as_deref().unwrap_or("without a name")
        );
        let Some(kind) = Kind::of(&kind_name) else {
            return Err(self.error(
                &shown,
                format!("the lab does not know the kind {kind_name:?}"),
            ));
        };
        let version = version.unwrap_or_default();
        if !kind.versions.contains(&version.as_str()) {
            let known = kind.versions.join(" or ");
            return Err(self.error(&shown, format!("apiVersion is {version:?}, not {known}")));
        }
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(self.error(&shown, "metadata.name is missing".to_owned()));
        };
        if let Err(error) = check_name(&name) {
            return Err(self.error(&shown, format!("metadata.name {name:?}: {error}")));
        }
        let namespace = match (kind.namespaced, namespace) {
            (true, Some(namespace)) => namespace,
            (true, None) => "default".to_owned(),
            (false, _) => String::new(),
        };
        if let Some(metadata) = value["metadata"].as_object_mut() {
            if kind.namespaced {
                metadata.insert("namespace".to_owned(), namespace.clone().into());
            } else {
                metadata.remove("namespace");
            }
        }
        Ok(Document {
            file: self.file.to_owned(),
            number: self.number,
            line: self.line,
            kind,
            namespace,
            name,
            value,
        })
    }
}

/// RFC 1123 subdomain, as Kubernetes demands of names.
fn check_name(name: &str) -> Result<(), &'static str> {
    let inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let outer = |byte: Option<u8>| byte.is_some_and(|byte| inner(byte) && !b"-.".contains(&byte));
    if name.len() > 253 {
        return Err("longer than 253 characters");
    }
    if !name.bytes().all(inner) || !outer(name.bytes().next()) || !outer(name.bytes().last()) {
        return Err("use a-z, 0-9, '-' and '.', starting and ending with a letter or digit");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> (Vec<Document>, Vec<DocumentError>) {
        parse(&[Manifest {
            file: "a.yaml".to_owned(),
            text: text.to_owned(),
        }])
    }

    #[test]
    fn bad_documents_are_named_and_the_good_are_kept() {
        let (good, bad) = one(
            "# a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: x}\n\
             ---\nkind: [\n---\napiVersion: v1\nkind: Widget\nmetadata: {name: b}\n\
             --- \napiVersion: v1\nkind: Pod\nmetadata: {name: c}\n\
             ---\napiVersion: v2\nkind: Pod\nmetadata: {name: d}\n\
             ---\napiVersion: v1\nkind: Pod\nmetadata: {name: Upper_Case}\n",
        );
        let names: Vec<String> = good.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["Namespace a", "Pod default/c"]);
        let places: Vec<usize> = bad.iter().map(|error| error.document).collect();
        assert_eq!(places, [2, 3, 5, 6]);
        assert!(
            bad[1]
                .to_string()
                .contains("a.yaml:9, document 3 (Widget b): the lab does not know")
        );
    }

    /// Leading comments, markers and documents before it count.
    #[test]
    fn lines_are_those_of_the_file() {
        let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec:\n";
        let (good, bad) = one(&format!(
            "# a comment\n\n---\n# another\napiVersion: v1\nkind: Namespace\nmetadata: {{name: a}}\n\
             ---\n{policy}  rules: []\n---\n{policy}  rule: []\n---\n\nkind: Pod\nspec: [\n"
        ));
        let lines: Vec<usize> = good.iter().map(|it| it.line).collect();
        assert_eq!(lines, [5, 9, 19]);
        assert_eq!(good[2].place(), "a.yaml:19");
        let [bad] = &bad[..] else { panic!("{bad:?}") };
        assert_eq!((bad.document, bad.line), (4, 23), "{bad}");
        assert!(!bad.error.contains(" line "), "{bad}");
    }

    #[test]
    fn a_letter_is_a_name() {
        let (good, bad) = one("apiVersion: v1\nkind: Pod\nmetadata: {name: n, labels: {a: on}}\n");
        assert_eq!(bad, []);
        assert_eq!(
            (&*good[0].name, &good[0].value["metadata"]["labels"]["a"]),
            ("n", &"on".into())
        );
    }

    #[test]
    fn lists_are_unpacked() {
        let (good, bad) = one(
            r#"{"kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}]}"#,
        );
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(good.len(), 1);
    }

    #[test]
    fn what_is_wrong_in_a_list_is_not_where_its_items_are() {
        let (good, bad) = one("apiVersion: v1\nkind: List\nmetadata:\n  name: [a]\n\
             items: [{apiVersion: v1, kind: Pod, metadata: {name: a}}]\n");
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(good[0].place(), "a.yaml:1");
    }
}
