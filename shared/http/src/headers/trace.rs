//! The trace a request belongs to: W3C Trace Context, or B3 where only that came.

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// Our span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Of the whole trace; not zero.
    pub trace_id: u128,
    /// Of our span; not zero.
    pub span_id: u64,
    /// The caller's span; `None` when the trace begins here.
    pub parent: Option<u64>,
    /// Whether spans of it are recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Our span of the request's trace, or of a new one. `random` names the trace (the first 16 bytes, unless
    /// there is one) and the span. `sample` decides for a request that brings no decision.
    ///
    /// `traceparent` wins over `b3`, and that over `x-b3-*`; what is malformed or there twice counts as
    /// absent.
    #[must_use]
    pub fn of(headers: &HeaderMap, random: [u8; 24], sample: bool) -> Self {
        let came = w3c(headers).or_else(|| b3(headers)).unwrap_or_default();
        let (trace, span) = random.split_at(16);
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |all, byte| all << 8 | u128::from(*byte))
        };
        let (trace_id, parent) = match came.ids {
            Some((trace, parent)) => (trace, Some(parent)),
            None => (number(trace).max(1), None),
        };
        Self {
            trace_id,
            span_id: u64::try_from(number(span)).unwrap_or_default().max(1),
            parent,
            sampled: came.sampled.unwrap_or(sample),
        }
    }

    /// Makes our span the parent of what the backend does: `traceparent`, and B3 in the forms that came. `tracestate`
    /// stays with the `traceparent` it came with.
    pub fn write(&self, headers: &mut HeaderMap) {
        if w3c(headers).is_none() {
            headers.remove(TRACESTATE);
        }
        let Self {
            trace_id, span_id, ..
        } = self;
        let sampled = u8::from(self.sampled);
        let value = format!("00-{trace_id:032x}-{span_id:016x}-{sampled:02x}");
        insert(headers, TRACEPARENT, value);
        if headers.contains_key(B3) {
            let value = format!("{trace_id:032x}-{span_id:016x}-{sampled}");
            insert(headers, B3, value);
        }
        if headers.contains_key(B3_TRACE) {
            insert(headers, B3_TRACE, format!("{trace_id:032x}"));
            insert(headers, B3_SPAN, format!("{span_id:016x}"));
            insert(headers, B3_SAMPLED, sampled.to_string());
            match self.parent {
                Some(parent) => insert(headers, B3_PARENT, format!("{parent:016x}")),
                None => drop(headers.remove(B3_PARENT)),
            }
        }
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    let value = HeaderValue::try_from(value).expect("hexadecimal is printable");
    headers.insert(name, value);
}

/// What came with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Came {
    /// Trace and span.
    ids: Option<(u128, u64)>,
    sampled: Option<bool>,
}

/// `VERSION-TRACE-SPAN-FLAGS`, lower case (W3C Trace Context section 3.2). A version that is not known may
/// have more after that.
fn w3c(headers: &HeaderMap) -> Option<Came> {
    let text = only(headers, &TRACEPARENT)?;
    let mut parts = text.split('-');
    let mut next = |digits| parts.next().and_then(|part| lower_hex(part, digits));
    let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
    let more = parts.next().is_some();
    if version == 0xff || version == 0 && more {
        return None;
    }
    Some(Came {
        ids: Some(ids(trace, span)?),
        sampled: Some(flags & 1 == 1),
    })
}

/// `b3: TRACE-SPAN[-SAMPLED[-PARENT]]` or `b3: SAMPLED`, else the headers one by one (openzipkin/b3-propagation).
fn b3(headers: &HeaderMap) -> Option<Came> {
    if let Some(text) = only(headers, &B3) {
        let parts: Vec<&str> = text.split('-').collect();
        let (ids, sampled) = match parts[..] {
            [sampled] => (None, Some(sampled)),
            [trace, span] => (Some(b3_ids(trace, span)?), None),
            [trace, span, sampled] | [trace, span, sampled, _] => {
                (Some(b3_ids(trace, span)?), Some(sampled))
            }
            _ => return None,
        };
        let sampled = sampled.map(decision);
        return match sampled {
            Some(None) => None,
            sampled => Some(Came {
                ids,
                sampled: sampled.flatten(),
            }),
        };
    }
    let ids = match (only(headers, &B3_TRACE), only(headers, &B3_SPAN)) {
        (Some(trace), Some(span)) => Some(b3_ids(trace, span)?),
        _ => None,
    };
    let debug = only(headers, &B3_FLAGS).filter(|flags| *flags == "1");
    let sampled = debug.or_else(|| only(headers, &B3_SAMPLED));
    let sampled = sampled.and_then(decision);
    (ids.is_some() || sampled.is_some()).then_some(Came { ids, sampled })
}

fn decision(text: &str) -> Option<bool> {
    match text {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

fn b3_ids(trace: &str, span: &str) -> Option<(u128, u64)> {
    let (trace, span) = (trace.to_ascii_lowercase(), span.to_ascii_lowercase());
    let trace = lower_hex(&trace, 32).or_else(|| lower_hex(&trace, 16))?;
    ids(trace, lower_hex(&span, 16)?)
}

fn ids(trace: u128, span: u128) -> Option<(u128, u64)> {
    let span = u64::try_from(span).ok()?;
    (trace != 0 && span != 0).then_some((trace, span))
}

fn lower_hex(text: &str, digits: usize) -> Option<u128> {
    let fit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != digits || !text.bytes().all(fit) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::trim),
        _ => None,
    }
}
