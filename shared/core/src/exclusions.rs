//! What of a pod's traffic is left alone, by annotations of the pod; of a machine's, by variables of its proxy.
//!
//! What is left alone goes in plain text, past every proxy and judged by none. So nothing is guessed: of a pod with one
//! annotation that does not read, nothing is left alone. And the names are our own: Istio's for pods with a sidecar
//! (`traffic.sidecar.istio.io/excludeInboundPorts`) mean nothing in its ambient mesh, and one that was forgotten on a
//! pod that has left its sidecar must not open it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::plan::is_own_port;

/// Ports of the pod that take plain text.
pub const INBOUND_PORTS: &str = "ambit.dev/exclude-inbound-ports";
/// Ports that the pod dials in plain text, wherever.
pub const OUTBOUND_PORTS: &str = "ambit.dev/exclude-outbound-ports";
/// Addresses that it dials in plain text, on any port.
pub const OUTBOUND_RANGES: &str = "ambit.dev/exclude-outbound-ip-ranges";

/// Values that an annotation may have: each is a rule that packets of the pod pass.
const MOST: usize = 64;
/// Characters that are shown of a value that does not read.
const SHOWN: usize = 64;
const PORTS: &str = "ports from 1 to 65535, separated by commas, such as \"8080,9090\"";
const OTHERS: &str = "ports other than 15001, 15006 and 15008";
const RANGES: &str =
    "ranges of addresses, separated by commas, such as \"10.1.0.0/16,2001:db8::/32\"";

/// What is left alone of a pod's TCP connections. Nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exclusions {
    /// Ports of the pod; none is the node proxy's own.
    pub inbound_ports: BTreeSet<u16>,
    /// Ports that it dials. Port 53 is DNS as well, over UDP and TCP.
    pub outbound_ports: BTreeSet<u16>,
    /// Addresses that it dials, without host bits.
    pub outbound_ranges: BTreeSet<IpNet>,
}

/// Why an annotation does not read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("annotation {annotation}={value:?}: {problem}; write {expected}")]
pub struct ExclusionsError {
    annotation: &'static str,
    /// The beginning of it.
    value: String,
    problem: String,
    expected: &'static str,
}

impl ExclusionsError {
    /// The name of the value that does not read, and why, with what to write.
    #[must_use]
    pub fn parts(&self) -> (&'static str, String) {
        let why = format!("{}; write {}", self.problem, self.expected);
        (self.annotation, why)
    }
}

impl Exclusions {
    /// Reads the annotations of a pod, which `annotation` gives by name.
    ///
    /// # Errors
    /// The first annotation with a value that does not read, that is one of the node proxy's own ports, or that is one too many.
    pub fn read<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Result<Self, ExclusionsError> {
        let names = [INBOUND_PORTS, OUTBOUND_PORTS, OUTBOUND_RANGES];
        Self::named(names, annotation)
    }

    /// The same, of three values with other names: ports of one's own, ports elsewhere, ranges.
    ///
    /// # Errors
    /// As there.
    pub fn named<'a>(
        names: [&'static str; 3],
        value: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, ExclusionsError> {
        let list = |name, expected| List {
            annotation: name,
            value: value(name).unwrap_or_default(),
            expected,
        };
        let inbound = list(names[0], PORTS);
        let inbound_ports = inbound.read(port)?;
        if let Some(port) = inbound_ports.iter().find(|port| is_own_port(**port)) {
            let own = List {
                expected: OTHERS,
                ..inbound
            };
            return Err(own.error(format!("{port} is a port of the node proxy itself")));
        }
        Ok(Self {
            inbound_ports,
            outbound_ports: list(names[1], PORTS).read(port)?,
            outbound_ranges: list(names[2], RANGES).read(range)?,
        })
    }

    /// What both leave alone.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        Self {
            inbound_ports: &self.inbound_ports & &other.inbound_ports,
            outbound_ports: &self.outbound_ports & &other.outbound_ports,
            outbound_ranges: &self.outbound_ranges & &other.outbound_ranges,
        }
    }

    /// The annotation by which plain text to this port of the pod is left alone.
    #[must_use]
    pub fn of_inbound(&self, port: u16) -> Option<&'static str> {
        self.inbound_ports.contains(&port).then_some(INBOUND_PORTS)
    }

    /// The annotation by which a connection of the pod to there is left alone.
    #[must_use]
    pub fn of_outbound(&self, destination: SocketAddr) -> Option<&'static str> {
        if self.outbound_ports.contains(&destination.port()) {
            return Some(OUTBOUND_PORTS);
        }
        let ip: IpAddr = destination.ip().to_canonical();
        let named = self.outbound_ranges.iter().any(|range| range.contains(&ip));
        named.then_some(OUTBOUND_RANGES)
    }
}

