use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::*;
use crate::authz::{Facts, matches};
use crate::model::Match;
use StringMatch as S;

fn names(own: &str, aliases: &str) -> TrustDomains {
    let own = own.parse().expect("a trust domain");
    TrustDomains::new(own, aliases.parse().expect("aliases"))
}

fn identity(text: &str) -> Identity {
    format!("spiffe://{text}").parse().expect("an identity")
}

/// A pattern as policies write it.
fn pattern(text: &str) -> S {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        _ if text == "*" => S::Presence,
        (Some(end), _) => S::Suffix(end.into()),
        (_, Some(start)) => S::Prefix(start.into()),
        _ => S::Exact(text.into()),
    }
}

fn written(pattern: &S) -> String {
    match pattern {
        S::Presence => "*".to_owned(),
        S::Suffix(end) => format!("*{end}"),
        S::Prefix(start) => format!("{start}*"),
        S::Exact(text) => text.to_string(),
    }
}

fn spelt(names: &TrustDomains, principals: &[&str]) -> Vec<String> {
    let mut patterns = principals.iter().map(|it| pattern(it)).collect();
    names.spell_out(&mut patterns);
    patterns.iter().map(written).collect()
}

fn holds(any: Vec<S>, none: Vec<S>, caller: &Identity) -> bool {
    let found = Match {
        principals: any,
        not_principals: none,
        ..Match::default()
    };
    let nowhere = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let facts = Facts {
        source: Some(caller),
        source_ip: nowhere,
        destination: SocketAddr::new(nowhere, 80),
    };
    matches(&found, &facts)
}

#[test]
fn lists_of_aliases() {
    let long = "a".repeat(256);
    let cases: [(&str, Result<&str, &str>); 9] = [
        ("", Ok("")),
        (" , ", Ok("")),
        ("old", Ok("old")),
        ("old, older.example,old,", Ok("old,older.example")),
        ("a,b,c,d,e,f,g,h,a", Ok("a,b,c,d,e,f,g,h")),
        ("a,b,c,d,e,f,g,h,i", Err("8 aliases at most")),
        ("old,a/b", Err("\"a/b\": the trust domain of a SPIFFE id")),
        ("spiffe://old", Err("\"spiffe://old\": ")),
        (&long, Err("255 bytes at most, this one has 256")),
    ];
    for (text, expected) in cases {
        match (text.parse::<Aliases>(), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.to_string(), expected, "{text}"),
            (Err(error), Err(reason)) => {
                let error = error.to_string();
                assert!(error.contains(reason), "{text}: {error}");
            }
            (found, _) => panic!("{text}: {found:?}"),
        }
    }
}

#[test]
fn identities_of_aliases_are_settled() {
    // The own name among the aliases says nothing.
    let names = names("new", "new,old,older");
    assert_eq!(names.aliases().to_string(), "old,older");
    for (shown, settled) in [
        ("new/ns/a/sa/b", "new/ns/a/sa/b"),
        ("old/ns/a/sa/b", "new/ns/a/sa/b"),
        ("older/ns/c/sa/d", "new/ns/c/sa/d"),
        ("oldest/ns/a/sa/b", "oldest/ns/a/sa/b"),
        ("OLD/ns/a/sa/b", "OLD/ns/a/sa/b"),
        // In certificates it is a name as any other.
        ("cluster.local/ns/a/sa/b", "cluster.local/ns/a/sa/b"),
    ] {
        let shown = identity(shown);
        assert_eq!(names.is_settled(&shown), shown == identity(settled));
        assert_eq!(names.settle(shown), identity(settled));
    }
    for (name, one_of_them) in [
        ("new", true),
        ("older", true),
        ("oldest", false),
        ("", false),
    ] {
        assert_eq!(names.contains(name), one_of_them, "{name}");
    }
}

