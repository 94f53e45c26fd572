//! Reading typed values out of an environment while collecting what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::value::Value;

/// Variables of ours: an unknown one is a mistake, not somebody else's.
const OWN_PREFIX: &str = "AMBIT_";

/// A variable that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its name.
    pub name: String,
    /// What it was set to.
    pub value: String,
    /// What would be accepted.
    pub accepts: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}: {}", self.name, self.value, self.accepts)
    }
}

/// Everything that is wrong with an environment; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} bad environment variable{plural}:")?;
        self.0.iter().try_for_each(|p| write!(f, "\n  {p}"))
    }
}

impl std::error::Error for Problems {}

/// A variable that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What it accepts.
    pub accepts: &'static str,
    /// What it is when it is not set; empty when that is nothing.
    pub default: String,
}

/// An environment that is being read.
pub struct Reader {
    vars: BTreeMap<String, String>,
    problems: Vec<Problem>,
    known: Vec<Known>,
}

impl Reader {
    /// Reads these variables.
    #[must_use]
    pub fn new(vars: BTreeMap<String, String>) -> Self {
        Self {
            vars,
            problems: Vec::new(),
            known: Vec::new(),
        }
    }

    /// A value, or its default when the variable is not set or empty.
    pub fn value<T: Value>(&mut self, name: &'static str, about: &'static str, default: T) -> T {
        let shown = default.show();
        self.read(name, about, shown).unwrap_or(default)
    }

    /// A value, or nothing when the variable is not set or empty.
    pub fn optional<T: Value>(&mut self, name: &'static str, about: &'static str) -> Option<T> {
        self.read(name, about, String::new())
    }

    /// A number within limits.
    pub fn number(
        &mut self,
        name: &'static str,
        about: &'static str,
        default: u32,
        limits: std::ops::RangeInclusive<u32>,
    ) -> u32 {
        let number = self.value(name, about, default);
        if limits.contains(&number) {
            return number;
        }
        let (low, high) = limits.into_inner();
        self.refuse(
            name,
            format!("expected a whole number from {low} to {high}"),
        );
        default
    }

    /// A variable that may be set only to what this proxy does anyway.
    pub fn only(&mut self, name: &'static str, values: &[&str], what: &str) {
        if self.text(name).is_some_and(|text| !values.contains(&text)) {
            let accepts = match values {
                [] => format!("not supported ({what})"),
                values => format!("not supported ({what}); expected {}", values.join(" or ")),
            };
            self.refuse(name, accepts);
        }
    }

    /// Reports a variable as wrong.
    pub fn refuse(&mut self, name: &str, accepts: String) {
        self.problems.push(Problem {
            name: name.to_owned(),
            value: self.vars.get(name).cloned().unwrap_or_default(),
            accepts,
        });
    }

    /// Variables that are set and not empty and whose name starts with `prefix`, by what follows it.
    pub fn prefixed(&self, prefix: &str) -> BTreeMap<String, String> {
        let named = self.vars.keys().filter_map(|name| {
            let rest = name.strip_prefix(prefix).filter(|it| !it.is_empty())?;
            Some((rest.to_owned(), self.text(name)?.to_owned()))
        });
        named.collect()
    }

    /// A variable that is set and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.vars
            .get(name)
            .map(|v| v.trim())
            .filter(|v| !v.is_empty())
    }

    /// The configuration, unless something was wrong.
    ///
    /// # Errors
    /// Every variable that is wrong.
    pub fn finish<T>(mut self, config: T) -> Result<T, Problems> {
        let known: BTreeSet<&str> = self.known.iter().map(|k| k.name).collect();
        let unknown = self.vars.keys().filter(|n| n.starts_with(OWN_PREFIX));
        let unknown: Vec<String> = unknown
            .filter(|n| !known.contains(&***n))
            .cloned()
            .collect();
        for name in unknown {
            self.refuse(&name, "no such variable; --help lists them".to_owned());
        }
        if self.problems.is_empty() {
            Ok(config)
        } else {
            Err(Problems(self.problems))
        }
    }

    /// Every variable that was asked for.
    #[must_use]
    pub fn into_known(self) -> Vec<Known> {
        self.known
    }

    fn read<T: Value>(
        &mut self,
        name: &'static str,
        about: &'static str,
        default: String,
    ) -> Option<T> {
        self.known.push(Known {
            name,
            about,
            accepts: T::ACCEPTS,
            default,
        });
        match T::read(self.text(name)?) {
            Ok(value) => Some(value),
            Err(detail) => {
                let accepts = match detail.as_str() {
                    "" => format!("expected {}", T::ACCEPTS),
                    detail => format!("expected {} ({detail})", T::ACCEPTS),
                };
                self.refuse(name, accepts);
                None
            }
        }
    }
}
