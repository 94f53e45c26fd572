//! A case as Gateway API objects: what the control plane reads.

use serde_json::{Map, Value, json};

use super::model::{Case, Edits, Match, PathEdit, PathMatch, Redirect, Rewrite, Rule, Text};

/// A service of this name that its routes are attached to, with HTTP on 80 and h2c on 8081.
pub(super) fn service(case: &Case) -> String {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name(case), "namespace": "mesh"},
        "spec": {"selector": {"app": "nobody"}, "ports": [
            {"name": "http", "port": 80},
            {"name": "clear", "port": 8081, "appProtocol": "kubernetes.io/h2c"},
        ]},
    });
    format!("---\n{object}\n")
}

pub(super) fn name(case: &Case) -> String {
    format!("case-{}", case.number)
}

pub(super) fn routes(case: &Case) -> String {
    let objects = case.routes.iter().enumerate().map(|(at, rules)| {
        let rules: Vec<Value> = rules.iter().map(rule).collect();
        let object = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": format!("{}-{at}", name(case)), "namespace": "mesh"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": name(case)}],
                "rules": rules,
            },
        });
        format!("---\n{object}\n")
    });
    objects.collect()
}

fn rule(rule: &Rule) -> Value {
    let mut filters = edits(rule.request.as_ref(), rule.response.as_ref());
    filters.extend(rule.redirect.as_ref().map(redirect));
    filters.extend(rule.rewrite.as_ref().map(rewrite));
    let backends = rule.backends.iter().map(|backend| {
        json!({
            "name": backend.server.unwrap_or("nobody"),
            "port": 80,
            "weight": backend.weight,
            "filters": edits(backend.request.as_ref(), backend.response.as_ref()),
        })
    });
    json!({
        "matches": rule.matches.iter().map(condition).collect::<Vec<_>>(),
        "filters": filters,
        "backendRefs": backends.collect::<Vec<_>>(),
    })
}

fn condition(it: &Match) -> Value {
    let mut object = Map::new();
    if let Some(path) = &it.path {
        let (kind, value) = match path {
            PathMatch::Exact(path) => ("Exact", path.as_str()),
            PathMatch::Prefix(path) => ("PathPrefix", path.as_str()),
            PathMatch::Regex(regex, _) => ("RegularExpression", *regex),
        };
        object.insert("path".into(), json!({"type": kind, "value": value}));
    }
    if let Some(method) = it.method {
        object.insert("method".into(), method.into());
    }
    object.insert("headers".into(), texts(&it.headers));
    object.insert("queryParams".into(), texts(&it.query));
    object.into()
}

fn texts(pairs: &[(&str, Text)]) -> Value {
    let pairs = pairs.iter().map(|(name, text)| {
        let (kind, value) = match text {
            Text::Exact(text) => ("Exact", text),
            Text::Regex(regex, _) => ("RegularExpression", regex),
        };
        json!({"name": name, "type": kind, "value": value})
    });
    pairs.collect()
}

fn edits(request: Option<&Edits>, response: Option<&Edits>) -> Vec<Value> {
    let both = [
        ("RequestHeaderModifier", "requestHeaderModifier", request),
        ("ResponseHeaderModifier", "responseHeaderModifier", response),
    ];
    let pairs = |list: &[(&str, &str)]| -> Value {
        let pairs = list.iter();
        pairs
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect()
    };
    let filters = both.into_iter().filter_map(|(kind, field, edits)| {
        let Edits { set, add, remove } = edits?;
        let edits = json!({"set": pairs(set), "add": pairs(add), "remove": remove});
        Some(json!({"type": kind, field: edits}))
    });
    filters.collect()
}

fn redirect(it: &Redirect) -> Value {
    let mut object = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        object.extend(value.map(|value| (name.to_owned(), value)));
    };
    set("scheme", it.scheme.map(Into::into));
    set("hostname", it.host.map(Into::into));
    set("port", it.port.map(Into::into));
    set("path", it.path.as_ref().map(path_edit));
    set("statusCode", Some(it.status.into()));
    json!({"type": "RequestRedirect", "requestRedirect": object})
}

fn rewrite(it: &Rewrite) -> Value {
    let mut object = Map::new();
    object.extend(it.host.map(|host| ("hostname".to_owned(), host.into())));
    object.extend(
        it.path
            .as_ref()
            .map(|path| ("path".to_owned(), path_edit(path))),
    );
    json!({"type": "URLRewrite", "urlRewrite": object})
}

fn path_edit(edit: &PathEdit) -> Value {
    match edit {
        PathEdit::Full(path) => json!({"type": "ReplaceFullPath", "replaceFullPath": path}),
        PathEdit::Prefix(path) => {
            json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": path})
        }
    }
}
