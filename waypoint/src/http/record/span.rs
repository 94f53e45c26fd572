//! The span of a request, with the attributes of OpenTelemetry's semantic conventions for HTTP servers.

use std::time::{Duration, SystemTime};

use ambit_http::headers::TraceContext;
use ambit_http::refusal::Flag;
use ambit_telemetry::trace::{Span, Value};
use http::HeaderValue;

use super::Record;

/// gRPC statuses that are the server's fault (semantic conventions for gRPC): UNKNOWN, DEADLINE_EXCEEDED,
/// UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const FAULTS: [u8; 6] = [2, 4, 12, 13, 14, 15];

impl Record {
    pub(super) fn span(&self, trace: &TraceContext, duration: Duration, received: u64) -> Span {
        let text = |value: &str| Some(Value::Text(value.to_owned()));
        let number = |value: u64| i64::try_from(value).ok().map(Value::Number);
        let header = |value: Option<&HeaderValue>| {
            let value = value.map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
            value.map(Value::Text)
        };
        let shown =
            |value: Option<&dyn std::fmt::Display>| value.map(|it| Value::Text(it.to_string()));
        let asked = self.asked.as_ref();
        let caller = &self.session.caller;
        let endpoint = self.endpoint.as_ref();
        let path = asked.map(|it| &it.path);
        let status = (self.status != 0).then_some(u64::from(self.status));
        let attributes = [
            (
                "http.request.method",
                asked.and_then(|it| text(it.method.as_str())),
            ),
            ("url.scheme", text("http")),
            ("url.path", path.and_then(|it| text(it.path()))),
            ("url.query", path.and_then(|it| text(it.query()?))),
            ("server.address", asked.and_then(|it| text(it.host.name()))),
            ("http.response.status_code", status.and_then(number)),
            (
                "rpc.grpc.status_code",
                self.grpc_status.and_then(|it| number(it.into())),
            ),
            ("http.request.body.size", number(received)),
            ("http.response.body.size", number(self.sent)),
            ("network.protocol.name", text("http")),
            (
                "network.protocol.version",
                self.version.split_once('/').and_then(|it| text(it.1)),
            ),
            (
                "client.address",
                text(&caller.address.ip().to_canonical().to_string()),
            ),
            (
                "user_agent.original",
                header(asked.and_then(|it| it.user_agent.as_ref())),
            ),
            ("ambit.request_id", header(self.request_id.as_ref())),
            ("ambit.source.identity", text(&caller.identity.to_string())),
            (
                "ambit.route",
                shown(self.rule.as_ref().map(|it| &it.key as _)),
            ),
            (
                "ambit.upstream.service",
                shown(self.service.as_ref().map(|it| &it.key as _)),
            ),
            (
                "ambit.upstream.address",
                shown(endpoint.map(|it| &it.address as _)),
            ),
            ("ambit.attempts", number(self.attempts.into())),
            ("ambit.response_flags", text(self.flag.as_str())),
        ];
        let end = SystemTime::now();
        Span {
            trace: trace.trace_id,
            id: trace.span_id,
            parent: trace.parent,
            // Few names: a path would make one of every request.
            name: asked.map_or("HTTP", |it| it.method.as_str()).to_owned(),
            start: end - duration,
            end,
            error: self.error(),
            attributes: attributes
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
        }
    }

    /// What the server is to blame for: a client's mistake is no error of its span.
    fn error(&self) -> Option<String> {
        let failed = self.status >= 500
            || self.grpc_status.is_some_and(|it| FAULTS.contains(&it))
            || matches!(self.flag, Flag::UpstreamReset | Flag::DownstreamClosed);
        failed.then(|| match (self.reason.is_empty(), self.grpc_status) {
            (false, _) => self.reason.clone(),
            (true, Some(status)) => format!("gRPC status {status}"),
            (true, None) => format!("status {} {}", self.status, self.flag),
        })
    }
}
