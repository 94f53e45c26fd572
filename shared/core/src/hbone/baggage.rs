//! The `baggage` header (W3C Baggage) as HBONE uses it: who the peer says it is, for telemetry.

use std::fmt;
use std::sync::Arc;

use crate::model::{Workload, WorkloadType};

/// Limits of W3C Baggage, 3.3.2.
const MAX_LEN: usize = 8192;
const MAX_MEMBERS: usize = 180;

/// What a peer says of itself. Claims, not facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Baggage {
    /// `k8s.cluster.name`.
    pub cluster: Option<Arc<str>>,
    /// `k8s.namespace.name`.
    pub namespace: Option<Arc<str>>,
    /// `k8s.deployment.name`, `k8s.cronjob.name`, `k8s.pod.name` or `k8s.job.name`.
    pub workload: Option<(WorkloadType, Arc<str>)>,
    /// `service.name`.
    pub service_name: Option<Arc<str>>,
    /// `service.version`.
    pub service_version: Option<Arc<str>>,
    /// `cloud.region`.
    pub region: Option<Arc<str>>,
    /// `cloud.availability_zone`.
    pub zone: Option<Arc<str>>,
}

impl Baggage {
    /// What a workload says of itself.
    #[must_use]
    pub fn of(workload: &Workload) -> Self {
        let known = |text: &Arc<str>| (!text.is_empty()).then(|| text.clone());
        Self {
            cluster: known(&workload.cluster_id),
            namespace: known(&workload.namespace),
            workload: known(&workload.workload_name).map(|name| (workload.workload_type, name)),
            service_name: known(&workload.canonical_name),
            service_version: known(&workload.canonical_revision),
            region: known(&workload.locality.region),
            zone: known(&workload.locality.zone),
        }
    }

    /// Reads what it knows and skips the rest. Never an error: it serves telemetry only.
    #[must_use]
    pub fn parse(header: &str) -> Self {
        let mut baggage = Self::default();
        if header.len() > MAX_LEN {
            return baggage;
        }
        for member in header.split(',').take(MAX_MEMBERS) {
            let pair = member.split(';').next().unwrap_or_default();
            let Some((key, value)) = pair.split_once('=') else {
                continue;
            };
            let value = decoded(value.trim());
            if value.is_empty() {
                continue;
            }
            baggage.set(key.trim(), value.into());
        }
        baggage
    }

    fn set(&mut self, key: &str, value: Arc<str>) {
        let field = match key {
            "k8s.cluster.name" => &mut self.cluster,
            "k8s.namespace.name" => &mut self.namespace,
            "service.name" => &mut self.service_name,
            "service.version" => &mut self.service_version,
            "cloud.region" => &mut self.region,
            "cloud.availability_zone" => &mut self.zone,
            _ => {
                if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == key) {
                    self.workload = Some((*kind, value));
                }
                return;
            }
        };
        *field = Some(value);
    }
}

const KINDS: [(&str, WorkloadType); 4] = [
    ("k8s.deployment.name", WorkloadType::Deployment),
    ("k8s.cronjob.name", WorkloadType::CronJob),
    ("k8s.pod.name", WorkloadType::Pod),
    ("k8s.job.name", WorkloadType::Job),
];

fn key_of(kind: WorkloadType) -> &'static str {
    KINDS
        .iter()
        .find(|(_, known)| *known == kind)
        .map_or("k8s.pod.name", |(name, _)| name)
}

impl fmt::Display for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workload = self.workload.as_ref();
        let members = [
            ("k8s.cluster.name", self.cluster.as_ref()),
            ("k8s.namespace.name", self.namespace.as_ref()),
            (
                workload.map_or("", |(kind, _)| key_of(*kind)),
                workload.map(|(_, name)| name),
            ),
            ("service.name", self.service_name.as_ref()),
            ("service.version", self.service_version.as_ref()),
            ("cloud.region", self.region.as_ref()),
            ("cloud.availability_zone", self.zone.as_ref()),
        ];
        let mut comma = "";
        for (key, value) in members {
            if let Some(value) = value {
                write!(f, "{comma}{key}={}", Encoded(value))?;
                comma = ",";
            }
        }
        Ok(())
    }
}

/// Percent-encodes what is no baggage octet.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for b in self.0.bytes() {
            let plain = b.is_ascii_graphic() && !matches!(b, b'"' | b',' | b';' | b'\\' | b'%');
            if plain {
                write!(f, "{}", char::from(b))?;
            } else {
                write!(f, "%{b:02X}")?;
            }
        }
        Ok(())
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, after @ ..]) => hex(*high, *low).map(|byte| (byte, after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}
