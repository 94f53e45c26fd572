//! Traces that come and go on.

use super::*;

const RANDOM: [u8; 24] = [7; 24];
const NEW_TRACE: u128 = 0x0707_0707_0707_0707_0707_0707_0707_0707;
const SPAN: u64 = 0x0707_0707_0707_0707;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACE_ID: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const PARENT: u64 = 0x00f0_67aa_0ba9_02b7;

#[test]
fn traces_are_continued_or_begun() {
    let joined = |sampled| (TRACE_ID, Some(PARENT), sampled);
    let begun = |sampled| (NEW_TRACE, None, sampled);
    let id = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
    let w3c = |front: &str, back: &str| format!("{front}-{id}-{back}");
    type Pairs = Vec<(&'static str, String)>;
    let parent = |value: String| -> Pairs { vec![("traceparent", value)] };
    let b3 = |value: &str| -> Pairs { vec![("b3", value.into())] };
    let many = |pairs: &[(&'static str, &str)]| -> Pairs {
        pairs
            .iter()
            .map(|(name, value)| (*name, (*value).into()))
            .collect()
    };
    let short = (0xa3ce_929d_0e0e_4736, Some(PARENT), true);
    let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01".to_owned();
    type Row = (&'static str, Pairs, (u128, Option<u64>, bool));
    let cases: Vec<Row> = vec![
        ("nothing", vec![], begun(false)),
        ("sampled", parent(w3c("00", "01")), joined(true)),
        ("not sampled", parent(w3c("00", "00")), joined(false)),
        ("other flags", parent(w3c("00", "fe")), joined(false)),
        (
            "a later version",
            parent(w3c("01", "01-more")),
            joined(true),
        ),
        (
            "more in version 0",
            parent(w3c("00", "01-more")),
            begun(false),
        ),
        ("version ff", parent(w3c("ff", "01")), begun(false)),
        (
            "capitals",
            parent(w3c("00", "01").to_uppercase()),
            begun(false),
        ),
        ("zero", parent(zero), begun(false)),
        ("short", parent("00-1-2-01".into()), begun(false)),
        (
            "two",
            vec![
                ("traceparent", w3c("00", "01")),
                ("traceparent", w3c("00", "01")),
            ],
            begun(false),
        ),
        ("b3", b3(id), joined(false)),
        ("b3 sampled", b3(&format!("{id}-1")), joined(true)),
        (
            "b3 with a parent",
            b3(&format!("{id}-d-05e3ac9a4f6e3b90")),
            joined(true),
        ),
        ("b3 decision alone", b3("1"), begun(true)),
        (
            "b3 of 64 bits",
            b3("a3ce929d0e0e4736-00f067aa0ba902b7-1"),
            short,
        ),
        ("b3 nonsense", b3("x-y"), begun(false)),
        (
            "b3 headers",
            many(&[
                ("x-b3-traceid", TRACE),
                ("x-b3-spanid", "00F067AA0BA902B7"),
                ("x-b3-sampled", "1"),
            ]),
            joined(true),
        ),
        (
            "b3 debug",
            many(&[
                ("x-b3-traceid", TRACE),
                ("x-b3-spanid", "00f067aa0ba902b7"),
                ("x-b3-sampled", "0"),
                ("x-b3-flags", "1"),
            ]),
            joined(true),
        ),
        (
            "b3 decision header alone",
            many(&[("x-b3-sampled", "true")]),
            begun(true),
        ),
        (
            "both: W3C wins",
            vec![("traceparent", w3c("00", "00")), ("b3", "1".into())],
            joined(false),
        ),
    ];
    for (case, pairs, (trace_id, parent, sampled)) in cases {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let found = TraceContext::of(&headers(&pairs), RANDOM, false);
        let wanted = TraceContext {
            trace_id,
            span_id: SPAN,
            parent,
            sampled,
        };
        assert_eq!(found, wanted, "{case}");
    }
    assert!(TraceContext::of(&HeaderMap::new(), RANDOM, true).sampled);
    assert_ne!(
        TraceContext::of(&HeaderMap::new(), [0; 24], true).trace_id,
        0
    );
}

#[test]
fn our_span_is_the_parent_of_what_follows() {
    let trace = format!("00-{TRACE}-0707070707070707-01");
    let id = format!("{TRACE}-00f067aa0ba902b7");
    let came = format!("00-{id}-01");
    let single = format!("{id}-1");
    let single_left = format!("{TRACE}-0707070707070707-1");
    type Pairs<'a> = Vec<(&'static str, &'a str)>;
    let rows: Vec<(&str, Pairs<'_>, Pairs<'_>)> = vec![
        (
            "tracestate stays",
            vec![
                ("traceparent", &came),
                ("tracestate", "a=1"),
                ("tracestate", "b=2"),
            ],
            vec![
                ("traceparent", &trace),
                ("tracestate", "a=1"),
                ("tracestate", "b=2"),
            ],
        ),
        (
            "b3 in its form",
            vec![("b3", &single), ("tracestate", "of=nothing")],
            vec![("b3", &single_left), ("traceparent", &trace)],
        ),
        (
            "b3 headers",
            vec![
                ("x-b3-traceid", TRACE),
                ("x-b3-spanid", "00f067aa0ba902b7"),
                ("x-b3-parentspanid", "0000000000000001"),
                ("x-b3-sampled", "1"),
            ],
            vec![
                ("x-b3-traceid", TRACE),
                ("x-b3-spanid", "0707070707070707"),
                ("x-b3-parentspanid", "00f067aa0ba902b7"),
                ("x-b3-sampled", "1"),
                ("traceparent", &trace),
            ],
        ),
    ];
    for (case, came, left) in rows {
        let mut found = headers(&came);
        let context = TraceContext::of(&found, RANDOM, true);
        context.write(&mut found);
        assert_eq!(found, headers(&left), "{case}");
    }
}