#[test]
fn principals_under_every_name() {
    let plain = TrustDomains::default();
    let renamed = names("new.org", "old.net");
    let from_default = names("new.org", "cluster.local");
    let cases: [(&TrustDomains, &[&str], &[&str]); 24] = [
        (&plain, &["cluster.local/ns/a/sa/b"], &[]),
        (
            &plain,
            &["clu*", "*", "*/sa/x", "*local/ns/a/sa/b", "td/ns/a/sa/b"],
            &[],
        ),
        (&renamed, &["new.org/ns/a/sa/b"], &["old.net/ns/a/sa/b"]),
        (&renamed, &["old.net/ns/a/sa/b"], &["new.org/ns/a/sa/b"]),
        (
            &renamed,
            &["cluster.local/ns/a/sa/b"],
            &["new.org/ns/a/sa/b", "old.net/ns/a/sa/b"],
        ),
        (&renamed, &["old.net/ns/a/sa/b", "new.org/ns/a/sa/b"], &[]),
        (
            &renamed,
            &["other/ns/a/sa/b", "new.orga/ns/a/sa/b", "new.org"],
            &[],
        ),
        (&renamed, &["new.org/ns/*"], &["old.net/ns/*"]),
        (
            &renamed,
            &["cluster.local/ns/*"],
            &["new.org/ns/*", "old.net/ns/*"],
        ),
        (&renamed, &["other/ns/*"], &[]),
        (&renamed, &["old*"], &["new.org/*"]),
        (&renamed, &["new.org*"], &["old.net/*"]),
        (&renamed, &["new.org/*"], &["old.net/*"]),
        (&renamed, &["other*"], &[]),
        (&renamed, &["*"], &[]),
        (
            &renamed,
            &["*/sa/x", "*x", "*/ns/a/sa/x", "*ns/a/sa/x"],
            &[],
        ),
        (&renamed, &["*.org/ns/a/sa/b"], &["old.net/ns/a/sa/b"]),
        (&renamed, &["*et/ns/a/sa/b"], &["new.org/ns/a/sa/b"]),
        (&renamed, &["*new.org/ns/a/sa/b"], &["old.net/ns/a/sa/b"]),
        (
            &renamed,
            &["*local/ns/a/sa/b"],
            &["new.org/ns/a/sa/b", "old.net/ns/a/sa/b"],
        ),
        (&renamed, &["*other/ns/a/sa/b", "*x/old.net/ns/a/sa/b"], &[]),
        (
            &from_default,
            &["cluster.local/ns/a/sa/b"],
            &["new.org/ns/a/sa/b"],
        ),
        (
            &from_default,
            &["new.org/ns/a/sa/b"],
            &["cluster.local/ns/a/sa/b"],
        ),
        (&from_default, &["c*"], &["new.org/*"]),
    ];
    for (names, principals, more) in cases {
        let expected: Vec<_> = principals.iter().chain(more).copied().collect();
        assert_eq!(spelt(names, principals), *expected, "{principals:?}");
    }
}

/// Every pattern that could be made of an identity, against every identity.
#[test]
fn an_identity_matches_under_every_name_if_it_matches_under_one() {
    let names = names("new", "old,elder");
    let mesh = ["new", "old", "elder"];
    let spellings = ["new", "old", "elder", "cluster.local"];
    let domains = ["new", "old", "elder", "cluster.local", "other"];
    let parties = ["/ns/a/sa/b", "/ns/a/sa/c", "/ns/c/sa/b"];
    let mut patterns = vec![S::Presence];
    for domain in domains {
        let text = format!("{domain}{}", parties[0]);
        patterns.push(S::Exact(text.as_str().into()));
        for at in 1..text.len() {
            patterns.push(S::Prefix(text[..at].into()));
            patterns.push(S::Suffix(text[at..].into()));
        }
    }
    let mut matched = 0;
    for pattern in &patterns {
        let one = vec![pattern.clone()];
        let mut spelt = one.clone();
        names.spell_out(&mut spelt);
        // What control has spelled out a proxy spells out again.
        let mut again = spelt.clone();
        names.spell_out(&mut again);
        for (party, spelt) in parties
            .iter()
            .flat_map(|party| [(party, &spelt), (party, &again)])
        {
            let of = |domain: &str| identity(&format!("{domain}{party}"));
            let meant = |domain| holds(one.clone(), Vec::new(), &of(domain));
            let expected = spellings.into_iter().any(meant);
            matched += usize::from(expected);
            for domain in mesh {
                let case = format!("{pattern:?}, {domain}{party}");
                let caller = of(domain);
                assert_eq!(holds(spelt.clone(), vec![], &caller), expected, "{case}");
                // What is excepted is the complement.
                assert_eq!(holds(vec![], spelt.clone(), &caller), !expected, "{case}");
            }
            // Who is of no name of the mesh is judged as before.
            assert_eq!(
                holds(spelt.clone(), vec![], &of("other")),
                meant("other"),
                "{pattern:?}, other{party}"
            );
        }
    }
    assert!(matched > 100, "{matched}");
}
