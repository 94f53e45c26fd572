//! The parts of what a proxy knows, and the columns of their tables.

use crate::cli::table::Columns;

/// A part of what a proxy knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Part {
    Workloads,
    Services,
    Policies,
    Routes,
    Certificates,
    Connections,
    Denials,
}

impl Part {
    /// Whether every instance of a waypoint has another.
    #[must_use]
    pub fn is_of_one_instance(self) -> bool {
        matches!(self, Self::Connections | Self::Denials)
    }

    /// The field of the dump, and the columns of its table: head and JSON pointer.
    #[must_use]
    pub fn columns(self) -> (&'static str, Columns) {
        match self {
            Self::Workloads => (
                "workloads",
                &[
                    ("NAMESPACE", "/namespace"),
                    ("NAME", "/name"),
                    ("ADDRESSES", "/workloadIps"),
                    ("NODE", "/node"),
                    ("TUNNEL", "/protocol"),
                    ("HEALTH", "/status"),
                    ("WAYPOINT", "/waypoint/destination"),
                ],
            ),
            Self::Services => (
                "services",
                &[
                    ("NAMESPACE", "/namespace"),
                    ("HOSTNAME", "/hostname"),
                    ("ADDRESSES", "/vips"),
                    ("ENDPOINTS", "/endpoints"),
                    ("WAYPOINT", "/waypoint/destination"),
                    ("CANARY", "/weightedWaypoints/1/destination/destination"),
                    ("WEIGHT", "/weightedWaypoints/1/weight"),
                ],
            ),
            Self::Policies => (
                "policies",
                &[
                    ("POLICY", "/key"),
                    ("ACTION", "/action"),
                    ("SCOPE", "/scope"),
                    ("RULES", "/rules"),
                    ("DRY RUN", "/dryRun"),
                    ("UNDECODABLE", "/undecodable"),
                ],
            ),
            Self::Routes => (
                "routes",
                &[
                    ("RULE", "/key"),
                    ("PARENTS", "/parents"),
                    ("MATCHES", "/matches"),
                    ("BACKENDS", "/backends"),
                ],
            ),
            Self::Certificates => (
                "certificates",
                &[
                    ("IDENTITY", "/identity"),
                    ("STATE", "/state"),
                    ("VALID FROM", "/certChain/0/validFrom"),
                    ("EXPIRES", "/certChain/0/expirationTime"),
                    ("ROOTS", "/rootCerts"),
                    ("SERIAL", "/certChain/0/serialNumber"),
                    ("ERROR", "/lastError"),
                ],
            ),
            Self::Connections => (
                "connections",
                &[
                    ("DIRECTION", "/direction"),
                    ("SOURCE", "/source"),
                    ("WORKLOAD", "/sourceWorkload"),
                    ("DESTINATION", "/destination"),
                    ("WORKLOAD", "/destinationWorkload"),
                    ("SERVICE", "/destinationService"),
                    ("SECURITY", "/security"),
                    ("SENT", "/bytesFromClient"),
                    ("RECEIVED", "/bytesToClient"),
                    ("SECONDS", "/seconds"),
                ],
            ),
            Self::Denials => (
                "denials",
                &[
                    ("COUNT", "/count"),
                    ("OVER", "/over"),
                    ("DIRECTION", "/direction"),
                    ("SOURCE", "/source"),
                    ("IDENTITY", "/sourceIdentity"),
                    ("ADDRESS", "/sourceAddress"),
                    ("DESTINATION", "/destination"),
                    ("ADDRESS", "/destinationAddress"),
                    ("SERVICE", "/service"),
                    ("PORT", "/port"),
                    ("LAST", "/lastSeen"),
                    ("REASON", "/reason"),
                ],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::table::table;

    #[test]
    fn columns_are_aligned() {
        let (_, columns) = Part::Policies.columns();
        let rows = [
            json!({"key": "shop/a", "action": "Allow", "scope": "Namespace", "rules": [{}], "dryRun": false}),
            json!({"key": "shop/longer", "undecodable": "no"}),
        ];
        let expected = "POLICY       ACTION  SCOPE      RULES  DRY RUN  UNDECODABLE\n\
                        shop/a       Allow   Namespace  1      false    -\n\
                        shop/longer  -       -          -      -        no\n";
        assert_eq!(table(columns, &rows), expected);
    }
}
