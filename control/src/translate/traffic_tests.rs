//! DestinationRule and XBackendTrafficPolicy, brought together for a Service.

use std::sync::Arc;
use std::time::Duration;

use ambit_http::model::traffic::{Balance, HashKey, Limits};
use ambit_http::model::{Resource, TrafficPolicy};

use crate::index::Index;
use crate::translate::testing::{
    SERVICES, conditions, index, names, notices, problems, resource, status,
};

fn rule_in(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

fn of(spec: &str) -> Index {
    index(&format!("{SERVICES}{}", rule_in("shop", "d", spec)))
}

fn traffic(index: &Index, name: &str) -> Arc<TrafficPolicy> {
    match resource(index, &format!("traffic/shop/{name}")) {
        Some(Resource::Traffic(found)) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn balancing() {
    let header = Balance::ConsistentHash(HashKey::Header(http::HeaderName::from_static("x-user")));
    let cases = [
        ("{}", Balance::PeakEwma),
        ("{simple: LEAST_REQUEST}", Balance::LeastRequest),
        ("{simple: RANDOM}", Balance::Random),
        ("{simple: ROUND_ROBIN}", Balance::RoundRobin),
        ("{consistentHash: {httpHeaderName: X-User}}", header),
        (
            "{consistentHash: {httpCookie: {name: user}}}",
            Balance::ConsistentHash(HashKey::Cookie("user".into())),
        ),
        (
            "{consistentHash: {httpQueryParameterName: u}}",
            Balance::ConsistentHash(HashKey::Query("u".into())),
        ),
        (
            "{consistentHash: {useSourceIp: true}}",
            Balance::ConsistentHash(HashKey::SourceIp),
        ),
    ];
    for (balancer, expected) in cases {
        let index = of(&format!(
            "host: web, trafficPolicy: {{loadBalancer: {balancer}}}"
        ));
        assert_eq!(traffic(&index, "web").balance, expected, "{balancer}");
        assert_eq!(
            problems(&index, "DestinationRule shop/d"),
            [""; 0],
            "{balancer}"
        );
        assert_eq!(
            notices(&index, "DestinationRule shop/d"),
            [""; 0],
            "{balancer}"
        );
    }
    let index = of("host: web, trafficPolicy: {loadBalancer: {warmup: {duration: 30s}}}");
    assert_eq!(
        traffic(&index, "web").slow_start,
        Some(Duration::from_secs(30))
    );
}

#[test]
fn clients_of_a_service_with_affinity_stay_unless_a_rule_says_how_to_balance() {
    let services = SERVICES.replacen("spec: {", "spec: {sessionAffinity: ClientIP, ", 1);
    let rule = |policy: &str| {
        let spec = format!("host: web, trafficPolicy: {{{policy}}}");
        rule_in("shop", "d", &spec)
    };
    let limits = "connectionPool: {tcp: {maxConnections: 1}}";
    let ports = format!("portLevelSettings: [{{port: {{number: 81}}, {limits}}}]");
    let stay = Balance::ClientAffinity;
    for (case, rule, expected) in [
        ("no rule", String::new(), vec![("web", &stay)]),
        ("a rule on other things", rule(limits), vec![("web", &stay)]),
        (
            "new endpoints start slowly",
            rule("loadBalancer: {warmup: {duration: 30s}}"),
            vec![("web", &stay)],
        ),
        (
            "a port of its own",
            rule(&ports),
            vec![("web", &stay), ("web:81", &stay)],
        ),
        (
            "a rule that balances",
            rule("loadBalancer: {simple: RANDOM}"),
            vec![("web", &Balance::Random)],
        ),
    ] {
        let index = index(&format!("{services}{rule}"));
        let known = expected
            .iter()
            .map(|(name, _)| format!("traffic/shop/{name}"));
        assert_eq!(names(&index), known.collect::<Vec<_>>(), "{case}");
        for (name, balance) in expected {
            assert_eq!(traffic(&index, name).balance, *balance, "{case}: {name}");
        }
    }
}

#[test]
fn a_time_that_ends_the_affinity_is_said_to_have_no_effect() {
    for (spec, said) in [
        ("sessionAffinity: ClientIP", 0),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 10800}}",
            0,
        ),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}",
            1,
        ),
    ] {
        let services = SERVICES.replacen("spec: {", &format!("spec: {{{spec}, "), 1);
        let notices = notices(&index(&services), "Service shop/web");
        assert_eq!(notices.len(), said, "{spec}: {notices:?}");
    }
}

