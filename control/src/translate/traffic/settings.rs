//! `trafficPolicy` of a DestinationRule: what is honoured, and what is said to have no effect.

use std::time::Duration;

use ambit_http::model::TrafficPolicy;
use ambit_http::model::traffic::{Balance, HashKey, Limits, Outlier};

use crate::source::networking;
use crate::translate::values;

/// `base` with what a traffic policy says.
pub(super) fn settings(
    policy: &networking::TrafficPolicy,
    base: &TrafficPolicy,
    at: &str,
    notes: &mut Notes,
) -> TrafficPolicy {
    for (field, there) in [
        ("tls", policy.tls.is_some()),
        ("tunnel", policy.tunnel.is_some()),
        ("proxyProtocol", policy.proxy_protocol.is_some()),
        ("retryBudget", policy.retry_budget.is_some()),
    ] {
        notes.unless(!there, format!("{at}{field}"));
    }
    let mut found = base.clone();
    if let Some(balancer) = &policy.load_balancer {
        balance(balancer, &format!("{at}loadBalancer."), &mut found, notes);
    }
    if let Some(pool) = &policy.connection_pool {
        found.limits = limits(pool, &format!("{at}connectionPool."), notes);
    }
    if let Some(detection) = &policy.outlier_detection {
        found.outlier = Some(outlier(detection, &format!("{at}outlierDetection."), notes));
    }
    found
}

fn balance(
    balancer: &networking::LoadBalancer,
    at: &str,
    found: &mut TrafficPolicy,
    notes: &mut Notes,
) {
    notes.unless(
        balancer.locality_lb_setting.is_none(),
        format!("{at}localityLbSetting"),
    );
    let warmup = balancer.warmup.as_ref();
    if let Some(warmup) = warmup {
        let plain = warmup.minimum_percent.is_none() && warmup.aggression.is_none();
        notes.unless(plain, format!("{at}warmup.minimumPercent or aggression"));
    }
    let duration = warmup.and_then(|warmup| warmup.duration.as_deref());
    let duration = duration.or(balancer.warmup_duration_secs.as_deref());
    found.slow_start = notes
        .duration(format!("{at}warmup.duration"), duration)
        .filter(|duration| !duration.is_zero());
    found.balance = match balancer.simple.as_deref() {
        None | Some("" | "UNSPECIFIED") => found.balance.clone(),
        Some("LEAST_REQUEST" | "LEAST_CONN") => Balance::LeastRequest,
        Some("RANDOM") => Balance::Random,
        Some("ROUND_ROBIN") => Balance::RoundRobin,
        Some(other) => {
            notes.unless(false, format!("{at}simple {other}"));
            found.balance.clone()
        }
    };
    if let Some(hash) = &balancer.consistent_hash {
        match hash_key(hash, notes, at) {
            Ok(key) => found.balance = Balance::ConsistentHash(key),
            Err(error) => notes
                .problems
                .push(format!("{at}consistentHash: {error}; it has no effect")),
        }
    }
}

fn hash_key(
    hash: &networking::ConsistentHash,
    notes: &mut Notes,
    at: &str,
) -> Result<HashKey, String> {
    let tuned =
        hash.ring_hash.is_some() || hash.maglev.is_some() || hash.minimum_ring_size.is_some();
    notes.unless(
        !tuned,
        format!("{at}consistentHash ringHash, maglev or minimumRingSize"),
    );
    if let Some(name) = &hash.http_header_name {
        return values::header(name).map(HashKey::Header);
    }
    if let Some(cookie) = &hash.http_cookie {
        notes.unless(
            cookie.path.is_none() && cookie.ttl.is_none() && cookie.attributes.is_none(),
            format!("{at}consistentHash.httpCookie path, ttl or attributes (no cookie is made)"),
        );
        if cookie.name.is_empty() {
            return Err("the cookie has no name".to_owned());
        }
        return Ok(HashKey::Cookie(cookie.name.as_str().into()));
    }
    if let Some(name) = hash
        .http_query_parameter_name
        .as_deref()
        .filter(|n| !n.is_empty())
    {
        return Ok(HashKey::Query(name.into()));
    }
    if hash.use_source_ip == Some(true) {
        return Ok(HashKey::SourceIp);
    }
    Err("it names nothing to hash".to_owned())
}

