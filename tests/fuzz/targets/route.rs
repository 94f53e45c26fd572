//! The table of routes finds what looking at every rule finds.
//!
//! The input is text: `@NAME [AGE] [PORT] [CLIENT-NAMESPACE]` begins a rule, the lines after it are its matches, `METHOD`
//! or `*`, then any of `=/exact`, `^regex`, `/prefix`, `?query=value` and `header=value`. `> METHOD /path?query
//! header=value` asks.
#![no_main]

use std::cmp::Reverse;
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::balance::First;
use ambit_http::config::{Change, Config};
use ambit_http::host::Host;
use ambit_http::model::route::{
    Backend, BackendRef, HeaderMatch, Parent, PathMatch, Protocol, QueryMatch, Regex, RouteKey,
    RouteMatch, RouteRule, Timeouts, ValueMatch,
};
use ambit_http::model::{Resource, ResourceKey};
use ambit_http::path::{CanonicalPath, canonical};
use ambit_http::route::{RequestHead, select};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

const PORT: u16 = 80;
const CLIENT: &str = "shop";

fuzz_target!(|text: &str| {
    let (mut rules, requests) = parse(text);
    let mut config = Config::default();
    for rule in &rules {
        config.apply(Change::Set(Resource::Route(Arc::new(rule.clone()))));
    }
    agrees(&config, &rules, &requests);
    for rule in rules.extract_if(.., |rule| rule.key.rule % 2 == 0) {
        config.apply(Change::Remove(ResourceKey::Route(rule.key)));
    }
    agrees(&config, &rules, &requests);
});

fn agrees(config: &Config, rules: &[RouteRule], requests: &[Request]) {
    let host = Host::parse("echo").expect("a host");
    for request in requests {
        let head = RequestHead {
            method: &request.method,
            host: &host,
            path: &request.path,
            headers: &request.headers,
            scheme: "http",
        };
        let routes = config.routes(&service(), PORT, CLIENT);
        let plan = routes.and_then(|routes| select(&routes, &head, &mut First).ok());
        let found = plan.and_then(|plan| plan.rule).map(|rule| rule.key.clone());
        assert_eq!(found, naive(rules, request), "{request:?} {rules:#?}");
    }
}

/// As the Gateway API tells it: every match is looked at, the best wins.
fn naive(rules: &[RouteRule], request: &Request) -> Option<RouteKey> {
    let here = |rule: &&RouteRule| {
        rule.parents
            .iter()
            .any(|it| it.port.is_none_or(|it| it == PORT))
    };
    let own = |rule: &&RouteRule| rule.consumer.as_deref() == Some(CLIENT);
    let any_own = rules.iter().filter(here).any(|rule| own(&rule));
    let seen = |rule: &&RouteRule| {
        if any_own {
            own(rule)
        } else {
            rule.consumer.is_none()
        }
    };
    let everything = [RouteMatch::default()];
    let ranked = rules.iter().filter(here).filter(seen).flat_map(|rule| {
        let matches = if rule.matches.is_empty() {
            &everything[..]
        } else {
            &rule.matches
        };
        let ranks = matches.iter().filter_map(|it| rank(it, request));
        ranks.map(move |rank| {
            let age = if rule.created == 0 {
                i64::MAX
            } else {
                rule.created
            };
            (rank, Reverse((age, rule.key.clone())))
        })
    });
    ranked.max().map(|(_, Reverse((_, key)))| key)
}

/// Kind of path, length of it, method, headers, query.
type Rank = (u8, usize, bool, usize, usize);