#[test]
fn limits_and_outliers() {
    let index = of(
        "host: web.shop.svc.cluster.local, trafficPolicy: {connectionPool: {tcp: {maxConnections: 10, connectTimeout: 2s}, http: {http1MaxPendingRequests: 3, http2MaxRequests: 4}}, outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 2, interval: 1s, baseEjectionTime: 5s, maxEjectionPercent: 50}}",
    );
    let found = traffic(&index, "web");
    let limits = &found.limits;
    assert_eq!(
        (limits.connections, limits.pending, limits.requests),
        (Some(10), Some(3), Some(4))
    );
    assert_eq!(limits.connect_timeout, Some(Duration::from_secs(2)));
    let none = of(
        "host: web, trafficPolicy: {connectionPool: {tcp: {maxConnections: 0}, http: {http1MaxPendingRequests: 0, http2MaxRequests: 0}}}",
    );
    assert_eq!(traffic(&none, "web").limits, Limits::default());
    let outlier = found.outlier.as_ref().expect("a detection");
    assert_eq!(
        (
            outlier.consecutive_errors,
            outlier.consecutive_gateway_errors
        ),
        (7, 2)
    );
    assert_eq!(
        (outlier.base_ejection, outlier.interval),
        (Duration::from_secs(5), Duration::from_secs(1))
    );
    assert_eq!(outlier.max_ejected_percent, 50);
    let index = of("host: web, trafficPolicy: {outlierDetection: {}}");
    let default = traffic(&index, "web").outlier.clone().expect("a detection");
    assert_eq!(
        (default.consecutive_errors, default.max_ejected_percent),
        (5, 10)
    );
}

#[test]
fn settings_of_a_port_stand_alone() {
    let index = of(
        "host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}, portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {maxConnections: 1}}}, {port: {number: 99}}]}",
    );
    assert_eq!(names(&index), ["traffic/shop/web", "traffic/shop/web:81"]);
    assert_eq!(traffic(&index, "web").balance, Balance::Random);
    let port = traffic(&index, "web:81");
    assert_eq!((port.port, port.limits.connections), (Some(81), Some(1)));
    assert_eq!(port.balance, Balance::PeakEwma);
}

#[test]
fn what_has_no_effect_is_said() {
    for spec in [
        "host: web, subsets: []",
        "host: web, exportTo: ['*']",
        "host: web, trafficPolicy: {tls: {mode: SIMPLE}}",
        "host: web, trafficPolicy: {loadBalancer: {localityLbSetting: {}}}",
        "host: web, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}",
        "host: web, trafficPolicy: {connectionPool: {http: {maxRetries: 1}}}",
        "host: web, trafficPolicy: {outlierDetection: {minHealthPercent: 1}}",
        "host: web, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {}}]}",
    ] {
        assert_eq!(
            notices(&of(spec), "DestinationRule shop/d").len(),
            1,
            "{spec}"
        );
    }
    for spec in [
        "host: '*.local'",
        "host: ''",
        "host: far.other",
        "host: web, trafficPolicy: {loadBalancer: {consistentHash: {}}}",
        "host: web, trafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}",
        "host: web, trafficPolicy: {connectionPool: {tcp: {connectTimeout: soon}}}",
    ] {
        assert_eq!(
            problems(&of(spec), "DestinationRule shop/d").len(),
            1,
            "{spec}"
        );
    }
}

#[test]
fn one_rule_counts_for_a_service() {
    let random =
        "host: web.shop.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: RANDOM}}";
    let turn = "host: web, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}";
    let root = rule_in("istio-system", "r", random);
    let index = index(&format!(
        "{SERVICES}{root}{}{}",
        rule_in("shop", "b", turn),
        rule_in("shop", "a", random)
    ));
    assert_eq!(
        traffic(&index, "web").balance,
        Balance::Random,
        "a before b"
    );
    assert_eq!(problems(&index, "DestinationRule shop/b").len(), 1);
    assert_eq!(problems(&index, "DestinationRule istio-system/r").len(), 1);
}

#[test]
fn the_root_namespace_speaks_for_services_without_a_rule() {
    let rule = rule_in(
        "istio-system",
        "r",
        "host: web.shop, trafficPolicy: {loadBalancer: {simple: RANDOM}}",
    );
    let index = index(&format!("{SERVICES}{rule}"));
    assert_eq!(traffic(&index, "web").balance, Balance::Random);
}

#[test]
fn retry_budgets() {
    let with = |spec: &str| {
        index(&format!(
            "{SERVICES}---\napiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\nmetadata: {{name: x, namespace: shop}}\nspec: {{{spec}}}\n"
        ))
    };
    let web = "targetRefs: [{group: '', kind: Service, name: web}]";
    let index = with(&format!(
        "{web}, retryConstraint: {{budget: {{percent: 10, interval: 5s}}, minRetryRate: {{count: 40, interval: 2s}}}}"
    ));
    let budget = traffic(&index, "web").retry_budget.clone();
    assert_eq!(
        (budget.percent, budget.interval, budget.min_per_second),
        (10, Duration::from_secs(5), 20)
    );
    let accepted = |index: &Index| {
        let status = status(index, "XBackendTrafficPolicy shop/x").expect("a status");
        conditions(&status["ancestors"][0]["conditions"]).remove(0)
    };
    assert_eq!(accepted(&index), "Accepted=True/Accepted");
    for (spec, expected) in [
        (
            format!("{web}, retryConstraint: {{budget: {{percent: 101}}}}"),
            "Accepted=False/Invalid",
        ),
        (
            format!("{web}, retryConstraint: {{minRetryRate: {{count: 1, interval: 0s}}}}"),
            "Accepted=False/Invalid",
        ),
        (
            "targetRefs: [{group: '', kind: Service, name: gone}]".to_owned(),
            "Accepted=False/TargetNotFound",
        ),
        (
            "targetRefs: [{group: x.io, kind: Y, name: web}]".to_owned(),
            "Accepted=False/TargetNotFound",
        ),
    ] {
        assert_eq!(accepted(&with(&spec)), expected, "{spec}");
    }
}
