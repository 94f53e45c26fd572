//! What a tunnel says of itself. Telemetry only: identity comes from certificates.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use ambit_core::hbone::{self, Forwarded};
use ambit_core::model::{Service, Workload};
use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName, HeaderValue, header};

const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The `baggage` of a pod, made again when its description changes.
#[derive(Default)]
pub(super) struct Baggage(ArcSwapOption<(Arc<Workload>, HeaderValue)>);

impl Baggage {
    /// The header of this description.
    fn of(&self, workload: &Arc<Workload>) -> Option<HeaderValue> {
        if let Some(cached) = &*self.0.load()
            && Arc::ptr_eq(&cached.0, workload)
        {
            return Some(cached.1.clone());
        }
        let text = hbone::Baggage::of(workload).to_string();
        let value = HeaderValue::try_from(text).ok()?;
        self.0
            .store(Some(Arc::new((workload.clone(), value.clone()))));
        Some(value)
    }

    /// Headers of a CONNECT.
    pub(super) fn request(
        &self,
        source: &Arc<Workload>,
        client: SocketAddr,
        service: Option<&Service>,
    ) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(3);
        if let Some(baggage) = self.of(source) {
            headers.insert(BAGGAGE, baggage);
        }
        let forwarded = Forwarded {
            client: Some(client),
            host: service.map(|service| service.key.name.to_string()),
        };
        if let Ok(value) = HeaderValue::try_from(forwarded.to_string()) {
            headers.insert(header::FORWARDED, value);
        }
        headers.insert(TRACEPARENT, traceparent());
        headers
    }

    /// Headers of the answer to a CONNECT.
    pub(super) fn response(&self, local: &Arc<Workload>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(baggage) = self.of(local) {
            headers.insert(BAGGAGE, baggage);
        }
        headers
    }
}

/// What a CONNECT says of where it comes from.
pub(super) fn forwarded(headers: &HeaderMap) -> Forwarded {
    let text = headers.get(header::FORWARDED).map(HeaderValue::to_str);
    match text {
        Some(Ok(text)) => Forwarded::parse(text),
        Some(Err(_)) | None => Forwarded::default(),
    }
}

/// Who called, as the peer says. Several answers are one that does not read.
pub(super) fn caller(headers: &HeaderMap) -> Option<Box<str>> {
    let mut said = headers
        .get_all(hbone::CALLER)
        .iter()
        .map(HeaderValue::as_bytes);
    let first = said.next()?;
    match said.next() {
        None => Some(String::from_utf8_lossy(first).into()),
        Some(_) => Some("".into()),
    }
}

/// A new, unsampled trace context (W3C Trace Context).
fn traceparent() -> HeaderValue {
    let (trace, span): (u128, u64) = (rand::random(), rand::random());
    let mut text = String::with_capacity(55);
    // An all-zero id is invalid.
    let _ = write!(text, "00-{:032x}-{:016x}-00", trace | 1, span | 1);
    HeaderValue::try_from(text).expect("hexadecimal digits and dashes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_reads_as_one() {
        let value = traceparent();
        let parts: Vec<&str> = value.to_str().expect("text").split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [2, 32, 16, 2]);
        assert!(value != traceparent());
    }

    #[test]
    fn the_forwarded_header_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(forwarded(&headers), Forwarded::default());
        let value = HeaderValue::from_static("for=\"10.0.0.1:1\";host=a.b.svc");
        headers.insert(header::FORWARDED, value);
        let read = forwarded(&headers);
        assert_eq!(read.host.as_deref(), Some("a.b.svc"));
        assert_eq!(read.client, Some("10.0.0.1:1".parse().expect("an address")));
    }

    #[test]
    fn one_caller_is_said_or_none_that_reads() {
        let id = "spiffe://cluster.local/ns/a/sa/b";
        let name = HeaderName::from_static(hbone::CALLER);
        let mut headers = HeaderMap::new();
        assert_eq!(caller(&headers), None);
        headers.append(&name, HeaderValue::from_static(id));
        assert_eq!(caller(&headers).as_deref(), Some(id));
        headers.append(&name, HeaderValue::from_static(id));
        assert_eq!(caller(&headers).as_deref(), Some(""));
    }
}
