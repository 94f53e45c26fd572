//! What the mesh's parts are told of the names of its trust domain.

use std::collections::BTreeMap;

use ambit_core::trust_domain::{TrustDomain, TrustDomainError, TrustDomains};

/// The variable of the own name.
pub(super) const OWN: &str = "TRUST_DOMAIN";
/// The variable of the aliases.
const ALIASES: &str = "AMBIT_TRUST_DOMAIN_ALIASES";

/// The names as a part of the mesh reads them in its environment.
///
/// # Errors
/// What does not read.
pub(super) fn of(env: &BTreeMap<String, String>) -> Result<TrustDomains, String> {
    let words = |error: TrustDomainError| error.to_string();
    let own = env
        .get(OWN)
        .map_or(Ok(TrustDomain::default()), |it| it.parse());
    let aliases = env.get(ALIASES).map_or("", String::as_str).parse();
    Ok(TrustDomains::new(
        own.map_err(words)?,
        aliases.map_err(words)?,
    ))
}
