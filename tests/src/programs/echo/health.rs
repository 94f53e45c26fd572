//! What the health service says of this server's services: all serve until `/health` is asked to say otherwise.
//!
//! `/health` shows them; `/health?service=NAME&serving=0` changes one, `serving=1` changes it back. The empty name, or
//! none, is the whole server.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::behaviour::parse_query;
use crate::programs::grpc::SERVICE;

/// Whether each service serves, by name.
#[derive(Debug)]
pub(super) struct Health(Mutex<BTreeMap<String, bool>>);

impl Default for Health {
    fn default() -> Self {
        let services = ["", SERVICE].map(|name| (name.to_owned(), true));
        Self(Mutex::new(services.into()))
    }
}

impl Health {
    /// Does what the query of `/health` asks for, if anything.
    pub(super) fn change(&self, query: &str) {
        let asked: BTreeMap<_, _> = parse_query(query).into_iter().collect();
        if let Some(serving) = asked.get("serving") {
            let service = asked.get("service").cloned().unwrap_or_default();
            self.0.lock().insert(service, serving != "0");
        }
    }

    /// Whether a service serves; nothing of a service that is not known.
    pub(super) fn serves(&self, service: &str) -> Option<bool> {
        self.0.lock().get(service).copied()
    }

    pub(super) fn snapshot(&self) -> BTreeMap<String, bool> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_serve_until_they_are_told_otherwise() {
        let health = Health::default();
        let states = || ["", SERVICE, "other"].map(|name| health.serves(name));
        for (query, expected) in [
            ("", [Some(true), Some(true), None]),
            ("serving=0", [Some(false), Some(true), None]),
            (
                "service=ambit.echo.Echo&serving=0",
                [Some(false), Some(false), None],
            ),
            (
                "service=other&serving=1",
                [Some(false), Some(false), Some(true)],
            ),
            ("service=&serving=1", [Some(true), Some(false), Some(true)]),
        ] {
            health.change(query);
            assert_eq!(states(), expected, "{query}");
        }
    }
}