/// A list with commas.
struct List<'a> {
    annotation: &'static str,
    value: &'a str,
    expected: &'static str,
}

impl List<'_> {
    /// Its values, each once.
    fn read<T: Ord>(
        &self,
        one: impl Fn(&str) -> Option<T>,
    ) -> Result<BTreeSet<T>, ExclusionsError> {
        let parts = self.value.split(',').map(str::trim);
        let mut all = BTreeSet::new();
        for (at, part) in parts.filter(|part| !part.is_empty()).enumerate() {
            if at == MOST {
                return Err(self.error(format!("it has more than {MOST} values")));
            }
            let unread = || self.error(format!("{:?} is none", beginning(part)));
            all.insert(one(part).ok_or_else(unread)?);
        }
        Ok(all)
    }

    fn error(&self, problem: String) -> ExclusionsError {
        ExclusionsError {
            annotation: self.annotation,
            value: beginning(self.value),
            problem,
            expected: self.expected,
        }
    }
}

fn port(text: &str) -> Option<u16> {
    parse(text).filter(|port| *port != 0)
}

/// A range, or one address. Traffic to an IPv4-mapped address is IPv4, so as IPv6 it would name nothing.
fn range(text: &str) -> Option<IpNet> {
    let range = parse(text).or_else(|| parse(text).map(|ip: IpAddr| IpNet::from(ip)));
    let range = range.map(|range: IpNet| range.trunc());
    range.filter(|range| range.addr().to_canonical() == range.addr())
}

fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn beginning(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inbound: &str, outbound: &str, ranges: &str) -> Result<Exclusions, ExclusionsError> {
        Exclusions::read(|name| match name {
            INBOUND_PORTS => Some(inbound),
            OUTBOUND_PORTS => Some(outbound),
            OUTBOUND_RANGES => Some(ranges),
            _ => None,
        })
    }

    #[test]
    fn annotations_are_lists() {
        assert_eq!(Exclusions::read(|_| None), Ok(Exclusions::default()));
        assert_eq!(read("", " , ", ","), Ok(Exclusions::default()));
        let ranges = "10.1.2.3/8,192.0.2.1, fd00::1/64 ,2001:db8::1";
        let found = read("9090, 8080,8080", "443,15008", ranges);
        let nets = ["10.0.0.0/8", "192.0.2.1/32", "fd00::/64", "2001:db8::1/128"];
        let expected = Exclusions {
            inbound_ports: [8080, 9090].into(),
            outbound_ports: [443, 15008].into(),
            outbound_ranges: nets.map(|net| net.parse().expect("a net")).into(),
        };
        assert_eq!(found, Ok(expected));
        let everything = read("", "", "0.0.0.0/0,::/0").expect("it reads");
        assert_eq!(everything.outbound_ranges.len(), 2);
    }

    #[test]
    fn one_value_that_does_not_read_is_enough() {
        let many = |count: u16| {
            let all: Vec<String> = (1..=count).map(|port| port.to_string()).collect();
            all.join(",")
        };
        assert!(read(&many(64), &many(64), "").is_ok());
        let long = "9".repeat(1_000);
        let shown = &long[..64];
        let mapped = "::ffff:10.0.0.0/104";
        let own = "15008 is a port of the node proxy itself";
        let cases = [
            (INBOUND_PORTS, "8080,http", "\"http\" is none".to_owned()),
            (INBOUND_PORTS, "0", "\"0\" is none".to_owned()),
            (INBOUND_PORTS, "65536", "\"65536\" is none".to_owned()),
            (INBOUND_PORTS, "80-90", "\"80-90\" is none".to_owned()),
            (INBOUND_PORTS, "*", "\"*\" is none".to_owned()),
            (INBOUND_PORTS, "80;90", "\"80;90\" is none".to_owned()),
            (INBOUND_PORTS, "80,15008", own.to_owned()),
            (OUTBOUND_PORTS, "-1", "\"-1\" is none".to_owned()),
            (OUTBOUND_PORTS, long.as_str(), format!("{shown:?} is none")),
            (
                OUTBOUND_RANGES,
                "10.0.0.0/33",
                "\"10.0.0.0/33\" is none".to_owned(),
            ),
            (
                OUTBOUND_RANGES,
                "example.org",
                "\"example.org\" is none".to_owned(),
            ),
            (OUTBOUND_RANGES, mapped, format!("{mapped:?} is none")),
        ];
        for (annotation, value, problem) in cases {
            let said = Exclusions::read(|name| match name {
                _ if name == annotation => Some(value),
                INBOUND_PORTS | OUTBOUND_PORTS => Some("80"),
                _ => None,
            });
            let expected = match annotation {
                _ if problem == own => OTHERS,
                OUTBOUND_RANGES => RANGES,
                _ => PORTS,
            };
            let value = beginning(value);
            assert_eq!(
                said.expect_err("wrong").to_string(),
                format!("annotation {annotation}={value:?}: {problem}; write {expected}")
            );
        }
        let too_many = read(&many(65), "", "")
            .expect_err("one too many")
            .to_string();
        assert!(
            too_many.contains(": it has more than 64 values; write ports"),
            "{too_many}"
        );
    }

    #[test]
    fn what_two_have_in_common_is_in_both() {
        let one = read("80,81", "443", "10.0.0.0/8,fd00::/64").expect("it reads");
        let other = read("81,82", "", "fd00::/64").expect("it reads");
        let both = read("81", "", "fd00::/64").expect("it reads");
        assert_eq!(one.common(&other), both);
        assert_eq!(other.common(&one), both);
    }

    #[test]
    fn what_is_named_is_left_alone() {
        let exclusions = read("9090", "443", "10.0.0.0/8,fd00::/64").expect("it reads");
        assert_eq!(exclusions.of_inbound(9090), Some(INBOUND_PORTS));
        assert_eq!(exclusions.of_inbound(443), None);
        for (destination, annotation) in [
            ("192.0.2.1:443", Some(OUTBOUND_PORTS)),
            ("10.9.9.9:80", Some(OUTBOUND_RANGES)),
            ("[::ffff:10.9.9.9]:80", Some(OUTBOUND_RANGES)),
            ("[fd00::7]:80", Some(OUTBOUND_RANGES)),
            ("[fd00:0:0:1::7]:80", None),
            ("192.0.2.1:9090", None),
        ] {
            let destination = destination.parse().expect("an address");
            assert_eq!(
                exclusions.of_outbound(destination),
                annotation,
                "{destination}"
            );
        }
        assert_eq!(Exclusions::default().of_inbound(80), None);
    }

    #[test]
    fn they_are_kept_as_text() {
        let exclusions = read("9090", "443", "10.0.0.0/8").expect("it reads");
        let text = serde_json::to_string(&exclusions).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Exclusions>(&text).expect("read"),
            exclusions
        );
        let none = serde_json::from_str::<Exclusions>("{}").expect("read");
        assert_eq!(none, Exclusions::default());
    }
}
