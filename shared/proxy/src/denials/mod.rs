//! Who was denied whom, and by what: the pairs that were denied most, for as long as the process runs. Only a denial writes here.

mod heaviest;

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use ambit_core::identity::Identity;
use ambit_telemetry::log::utc;
use parking_lot::Mutex;
use serde::Serialize;

use heaviest::Heaviest;

/// Rows, however many pairs there are.
const ROWS: usize = 100;
/// The longest reason, in characters: names of policies and what is wrong with them.
const LONGEST_REASON: usize = 300;

/// The pairs that were denied most.
#[derive(Debug)]
pub struct Denials(Mutex<Heaviest<Denial>>);

/// Who was denied whom, and by what. Pods of one owner are one workload, and clients' ports count for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
struct Denial {
    /// Seen from the pod that this proxy serves.
    direction: &'static str,
    /// `NAMESPACE/NAME` of the client, if it is known.
    source: Option<String>,
    /// What it proved to be.
    source_identity: Option<Identity>,
    /// Its address, if nothing else is known of it.
    source_address: Option<IpAddr>,
    /// `NAMESPACE/NAME` of the server, if it is known.
    destination: Option<String>,
    /// Its address, if nothing else is known of it.
    destination_address: Option<IpAddr>,
    /// Its port, or the one that was asked for.
    port: u16,
    /// The service that was asked for.
    service: Option<String>,
    /// What denied it: the policy.
    reason: String,
}

/// What is known of one that was denied.
pub struct Facts<'a> {
    /// Seen from the pod that this proxy serves.
    pub direction: &'static str,
    /// The client, as [`owner`](crate::dump::owner) calls it.
    pub source: Option<String>,
    /// What it proved to be.
    pub source_identity: Option<Identity>,
    /// Where it is.
    pub source_addr: SocketAddr,
    /// The server, as [`owner`](crate::dump::owner) calls it.
    pub destination: Option<String>,
    /// Where it is, or what was asked for.
    pub destination_addr: SocketAddr,
    /// The service that was asked for.
    pub service: Option<String>,
    /// What denied it.
    pub reason: &'a dyn Display,
}

impl Facts<'_> {
    fn denial(self) -> Denial {
        let source_known = self.source.is_some() || self.source_identity.is_some();
        let destination_known = self.destination.is_some() || self.service.is_some();
        let address = |of: SocketAddr| of.ip().to_canonical();
        let reason = self.reason.to_string();
        Denial {
            direction: self.direction,
            source: self.source,
            source_identity: self.source_identity,
            source_address: (!source_known).then(|| address(self.source_addr)),
            destination: self.destination,
            destination_address: (!destination_known).then(|| address(self.destination_addr)),
            port: self.destination_addr.port(),
            service: self.service,
            reason: reason.chars().take(LONGEST_REASON).collect(),
        }
    }
}

impl Default for Denials {
    fn default() -> Self {
        Self(Mutex::new(Heaviest::new(ROWS)))
    }
}

impl Denials {
    /// Counts one.
    pub fn count(&self, facts: Facts<'_>) {
        let denial = facts.denial();
        self.0.lock().count(denial, SystemTime::now());
    }

    /// What `/config_dump` shows.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let heaviest = self.0.lock();
        let rows = heaviest.rows().into_iter();
        let listed = rows.map(|(denial, tally)| Row {
            denial: denial.clone(),
            count: tally.count,
            over: tally.over,
            first_seen: utc(tally.first),
            last_seen: utc(tally.last),
        });
        Shown {
            listed: listed.collect(),
            count: heaviest.total(),
            displaced: heaviest.displaced(),
        }
    }
}

/// The pairs that were denied most, and how many were denied at all.
#[derive(Debug, Serialize)]
pub struct Shown {
    count: u64,
    /// How often a pair gave up its row to another one.
    displaced: u64,
    listed: Vec<Row>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(flatten)]
    denial: Denial,
    /// At most; at least as many less as `over` says.
    count: u64,
    over: u64,
    first_seen: String,
    last_seen: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(number: u16, reason: &dyn Display) -> Facts<'_> {
        let [high, low] = number.to_be_bytes();
        Facts {
            direction: "inbound",
            source: None,
            source_identity: None,
            source_addr: SocketAddr::from(([10, 9, high, low], number)),
            destination: Some("shop/api".to_owned()),
            destination_addr: SocketAddr::from(([10, 1, 0, 1], 8080)),
            service: None,
            reason,
        }
    }

    fn web<'a>(port: u16, reason: &'a dyn Display) -> Facts<'a> {
        Facts {
            source: Some("shop/web".to_owned()),
            source_identity: Identity::new("cluster.local", "shop", "web").ok(),
            ..stranger(port, reason)
        }
    }

    #[test]
    fn pairs_are_told_apart_by_who_they_are_and_strangers_by_address() {
        let denials = Denials::default();
        let long = "x".repeat(2 * LONGEST_REASON);
        denials.count(stranger(1, &"denied by policy shop/a, rule 0"));
        for port in [1, 2, 3] {
            denials.count(web(port, &"denied by policy shop/a, rule 0"));
        }
        denials.count(web(1, &long));
        let shown = serde_json::to_value(denials.shown()).expect("JSON");
        assert_eq!(
            (&shown["count"], &shown["displaced"]),
            (&5.into(), &0.into())
        );
        let rows = shown["listed"].as_array().expect("rows");
        assert_eq!(rows.len(), 3, "{rows:?}");
        let first = &rows[0];
        assert_eq!(first["count"], 3, "the client's port counts for nothing");
        assert_eq!(first["source"], "shop/web");
        assert_eq!(
            first["sourceIdentity"],
            "spiffe://cluster.local/ns/shop/sa/web"
        );
        assert!(first["sourceAddress"].is_null(), "{first}");
        assert_eq!(
            (&first["destination"], &first["port"]),
            (&"shop/api".into(), &8080.into())
        );
        assert_eq!(first["reason"], "denied by policy shop/a, rule 0");
        let strangers: Vec<_> = rows.iter().filter(|row| row["source"].is_null()).collect();
        assert_eq!(strangers.len(), 1);
        assert_eq!(strangers[0]["sourceAddress"], "10.9.0.1");
        let is_cut =
            |row: &serde_json::Value| row["reason"].as_str().map(str::len) == Some(LONGEST_REASON);
        assert!(rows.iter().any(is_cut), "{rows:?}");
    }

    #[test]
    fn addresses_that_are_made_up_do_not_make_it_grow() {
        let denials = Denials::default();
        for number in 0..2000 {
            denials.count(stranger(number, &"denied"));
            denials.count(web(number, &"denied"));
        }
        let shown = serde_json::to_value(denials.shown()).expect("JSON");
        let rows = shown["listed"].as_array().expect("rows");
        assert_eq!((rows.len(), &shown["count"]), (ROWS, &4000.into()));
        assert_eq!(
            (&rows[0]["source"], &rows[0]["count"]),
            (&"shop/web".into(), &2000.into())
        );
        assert_eq!(shown["displaced"], 1901);
    }
}