fn rank(condition: &RouteMatch, request: &Request) -> Option<Rank> {
    let path = request.path.path();
    let (kind, length) = match &condition.path {
        None => (1, 0),
        Some(PathMatch::Exact(text)) => (**text == *path).then_some((2, 0))?,
        Some(PathMatch::Prefix(text)) => {
            let text = text.trim_end_matches('/');
            let below = path.strip_prefix(text)?;
            (below.is_empty() || below.starts_with('/')).then_some((1, text.len()))?
        }
        Some(PathMatch::Regex(regex)) => {
            regex.matches(path).then_some((0, regex.as_str().len()))?
        }
    };
    let fits = |wanted: &ValueMatch, found: &str| match wanted {
        ValueMatch::Exact(text) => **text == *found,
        ValueMatch::Regex(regex) => regex.matches(found),
    };
    let header = |it: &HeaderMatch| {
        let values = request.headers.get_all(&it.name).iter();
        // What is no text equals nothing.
        let values: Result<Vec<_>, _> = values.map(|it| it.to_str()).collect();
        let values = values.unwrap_or_default();
        !values.is_empty() && fits(&it.value, &values.join(","))
    };
    let query = |it: &QueryMatch| {
        let mut pairs = request.path.query().unwrap_or_default().split('&');
        let pair = pairs.find(|pair| pair.split('=').next() == Some(&*it.name));
        pair.is_some_and(|it2| {
            fits(
                &it.value,
                it2.split_once('=').map_or("", |(_, value)| value),
            )
        })
    };
    let all = condition
        .method
        .as_ref()
        .is_none_or(|it| *it == request.method)
        && condition.headers.iter().all(header)
        && condition.query.iter().all(query);
    let counts = (condition.headers.len(), condition.query.len());
    all.then_some((kind, length, condition.method.is_some(), counts.0, counts.1))
}

#[derive(Debug)]
struct Request {
    method: Method,
    path: CanonicalPath,
    headers: HeaderMap,
}

fn service() -> NamespacedName {
    NamespacedName::new("ns", "echo")
}

fn parse(text: &str) -> (Vec<RouteRule>, Vec<Request>) {
    let (mut rules, mut requests) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None => {}
            Some(">") => requests.extend(request(words)),
            Some(word) => match (word.strip_prefix('@'), rules.last_mut()) {
                (Some(name), _) => rules.push(rule(name, rules.len(), words)),
                (None, Some(rule)) => rule.matches.extend(condition(word, words)),
                (None, None) => {}
            },
        }
    }
    (rules, requests)
}

fn rule<'t>(name: &str, number: usize, mut words: impl Iterator<Item = &'t str>) -> RouteRule {
    let created = words.next().and_then(|it| it.parse().ok()).unwrap_or(0);
    let port = words.next().and_then(|it| it.parse().ok());
    RouteRule {
        key: RouteKey {
            protocol: Protocol::Http,
            route: NamespacedName::new("ns", name),
            rule: u16::try_from(number).unwrap_or(u16::MAX),
        },
        parents: vec![Parent {
            service: service(),
            port,
        }],
        created,
        consumer: words.next().map(Arc::from),
        sni: Vec::new(),
        matches: Vec::new(),
        filters: Vec::new(),
        backends: vec![Backend {
            weight: 1,
            backend: BackendRef::Service {
                service: service(),
                port: PORT,
            },
            filters: Vec::new(),
        }],
        timeouts: Timeouts::default(),
        retry: None,
        invalid: None,
    }
}

fn condition<'t>(verb: &str, words: impl Iterator<Item = &'t str>) -> Option<RouteMatch> {
    let method = if verb == "*" {
        None
    } else {
        Some(verb.parse().ok()?)
    };
    let mut condition = RouteMatch {
        method,
        ..RouteMatch::default()
    };
    for word in words {
        let value = |text: &str| ValueMatch::Exact(text.into());
        if let Some(path) = word.strip_prefix('=') {
            condition.path = Some(PathMatch::Exact(path.into()));
        } else if let Some(regex) = word.strip_prefix('^') {
            condition.path = Some(PathMatch::Regex(Regex::new(regex).ok()?));
        } else if word.starts_with('/') {
            condition.path = Some(PathMatch::Prefix(word.into()));
        } else if let Some((name, found)) = word.strip_prefix('?').and_then(|it| it.split_once('='))
        {
            condition.query.push(QueryMatch {
                name: name.into(),
                value: value(found),
            });
        } else if let Some((name, found)) = word.split_once('=') {
            condition.headers.push(HeaderMatch {
                name: name.parse().ok()?,
                value: value(found),
            });
        }
    }
    Some(condition)
}

/// Escapes in a query are the business of another test.
fn request<'t>(mut words: impl Iterator<Item = &'t str>) -> Option<Request> {
    let method = words.next()?.parse().ok()?;
    let path = canonical(words.next()?).ok()?;
    if path.query().is_some_and(|query| query.contains(['%', '+'])) {
        return None;
    }
    let mut headers = HeaderMap::new();
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        headers.append(
            name.parse::<HeaderName>().ok()?,
            HeaderValue::from_str(value).ok()?,
        );
    }
    Some(Request {
        method,
        path,
        headers,
    })
}
