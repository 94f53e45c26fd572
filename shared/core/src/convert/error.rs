//! What is wrong with a resource, where.

use std::fmt;

/// A value that does not decode. The resource it is in is rejected as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertError {
    /// The resource: a uid, `namespace/hostname` or `namespace/name`; empty when unreadable.
    pub resource: String,
    /// The path of the field, such as `rules[0].clauses[1].matches[0].source_ips[2]`.
    pub field: String,
    /// The value that was found, shortened.
    pub value: String,
    /// What was expected.
    pub expected: &'static str,
}

/// Longest value shown.
const SHOWN: usize = 80;

impl ConvertError {
    /// An error at one field; outer fields are put before it by [`At::at`].
    #[must_use]
    pub fn new(field: impl Into<String>, value: impl fmt::Debug, expected: &'static str) -> Self {
        let mut value = format!("{value:?}");
        if let Some((end, _)) = value.char_indices().nth(SHOWN) {
            value.truncate(end);
            value.push_str("...");
        }
        Self {
            resource: String::new(),
            field: field.into(),
            value,
            expected,
        }
    }

    /// The same error, of this resource.
    #[must_use]
    pub fn of(mut self, resource: impl Into<String>) -> Self {
        self.resource = resource.into();
        self
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.resource.is_empty() {
            write!(f, "{}: ", self.resource)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "expected {}, found {}", self.expected, self.value)
    }
}

impl std::error::Error for ConvertError {}

/// Puts the path of an outer field before an inner one.
pub trait At {
    /// `outer.inner`, or `outer` when the inner path is empty.
    #[must_use]
    fn at(self, outer: &str) -> Self;
}

impl<T> At for Result<T, ConvertError> {
    fn at(self, outer: &str) -> Self {
        self.map_err(|mut error| {
            if !error.field.is_empty() && !error.field.starts_with('[') {
                error.field.insert(0, '.');
            }
            error.field.insert_str(0, outer);
            error
        })
    }
}

/// Converts every item of a list; an error carries its position.
///
/// # Errors
/// The first item that does not convert.
pub fn each<T, U>(
    field: &str,
    items: &[T],
    convert: impl Fn(&T) -> Result<U, ConvertError>,
) -> Result<Vec<U>, ConvertError> {
    items
        .iter()
        .enumerate()
        .map(|(at, item)| convert(item).at(&format!("{field}[{at}]")))
        .collect()
}

/// A known enum value.
///
/// # Errors
/// It is not one of the enum's.
pub fn known<E: TryFrom<i32>>(
    field: &str,
    value: i32,
    expected: &'static str,
) -> Result<E, ConvertError> {
    E::try_from(value).map_err(|_| ConvertError::new(field, value, expected))
}

/// A port of 1 to 65535.
///
/// # Errors
/// It is another number.
pub fn port(field: &str, value: u32) -> Result<u16, ConvertError> {
    match u16::try_from(value) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(ConvertError::new(field, value, "a port of 1 to 65535")),
    }
}
