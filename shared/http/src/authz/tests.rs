use std::net::{IpAddr, SocketAddr};

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::model::ServiceAccountMatch;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::*;
use crate::jwt::Claims;
use crate::model::TextMatch;
use crate::model::policy::{
    Action, Condition, Operation, PathPattern, Policy, Rule, Source, Values,
};

mod order;
mod property;
mod rules;
mod tcp;

/// A request as a test writes it.
struct Request {
    source: Option<Identity>,
    source_ip: IpAddr,
    remote_ip: IpAddr,
    destination: SocketAddr,
    sni: Option<&'static str>,
    host: &'static str,
    method: Method,
    path: &'static str,
    headers: HeaderMap,
    claims: Option<Claims>,
}

impl Request {
    fn http(&self) -> Facts<'_> {
        let request = Some(RequestFacts {
            host: self.host,
            method: &self.method,
            path: self.path,
            headers: &self.headers,
            claims: self.claims.as_ref(),
        });
        Facts {
            request,
            ..self.tcp()
        }
    }

    fn tcp(&self) -> Facts<'_> {
        Facts {
            source: self.source.as_ref(),
            source_ip: self.source_ip,
            remote_ip: self.remote_ip,
            destination: self.destination,
            sni: self.sni,
            request: None,
        }
    }
}

/// `GET shop.example.com/api/items` of `shop/web` with a token.
fn request() -> Request {
    Request {
        source: Some(Identity::new("cluster.local", "shop", "web").expect("valid")),
        source_ip: "10.0.0.7".parse().expect("an address"),
        remote_ip: "203.0.113.9".parse().expect("an address"),
        destination: "10.1.0.1:8080".parse().expect("an address"),
        sni: Some("shop.example.com"),
        host: "shop.example.com",
        method: Method::GET,
        path: "/api/items",
        headers: headers(&[("x-role", "user"), ("x-role", "staff"), ("x-empty", "")]),
        claims: Some(claims(json!({
            "iss": "issuer",
            "sub": "alice",
            "aud": ["a1", "a2"],
            "azp": "app",
            "scope": "read write",
            "roles": ["dev", "ops"],
            "level": 3,
            "admin": true,
            "none": "",
            "org": {"team": {"name": "blue"}, "tags": ["x", "y"]},
        }))),
    }
}

/// The same without identity, token, SNI and headers.
fn bare() -> Request {
    Request {
        source: None,
        sni: None,
        headers: HeaderMap::new(),
        claims: None,
        ..request()
    }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, value);
    }
    headers
}

fn claims(value: Value) -> Claims {
    let Value::Object(claims) = value else {
        panic!("claims are an object");
    };
    Claims::verified(claims)
}

fn policy(key: &str, action: Action, rules: Vec<Rule>) -> Policy {
    Policy {
        key: name(key),
        targets: Vec::new(),
        action,
        rules,
        dry_run: false,
        undecodable: None,
    }
}

fn name(key: &str) -> NamespacedName {
    key.parse().expect("namespace/name")
}

fn text(pattern: &str) -> TextMatch {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => TextMatch::Present,
        (Some(suffix), _) => TextMatch::Suffix(suffix.into()),
        (_, Some(prefix)) => TextMatch::Prefix(prefix.into()),
        (None, None) => TextMatch::Exact(pattern.into()),
    }
}

fn any<T>(value: T) -> Values<T> {
    Values {
        any: vec![value],
        none: Vec::new(),
    }
}

fn none<T>(value: T) -> Values<T> {
    Values {
        any: Vec::new(),
        none: vec![value],
    }
}

fn from(source: Source) -> Rule {
    Rule {
        from: vec![source],
        ..Rule::default()
    }
}

fn to(operation: Operation) -> Rule {
    Rule {
        to: vec![operation],
        ..Rule::default()
    }
}

fn when(condition: Condition) -> Rule {
    Rule {
        when: vec![condition],
        ..Rule::default()
    }
}

fn header(name: &'static str, values: Values<TextMatch>) -> Condition {
    Condition::Header(HeaderName::from_static(name), values)
}

fn claim(path: &[&str], values: Values<TextMatch>) -> Condition {
    Condition::Claim(path.iter().map(|part| (*part).into()).collect(), values)
}

fn in_namespace(namespace: &str) -> Source {
    Source {
        namespaces: any(text(namespace)),
        ..Source::default()
    }
}

fn on_path(path: &str) -> Operation {
    Operation {
        paths: any(PathPattern::Text(text(path))),
        ..Operation::default()
    }
}

/// Whether a policy of this action with one rule matches.
fn matches(action: Action, rule: &Rule, facts: &Facts<'_>) -> bool {
    matching_rule(&policy("ns/p", action, vec![rule.clone()]), facts).is_some()
}
