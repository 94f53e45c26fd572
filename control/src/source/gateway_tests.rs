//! Our types read what the gateway-api crate reads, and the definitions we publish say what we read.

use gateway_api::experimental as theirs;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::source::ambit;

/// Without what is absent.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, bare(value)));
            let there =
                |value: &Value| !(value.is_null() || *value == json!([]) || *value == json!({}));
            Value::Object(fields.filter(|(_, value)| there(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(bare).collect()),
        other => other,
    }
}

fn spec<T: DeserializeOwned + Serialize>(text: &str) -> Value {
    let read: T = serde_saphyr::from_str(text).expect("an object");
    bare(serde_json::to_value(read).expect("JSON")["spec"].clone())
}

fn same<Ours, Theirs>(spec_of: &str)
where
    Ours: DeserializeOwned + Serialize,
    Theirs: DeserializeOwned + Serialize,
{
    let text = format!("apiVersion: x/v1\nkind: X\nmetadata: {{name: a}}\nspec: {spec_of}\n");
    assert_eq!(spec::<Ours>(&text), spec::<Theirs>(&text), "{spec_of}");
}

#[test]
fn what_the_gateway_api_crate_reads_is_read_alike() {
    let parents = "parentRefs: [{group: '', kind: Service, namespace: b, name: web, sectionName: http, port: 80}]";
    let filters = "[{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], add: [{name: c, value: d}], remove: [e]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [e]}}, {type: RequestMirror, requestMirror: {backendRef: {group: '', kind: Service, namespace: b, name: m, port: 1}, fraction: {numerator: 1, denominator: 2}}}, {type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]";
    let more = "[{type: RequestRedirect, requestRedirect: {scheme: https, hostname: h, port: 1, statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /x}}}, {type: URLRewrite, urlRewrite: {hostname: h, path: {type: ReplacePrefixMatch, replacePrefixMatch: /y}}}, {type: CORS, cors: {allowOrigins: ['*'], allowCredentials: true, allowMethods: [GET], allowHeaders: [a], exposeHeaders: [b], maxAge: 3}}, {type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: a, port: 1}, http: {path: /p, allowedHeaders: [a], allowedResponseHeaders: [b]}, forwardBody: {maxSize: 7}}}, {type: RequestMirror, requestMirror: {backendRef: {name: m}, percent: 5}}]";
    let backend = format!(
        "{{group: '', kind: Service, namespace: b, name: web, port: 80, weight: 3, filters: {filters}}}"
    );
    same::<HTTPRoute, theirs::httproutes::HttpRoute>(&format!(
        "{{{parents}, hostnames: [a.b], rules: [{{name: r, matches: [{{path: {{type: Exact, value: /a}}, method: GET, headers: [{{type: Exact, name: a, value: b}}], queryParams: [{{type: RegularExpression, name: a, value: b}}]}}], filters: {filters}, backendRefs: [{backend}], timeouts: {{request: 1s, backendRequest: 2s}}, retry: {{attempts: 1, codes: [500], backoff: 1s}}}}, {{filters: {more}}}]}}"
    ));
    same::<GRPCRoute, theirs::grpcroutes::GrpcRoute>(&format!(
        "{{{parents}, hostnames: [a.b], rules: [{{name: r, matches: [{{method: {{type: Exact, service: a, method: b}}, headers: [{{type: Exact, name: a, value: b}}]}}], filters: {filters}, backendRefs: [{backend}]}}]}}"
    ));
    let streams = "rules: [{name: r, backendRefs: [{group: '', kind: Service, namespace: b, name: a, port: 1, weight: 2}]}]";
    same::<TLSRoute, theirs::tlsroutes::TlsRoute>(&format!(
        "{{{parents}, hostnames: [a.b], {streams}}}"
    ));
    same::<TCPRoute, theirs::tcproutes::TcpRoute>(&format!("{{{parents}, {streams}}}"));
    same::<Gateway, theirs::gateways::Gateway>(
        "{gatewayClassName: a, infrastructure: {labels: {a: b}, annotations: {c: d}}, listeners: [{name: a, hostname: b, port: 1, protocol: HBONE, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}}]}",
    );
    same::<GatewayClass, theirs::gatewayclasses::GatewayClass>(
        "{controllerName: a/b, description: c}",
    );
    same::<ReferenceGrant, theirs::referencegrants::ReferenceGrant>(
        "{from: [{group: a, kind: b, namespace: c}], to: [{group: d, kind: e, name: f}]}",
    );
    same::<BackendTLSPolicy, gateway_api::backendtlspolicies::BackendTlsPolicy>(
        "{targetRefs: [{group: '', kind: Service, name: a, sectionName: b}], options: {a: b}, validation: {hostname: a, caCertificateRefs: [{group: '', kind: ConfigMap, name: c}], subjectAltNames: [{type: Hostname, hostname: d}, {type: URI, uri: e}]}}",
    );
    same::<BackendTLSPolicy, gateway_api::backendtlspolicies::BackendTlsPolicy>(
        "{targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: a, wellKnownCACertificates: System}}",
    );
    same::<XBackendTrafficPolicy, theirs::xbackendtrafficpolicies::XBackendTrafficPolicy>(
        "{targetRefs: [{group: '', kind: Service, name: a}], retryConstraint: {budget: {percent: 1, interval: 1s}, minRetryRate: {count: 2, interval: 2s}}}",
    );
}

/// The fields of a specification as its definition names them.
fn defined(plural: &str) -> Vec<String> {
    let path = format!(
        "{}/../manifests/crds/ambit.dev_{plural}.yaml",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).expect("a definition");
    let definition: Value = serde_saphyr::from_str(&text).expect("YAML");
    let version = &definition["spec"]["versions"][0];
    assert_eq!(version["name"], "v1alpha1");
    let fields = &version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let mut names: Vec<String> = fields
        .as_object()
        .expect("fields")
        .keys()
        .cloned()
        .collect();
    names.sort();
    names
}

fn read(spec: &impl Serialize) -> Vec<String> {
    let spec = serde_json::to_value(spec).expect("JSON");
    let mut names: Vec<String> = spec.as_object().expect("fields").keys().cloned().collect();
    names.sort();
    names
}

#[test]
fn definitions_name_the_fields_that_are_read() {
    assert_eq!(
        defined("ratelimits"),
        read(&ambit::RateLimitSpec::default())
    );
    assert_eq!(
        defined("faultinjections"),
        read(&ambit::FaultInjectionSpec::default())
    );
    assert_eq!(
        defined("externalauthorizers"),
        read(&ambit::ExternalAuthorizerSpec::default())
    );
}
