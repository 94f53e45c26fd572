//! The same cases as the configuration of an Envoy: its routes in the order of the Gateway API's precedence,
//! since it takes the first that matches.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::model::{Backend, Case, Edits, Match, PathEdit, PathMatch, Rule, SERVERS, Text};

/// The port of a server, in the same pod.
pub(super) fn server_port(server: usize) -> usize {
    9000 + server
}

/// The port of a case.
pub(super) fn port(case: usize) -> u16 {
    u16::try_from(10_000 + case).expect("some thousand cases")
}

/// All of it: a listener for each case, a cluster for each server.
pub(super) fn config(cases: &[Case]) -> Value {
    let address =
        |ip: &str, port: Value| json!({"socket_address": {"address": ip, "port_value": port}});
    let listeners = cases.iter().map(|case| {
        json!({
            "name": format!("case-{}", case.number),
            "address": address("0.0.0.0", port(case.number).into()),
            "filter_chains": [{"filters": [manager(case)]}],
        })
    });
    let clusters = SERVERS.iter().enumerate().map(|(at, name)| {
        let endpoint =
            json!({"endpoint": {"address": address("127.0.0.1", server_port(at).into())}});
        json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "5s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        })
    });
    json!({"static_resources": {
        "listeners": listeners.collect::<Vec<_>>(),
        "clusters": clusters.collect::<Vec<_>>(),
    }})
}

/// As a waypoint has it: one canonical path, what has two readings refused, no word of the proxy's own.
fn manager(case: &Case) -> Value {
    let router = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "suppress_envoy_headers": true,
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "case",
        "normalize_path": true,
        "merge_slashes": true,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {"headers_with_underscores_action": "DROP_HEADER"},
        "use_remote_address": true,
        // Its own second after every answer that it closes with is most of this test's time.
        "delayed_close_timeout": "0.05s",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {
            "most_specific_header_mutations_wins": true,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes(case)}],
        },
    });
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager})
}

fn routes(case: &Case) -> Vec<Value> {
    let everything = [Match::default()];
    let mut all: Vec<(&Match, &Rule)> = Vec::new();
    for rule in case.routes.iter().flatten() {
        let matches = match rule.matches.is_empty() {
            true => &everything[..],
            false => &rule.matches,
        };
        all.extend(matches.iter().map(|it| (it, rule)));
    }
    // Stable: objects by name, rules in their order.
    all.sort_by_key(|(it, _)| precedence(it));
    all.into_iter().map(|(it, rule)| route(it, rule)).collect()
}

/// HTTPRouteRule.matches; regular expressions, which it leaves to implementations, come last as in Istio.
fn precedence(it: &Match) -> impl Ord + use<> {
    let path = match &it.path {
        Some(PathMatch::Exact(_)) => (0, Reverse(0)),
        Some(PathMatch::Prefix(prefix)) => (1, Reverse(prefix.trim_end_matches('/').len())),
        None => (1, Reverse(0)),
        Some(PathMatch::Regex(regex, _)) => (2, Reverse(regex.len())),
    };
    (
        path,
        Reverse(it.method.is_some()),
        Reverse(it.headers.len()),
        Reverse(it.query.len()),
    )
}

fn route(it: &Match, rule: &Rule) -> Value {
    let mut route = json!({"match": condition(it)});
    let backend = rule.server();
    match (&rule.redirect, backend) {
        (Some(_), _) => route["redirect"] = redirect(it, rule),
        (None, None) => route["direct_response"] = json!({"status": 500}),
        (None, Some(backend)) => route["route"] = action(it, rule, backend),
    }
    edit(&mut route, rule.request.as_ref(), rule.response.as_ref());
    route
}

