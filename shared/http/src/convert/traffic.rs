//! `ambit.waypoint.Traffic` and `ambit.waypoint.BackendTls`.

use ambit_core::convert::ConvertError;
use ambit_core::convert::error::{At, each};
use ambit_proto::waypoint as proto;
use proto::balance::Kind;

use super::value::{
    duration, filled, header_name, name, optional_duration, optional_port, required, wire_duration,
    wire_name, wire_texts, within,
};
use crate::model::traffic::{Balance, HashKey, Limits, Outlier, RetryBudget};
use crate::model::{BackendTls, TrafficPolicy};

pub(super) fn traffic(wire: &proto::Traffic) -> Result<TrafficPolicy, ConvertError> {
    let limits = required("limits", wire.limits.as_ref(), "limits")?;
    let budget = required("retry_budget", wire.retry_budget.as_ref(), "a retry budget")?;
    Ok(TrafficPolicy {
        key: name("key", wire.key.as_ref())?,
        service: name("service", wire.service.as_ref())?,
        port: optional_port("port", wire.port)?,
        balance: balance(wire.balance.as_ref()).at("balance")?,
        slow_start: optional_duration("slow_start", wire.slow_start.as_ref())?,
        outlier: wire
            .outlier
            .as_ref()
            .map(outlier)
            .transpose()
            .at("outlier")?,
        limits: Limits {
            connections: limits.connections,
            pending: limits.pending,
            requests: limits.requests,
            connect_timeout: optional_duration(
                "limits.connect_timeout",
                limits.connect_timeout.as_ref(),
            )?,
        },
        retry_budget: RetryBudget {
            percent: within("retry_budget.percent", budget.percent, 0..=100, "0 to 100")?,
            interval: duration("retry_budget.interval", budget.interval.as_ref())?,
            min_per_second: budget.min_per_second,
        },
    })
}

fn balance(wire: Option<&proto::Balance>) -> Result<Balance, ConvertError> {
    let kind = wire.and_then(|wire| wire.kind.as_ref());
    Ok(match required("", kind, "a known way to balance")? {
        Kind::PeakEwma(_) => Balance::PeakEwma,
        Kind::LeastRequest(_) => Balance::LeastRequest,
        Kind::Random(_) => Balance::Random,
        Kind::RoundRobin(_) => Balance::RoundRobin,
        Kind::HashHeader(name) => {
            Balance::ConsistentHash(HashKey::Header(header_name(name).at("hash_header")?))
        }
        Kind::HashCookie(name) => {
            Balance::ConsistentHash(HashKey::Cookie(filled("hash_cookie", name)?))
        }
        Kind::HashQuery(name) => {
            Balance::ConsistentHash(HashKey::Query(filled("hash_query", name)?))
        }
        Kind::HashSourceIp(_) => Balance::ConsistentHash(HashKey::SourceIp),
        Kind::ClientAffinity(_) => Balance::ClientAffinity,
    })
}

fn outlier(wire: &proto::Outlier) -> Result<Outlier, ConvertError> {
    Ok(Outlier {
        consecutive_errors: wire.consecutive_errors,
        consecutive_gateway_errors: wire.consecutive_gateway_errors,
        base_ejection: duration("base_ejection", wire.base_ejection.as_ref())?,
        interval: duration("interval", wire.interval.as_ref())?,
        max_ejected_percent: within("max_ejected", wire.max_ejected, 0..=100, "0 to 100")?,
    })
}

pub(super) fn tls(wire: &proto::BackendTls) -> Result<BackendTls, ConvertError> {
    Ok(BackendTls {
        key: name("key", wire.key.as_ref())?,
        service: name("service", wire.service.as_ref())?,
        port: optional_port("port", wire.port)?,
        hostname: filled("hostname", &wire.hostname)?,
        subject_alt_names: each("subject_alt_names", &wire.subject_alt_names, |name| {
            filled("", name)
        })?,
        roots: wire
            .roots
            .as_deref()
            .map(|roots| filled("roots", roots))
            .transpose()?,
        invalid: wire.invalid.as_deref().map(Into::into),
    })
}

/// One that lets nothing through, least of all in plain text.
pub(super) fn refusing(wire: &proto::BackendTls, reason: &str) -> Option<BackendTls> {
    Some(BackendTls {
        key: name("key", wire.key.as_ref()).ok()?,
        service: name("service", wire.service.as_ref()).ok()?,
        port: optional_port("port", wire.port).ok()?,
        hostname: wire.hostname.as_str().into(),
        subject_alt_names: Vec::new(),
        roots: None,
        invalid: Some(reason.into()),
    })
}

impl From<&TrafficPolicy> for proto::Traffic {
    fn from(policy: &TrafficPolicy) -> Self {
        Self {
            key: Some(wire_name(&policy.key)),
            service: Some(wire_name(&policy.service)),
            port: policy.port.map(u32::from),
            balance: Some(proto::Balance {
                kind: Some(wire_balance(&policy.balance)),
            }),
            slow_start: policy.slow_start.map(wire_duration),
            outlier: policy.outlier.as_ref().map(|outlier| proto::Outlier {
                consecutive_errors: outlier.consecutive_errors,
                consecutive_gateway_errors: outlier.consecutive_gateway_errors,
                base_ejection: Some(wire_duration(outlier.base_ejection)),
                interval: Some(wire_duration(outlier.interval)),
                max_ejected: outlier.max_ejected_percent.into(),
            }),
            limits: Some(proto::Limits {
                connections: policy.limits.connections,
                pending: policy.limits.pending,
                requests: policy.limits.requests,
                connect_timeout: policy.limits.connect_timeout.map(wire_duration),
            }),
            retry_budget: Some(proto::RetryBudget {
                percent: policy.retry_budget.percent,
                interval: Some(wire_duration(policy.retry_budget.interval)),
                min_per_second: policy.retry_budget.min_per_second,
            }),
        }
    }
}

fn wire_balance(balance: &Balance) -> Kind {
    match balance {
        Balance::PeakEwma => Kind::PeakEwma(proto::Empty {}),
        Balance::LeastRequest => Kind::LeastRequest(proto::Empty {}),
        Balance::Random => Kind::Random(proto::Empty {}),
        Balance::RoundRobin => Kind::RoundRobin(proto::Empty {}),
        Balance::ConsistentHash(HashKey::Header(name)) => Kind::HashHeader(name.to_string()),
        Balance::ConsistentHash(HashKey::Cookie(name)) => Kind::HashCookie(name.to_string()),
        Balance::ConsistentHash(HashKey::Query(name)) => Kind::HashQuery(name.to_string()),
        Balance::ConsistentHash(HashKey::SourceIp) => Kind::HashSourceIp(proto::Empty {}),
        Balance::ClientAffinity => Kind::ClientAffinity(proto::Empty {}),
    }
}

impl From<&BackendTls> for proto::BackendTls {
    fn from(tls: &BackendTls) -> Self {
        Self {
            key: Some(wire_name(&tls.key)),
            service: Some(wire_name(&tls.service)),
            port: tls.port.map(u32::from),
            hostname: tls.hostname.to_string(),
            subject_alt_names: wire_texts(&tls.subject_alt_names),
            roots: tls.roots.as_deref().map(str::to_owned),
            invalid: tls.invalid.as_deref().map(str::to_owned),
        }
    }
}