fn limits(pool: &networking::ConnectionPool, at: &str, notes: &mut Notes) -> Limits {
    let (tcp, http) = (&pool.tcp, &pool.http);
    for (field, there) in [
        ("tcp.tcpKeepalive", tcp.tcp_keepalive.is_some()),
        (
            "tcp.maxConnectionDuration",
            tcp.max_connection_duration.is_some(),
        ),
        ("tcp.idleTimeout", tcp.idle_timeout.is_some()),
        (
            "http.maxRequestsPerConnection",
            http.max_requests_per_connection.is_some(),
        ),
        ("http.maxRetries", http.max_retries.is_some()),
        ("http.idleTimeout", http.idle_timeout.is_some()),
        ("http.h2UpgradePolicy", http.h2_upgrade_policy.is_some()),
        ("http.useClientProtocol", http.use_client_protocol.is_some()),
        (
            "http.maxConcurrentStreams",
            http.max_concurrent_streams.is_some(),
        ),
    ] {
        notes.unless(!there, format!("{at}{field}"));
    }
    // 0 is no limit, as in Istio.
    let mut limit = |field: &str, value| {
        let found = notes.number(format!("{at}{field}"), value);
        found.filter(|limit| *limit > 0)
    };
    Limits {
        connections: limit("tcp.maxConnections", tcp.max_connections),
        pending: limit(
            "http.http1MaxPendingRequests",
            http.http1_max_pending_requests,
        ),
        requests: limit("http.http2MaxRequests", http.http2_max_requests),
        connect_timeout: notes.duration(
            format!("{at}tcp.connectTimeout"),
            tcp.connect_timeout.as_deref(),
        ),
    }
}

fn outlier(wanted: &networking::OutlierDetection, at: &str, notes: &mut Notes) -> Outlier {
    for (field, there) in [
        ("minHealthPercent", wanted.min_health_percent.is_some()),
        (
            "splitExternalLocalOriginErrors",
            wanted.split_external_local_origin_errors == Some(true),
        ),
        (
            "consecutiveLocalOriginFailures",
            wanted.consecutive_local_origin_failures.is_some(),
        ),
    ] {
        notes.unless(!there, format!("{at}{field}"));
    }
    let errors = wanted.consecutive_5xx_errors.or(wanted.consecutive_errors);
    let percent = notes.number(
        format!("{at}maxEjectionPercent"),
        wanted.max_ejection_percent,
    );
    Outlier {
        consecutive_errors: notes
            .number(format!("{at}consecutive5xxErrors"), errors)
            .unwrap_or(if wanted.consecutive_gateway_errors.is_some() {
                0
            } else {
                5
            }),
        consecutive_gateway_errors: notes
            .number(
                format!("{at}consecutiveGatewayErrors"),
                wanted.consecutive_gateway_errors,
            )
            .unwrap_or(0),
        base_ejection: notes
            .duration(
                format!("{at}baseEjectionTime"),
                wanted.base_ejection_time.as_deref(),
            )
            .unwrap_or(Duration::from_secs(30)),
        interval: notes
            .duration(format!("{at}interval"), wanted.interval.as_deref())
            .unwrap_or(Duration::from_secs(10)),
        max_ejected_percent: u8::try_from(percent.unwrap_or(10).min(100)).unwrap_or(100),
    }
}

/// What is to be told of an object.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) problems: Vec<String>,
    pub(super) notices: Vec<String>,
}

impl Notes {
    pub(super) fn unless(&mut self, fine: bool, field: String) {
        if !fine {
            self.notices.push(format!("{field} has no effect"));
        }
    }

    pub(super) fn number(&mut self, field: String, value: Option<i64>) -> Option<u32> {
        let value = value?;
        match u32::try_from(value) {
            Ok(value) => Some(value),
            Err(_) => {
                self.problems.push(format!(
                    "{field}: {value} is no such number; it has no effect"
                ));
                None
            }
        }
    }

    pub(super) fn duration(&mut self, field: String, value: Option<&str>) -> Option<Duration> {
        match values::duration(value?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems
                    .push(format!("{field}: {error}; it has no effect"));
                None
            }
        }
    }
}
