//! Principals of trust domains that are not the mesh's: nobody who is believed has them. What is left over from before a trust
//! domain was renamed looks like that, and a DENY of it denies nobody.

use std::collections::BTreeSet;

use ambit_core::trust_domain::DEFAULT_TRUST_DOMAIN;

use super::Mesh;
use crate::source::istio::Rule;

/// What the author of these rules should know of the trust domains that they name.
#[must_use]
pub fn notices(rules: &[Rule], mesh: &Mesh) -> Vec<String> {
    let names = &mesh.trust_domains;
    let strangers: BTreeSet<&str> = principals(rules)
        .filter_map(|principal| principal.split_once('/'))
        .map(|(domain, _)| domain)
        .filter(|domain| !domain.contains('*') && !domain.ends_with(':') && !domain.is_empty())
        .filter(|domain| *domain != DEFAULT_TRUST_DOMAIN && !names.contains(domain))
        .collect();
    let own = names.own();
    let notice = |domain| {
        format!(
            "principals of trust domain {domain:?} are nobody's: the mesh is {own:?}, and {domain:?} is no alias of it"
        )
    };
    strangers.into_iter().map(notice).collect()
}

fn principals(rules: &[Rule]) -> impl Iterator<Item = &str> {
    let sources = rules.iter().flat_map(|rule| &rule.from);
    let sources = sources.flat_map(|from| [&from.source.principals, &from.source.not_principals]);
    let conditions = rules.iter().flat_map(|rule| &rule.when);
    let conditions = conditions
        .filter(|condition| condition.key == "source.principal")
        .flat_map(|condition| [&condition.values, &condition.not_values]);
    sources.chain(conditions).flatten().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_domains_that_nobody_is_of_are_named_once() {
        let rules = "
- from:
  - source: {principals: [new/ns/a/sa/b, old/ns/*, cluster.local/ns/a/sa/b, '*/ns/a/sa/b', '*', 'gone*', 'spiffe://x/ns/a/sa/b']}
  - source: {notPrincipals: [gone/ns/a/sa/b, lost/ns/*], namespaces: [other/ns]}
  when:
  - {key: source.principal, values: [gone/ns/a/sa/c], notValues: [far/ns/a/sa/c]}
  - {key: request.auth.principal, values: [issuer/subject]}
";
        let rules: Vec<Rule> = serde_saphyr::from_str(rules).expect("rules");
        let found = notices(&rules, &Mesh::renamed("new", "old"));
        let named = ["far", "gone", "lost"].map(|domain| {
            format!(
                "principals of trust domain {domain:?} are nobody's: the mesh is \"new\", and {domain:?} is no alias of it"
            )
        });
        assert_eq!(found, named);
    }
}
