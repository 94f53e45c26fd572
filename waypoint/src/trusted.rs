//! Proxies in front of the mesh that are believed when they say who calls: an ingress gateway that is enrolled, say.
//!
//! They are told by their certificate. What anybody else writes into `x-forwarded-for` is as if it were not there.

use std::collections::BTreeMap;

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_proxy::config::value::Value;
use serde::{Serialize, Serializer};

/// Proxies that one request may have come through.
const MOST: u8 = 16;

/// By `NAMESPACE/SERVICEACCOUNT` of the mesh's own trust domain: how many proxies have added to the `x-forwarded-for` they
/// send, themselves among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(BTreeMap<NamespacedName, u8>);

impl TrustedProxies {
    /// How many entries of what `caller` sends are of proxies; 0 of whoever is not trusted.
    #[must_use]
    pub fn hops(&self, own: &Identity, caller: &Identity) -> u8 {
        if self.0.is_empty() || caller.trust_domain() != own.trust_domain() {
            return 0;
        }
        let name =
            NamespacedName::new(caller.namespace().clone(), caller.service_account().clone());
        self.0.get(&name).copied().unwrap_or_default()
    }
}

impl Value for TrustedProxies {
    const ACCEPTS: &'static str = "NAMESPACE/SERVICEACCOUNT[:PROXIES], separated by commas";

    fn read(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|it| !it.is_empty());
        entries.map(entry).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> String {
        let entries = self.0.iter().map(|(name, hops)| format!("{name}:{hops}"));
        entries.collect::<Vec<_>>().join(",")
    }
}

fn entry(text: &str) -> Result<(NamespacedName, u8), String> {
    let (name, hops) = text.split_once(':').unwrap_or((text, "1"));
    let hops = hops.parse().ok().filter(|hops| (1..=MOST).contains(hops));
    let hops = hops.ok_or_else(|| format!("{text}: 1 to {MOST} proxies"))?;
    let name = name.parse();
    let name = name.map_err(|_| format!("{text}: a namespace and a service account"))?;
    Ok((name, hops))
}

impl Serialize for TrustedProxies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.show())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(text: &str) -> Identity {
        text.parse().expect("an identity")
    }

    #[test]
    fn who_is_named_is_believed_as_far_as_it_says() {
        let trusted = TrustedProxies::read("ingress/gateway, edge/proxy:2,").expect("a list");
        assert_eq!(trusted.show(), "edge/proxy:2,ingress/gateway:1");
        assert_eq!(TrustedProxies::read(&trusted.show()), Ok(trusted.clone()));
        let own = identity("spiffe://td/ns/shop/sa/waypoint");
        for (caller, hops) in [
            ("spiffe://td/ns/ingress/sa/gateway", 1),
            ("spiffe://td/ns/edge/sa/proxy", 2),
            ("spiffe://td/ns/edge/sa/gateway", 0),
            ("spiffe://other/ns/ingress/sa/gateway", 0),
        ] {
            assert_eq!(trusted.hops(&own, &identity(caller)), hops, "{caller}");
        }
        let nobody = TrustedProxies::default();
        assert_eq!(nobody.hops(&own, &own), 0);
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for text in [
            "gateway",
            "/gateway",
            "ingress/",
            "a/b/c",
            "ingress/gateway:0",
            "ingress/gateway:17",
            "a/b:c",
        ] {
            let error = TrustedProxies::read(text).expect_err(text);
            assert!(error.starts_with(text), "{error}");
        }
    }
}
