//! DNS of pods: whatever a pod sends is answered with a message that can be read again, or not at all; whatever a resolver answers
//! goes on in no more bytes than the pod takes.
#![no_main]

use std::net::IpAddr;

use ambit_core::dns::{Code, Data, LONGEST, Malformed, PLAIN_LIMIT, Query, Records};
use libfuzzer_sys::fuzz_target;

/// Reads a reply as a question, which is what differs least from it.
fn is_readable(reply: &[u8]) {
    assert!(reply[2] & 0x80 != 0, "a reply says that it is one");
    let mut asked = reply.to_vec();
    asked[2] &= 0x7f;
    asked[2] &= !0x78;
    match Query::parse(&asked) {
        // A refusal may be a header alone, and one of EDNS's version is a refusal again.
        Ok(_) | Err(Malformed::Refused(_)) => {}
        Err(Malformed::Ignored) => panic!("{reply:?}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    // A question, and what a resolver might say to it.
    let length = bytes.first().map_or(0, |length| usize::from(*length));
    let rest = bytes.get(1..).unwrap_or_default();
    let (question, response) = rest.split_at(length.min(rest.len()));
    let query = match Query::parse(question) {
        Ok(query) => query,
        Err(Malformed::Ignored) => return,
        Err(Malformed::Refused(reply)) => return is_readable(&reply),
    };
    assert_eq!(
        Query::parse(&query.forwarded(7)).map(|again| again.kind()),
        Ok(query.kind())
    );
    if let Some(name) = query.name() {
        assert!(name.len() < 255 && !name.contains(|c: char| c.is_ascii_uppercase()));
    }
    let addresses = (0..=255).map(|n| Data::Address(IpAddr::from([10, 0, 0, n])));
    let records = Records {
        alias: query.name().map(Into::into),
        data: addresses.collect(),
    };
    let limit = query.datagram_limit();
    for (limit, whole) in [(PLAIN_LIMIT, false), (limit, false), (LONGEST, true)] {
        let reply = query.answer(&records, limit);
        assert!(reply.len() <= limit);
        assert!(!whole || reply[2] & 2 == 0, "nothing is cut off what fits");
        is_readable(&reply);
    }
    is_readable(&query.failure(Code::ServFail));
    if query.is_answered_by(response, 7) {
        let reply = query.passed_on(response.to_vec(), false, limit);
        assert!(reply.len() <= limit);
        assert_eq!(reply[..2], question[..2]);
    }
});