fn condition(it: &Match) -> Value {
    let mut condition = match &it.path {
        Some(PathMatch::Exact(path)) => json!({"path": path}),
        Some(PathMatch::Regex(regex, _)) => json!({"safe_regex": {"regex": regex}}),
        Some(PathMatch::Prefix(prefix)) if !prefix.trim_end_matches('/').is_empty() => {
            json!({"path_separated_prefix": prefix.trim_end_matches('/')})
        }
        _ => json!({"prefix": "/"}),
    };
    let text = |text: &Text| match text {
        Text::Exact(text) => json!({"exact": text}),
        Text::Regex(regex, _) => json!({"safe_regex": {"regex": regex}}),
    };
    let method = it
        .method
        .map(|method| (":method", json!({"exact": method})));
    let headers = it.headers.iter().map(|(name, value)| (*name, text(value)));
    condition["headers"] = method
        .into_iter()
        .chain(headers)
        .map(|(name, value)| json!({"name": name, "string_match": value}))
        .collect();
    condition["query_parameters"] = it
        .query
        .iter()
        .map(|(name, value)| json!({"name": name, "string_match": text(value)}))
        .collect();
    condition
}

fn action(it: &Match, rule: &Rule, backend: &Backend) -> Value {
    let mut cluster = json!({"name": backend.server, "weight": 1});
    edit(
        &mut cluster,
        backend.request.as_ref(),
        backend.response.as_ref(),
    );
    let mut action = json!({"weighted_clusters": {"clusters": [cluster]}});
    if let Some(rewrite) = &rule.rewrite {
        if let Some(host) = rewrite.host {
            action["host_rewrite_literal"] = host.into();
        }
        if let Some(path) = &rewrite.path {
            action["regex_rewrite"] = path_edit(it, path);
        }
    }
    action
}

/// Whole elements are replaced, and a path is never empty.
fn path_edit(it: &Match, edit: &PathEdit) -> Value {
    let (regex, substitution) = match edit {
        PathEdit::Full(path) => ("^.*$".to_owned(), (*path).to_owned()),
        PathEdit::Prefix(path) => {
            let matched = it.prefix().unwrap_or_default().trim_end_matches('/');
            match path.trim_end_matches('/') {
                "" => (format!("^{matched}/?(.*)$"), "/\\1".to_owned()),
                path => (format!("^{matched}(.*)$"), format!("{path}\\1")),
            }
        }
    };
    json!({"pattern": {"regex": regex}, "substitution": substitution})
}

fn redirect(it: &Match, rule: &Rule) -> Value {
    let Some(redirect) = &rule.redirect else {
        return Value::Null;
    };
    let mut action = json!({"response_code": match redirect.status {
        301 => "MOVED_PERMANENTLY",
        303 => "SEE_OTHER",
        307 => "TEMPORARY_REDIRECT",
        308 => "PERMANENT_REDIRECT",
        _ => "FOUND",
    }});
    if let Some(scheme) = redirect.scheme {
        action["scheme_redirect"] = scheme.into();
    }
    if let Some(host) = redirect.host {
        action["host_redirect"] = host.into();
    }
    // A scheme brings its own port.
    let own = redirect
        .scheme
        .map(|scheme| if scheme == "https" { 443 } else { 80 });
    if let Some(port) = redirect.port.or(own) {
        action["port_redirect"] = port.into();
    }
    match &redirect.path {
        Some(PathEdit::Full(path)) => action["path_redirect"] = (*path).into(),
        Some(edit) => action["regex_rewrite"] = path_edit(it, edit),
        None => {}
    }
    action
}

fn edit(place: &mut Value, request: Option<&Edits>, response: Option<&Edits>) {
    for (edits, what) in [(request, "request"), (response, "response")] {
        let Some(Edits { set, add, remove }) = edits else {
            continue;
        };
        let header = |(name, value): &(&str, &str), action: &str| json!({"header": {"key": name, "value": value}, "append_action": action});
        let set = set
            .iter()
            .map(|it| header(it, "OVERWRITE_IF_EXISTS_OR_ADD"));
        let add = add.iter().map(|it| header(it, "APPEND_IF_EXISTS_OR_ADD"));
        place[format!("{what}_headers_to_add")] = set.chain(add).collect();
        place[format!("{what}_headers_to_remove")] = json!(remove);
    }
}
