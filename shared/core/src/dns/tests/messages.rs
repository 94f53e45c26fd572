//! Messages, as we write them and as another implementation reads and writes them. It calls code 16 BADSIG, which is BADVERS in a
//! message with EDNS.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Asked, ResponseCode};
use hickory_proto::rr::{Name, RecordType as Type};
use proptest::prelude::*;

use crate::dns::{Code, Data, LONGEST, Malformed, PLAIN_LIMIT, Query, RecordType, Records, code};

fn question(name: &str, kind: Type, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 7;
    message.metadata.recursion_desired = true;
    message.add_query(Asked::query(Name::from_ascii(name).expect("a name"), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.edns = Some(edns);
    }
    message.to_vec().expect("it can be written")
}

fn addresses(count: u8) -> Records {
    let address = |number| Data::Address(IpAddr::from([10, 0, 0, number]));
    Records {
        alias: None,
        data: (0..count).map(address).collect(),
    }
}

fn read(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).expect("another can read it")
}

/// What is in the answer section, as text.
fn answers(message: &Message) -> Vec<String> {
    let records = message.answers.iter();
    records
        .map(|it| format!("{} {} {} {}", it.name, it.ttl, it.record_type(), it.data))
        .collect()
}

#[test]
fn a_question_is_read() {
    let bytes = question("WeB.Shop.", Type::AAAA, Some(1232));
    let query = Query::parse(&bytes).expect("a question");
    assert_eq!(query.name(), Some("web.shop"));
    assert_eq!(query.kind(), RecordType::AAAA);
    assert!(query.internet());
    assert_eq!(query.datagram_limit(), 1232);
    for (payload, limit) in [(None, 512), (Some(100), 512), (Some(65_000), 4096)] {
        let bytes = question("web.", Type::A, payload);
        let query = Query::parse(&bytes).expect("a question");
        assert_eq!(query.datagram_limit(), limit, "{payload:?}");
    }
    let root = question(".", Type::NS, None);
    assert_eq!(Query::parse(&root).expect("a question").name(), Some(""));
    let mut odd = question("axb.c.", Type::A, None);
    odd[14] = b'.';
    assert_eq!(Query::parse(&odd).expect("a question").name(), None);
}

#[test]
fn what_is_no_question_is_ignored_or_refused() {
    let good = question("web.shop.", Type::A, Some(1232));
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let refused = |code: ResponseCode| Some(code);
    for (case, bytes, expected) in [
        ("nothing", Vec::new(), None),
        ("half a header", good[..11].to_vec(), None),
        ("an answer", changed(&|b| b[2] |= 0x80), None),
        (
            "a header alone",
            good[..12].to_vec(),
            refused(ResponseCode::FormErr),
        ),
        (
            "cut in its name",
            good[..15].to_vec(),
            refused(ResponseCode::FormErr),
        ),
        (
            "cut in its EDNS",
            good[..good.len() - 1].to_vec(),
            refused(ResponseCode::FormErr),
        ),
        (
            "two questions",
            changed(&|b| b[5] = 2),
            refused(ResponseCode::FormErr),
        ),
        (
            "no question",
            changed(&|b| b[5] = 0),
            refused(ResponseCode::FormErr),
        ),
        (
            "a label of 64",
            changed(&|b| b[12] = 64),
            refused(ResponseCode::FormErr),
        ),
        (
            "a name that points to itself",
            changed(&|b| (b[12], b[13]) = (0xc0, 12)),
            refused(ResponseCode::FormErr),
        ),
        (
            "EDNS of tomorrow",
            changed(&|b| {
                let at = b.len() - 5;
                b[at] = 1;
            }),
            refused(ResponseCode::BADSIG),
        ),
        (
            "EDNS twice",
            changed(&|b| {
                let opt = b[b.len() - 11..].to_vec();
                b.extend(opt);
                b[11] = 2;
            }),
            refused(ResponseCode::FormErr),
        ),
    ] {
        let reply = match Query::parse(&bytes) {
            Ok(_) => panic!("{case} is a question"),
            Err(Malformed::Ignored) => None,
            Err(Malformed::Refused(reply)) => Some(read(&reply)),
        };
        let code = reply.as_ref().map(|reply| reply.metadata.response_code);
        assert_eq!(code, expected, "{case}");
        if let Some(reply) = reply {
            assert_eq!(reply.metadata.id, 7, "{case}");
            assert_eq!(reply.metadata.message_type, MessageType::Response, "{case}");
        }
    }
}

#[test]
fn an_answer_has_the_question_as_it_was_asked() {
    let bytes = question("wEb.ShOp.svc.cluster.LOCAL.", Type::A, None);
    let query = Query::parse(&bytes).expect("a question");
    let reply = query.answer(&addresses(2), PLAIN_LIMIT);
    let length = bytes.len() + 2 * 16;
    assert_eq!(reply.len(), length, "owners are two bytes each");
    let reply = read(&reply);
    assert_eq!(
        reply.queries[0].name().to_ascii(),
        "wEb.ShOp.svc.cluster.LOCAL."
    );
    assert_eq!(
        answers(&reply),
        [
            "wEb.ShOp.svc.cluster.LOCAL. 30 A 10.0.0.0",
            "wEb.ShOp.svc.cluster.LOCAL. 30 A 10.0.0.1"
        ]
    );
    let head = &reply.metadata;
    assert_eq!((head.id, head.op_code), (7, OpCode::Query));
    assert!(head.authoritative && head.recursion_available && head.recursion_desired);
    assert!(!head.truncation && reply.edns.is_none());
}

#[test]
fn an_alias_owns_what_follows() {
    let bytes = question(
        "api.example.com.shop.svc.cluster.local.",
        Type::A,
        Some(1232),
    );
    let query = Query::parse(&bytes).expect("a question");
    let records = Records {
        alias: Some("api.example.com".into()),
        ..addresses(1)
    };
    let reply = read(&query.answer(&records, 1232));
    assert_eq!(
        answers(&reply),
        [
            "api.example.com.shop.svc.cluster.local. 30 CNAME api.example.com.",
            "api.example.com. 30 A 10.0.0.0"
        ]
    );
    assert_eq!(reply.edns.expect("EDNS is answered").max_payload(), 4096);
}

#[test]
fn servers_are_named_in_full() {
    let bytes = question("_sql._tcp.db.shop.svc.cluster.local.", Type::SRV, None);
    let query = Query::parse(&bytes).expect("a question");
    let server = |target: &str| Data::Server {
        port: 5432,
        target: target.into(),
    };
    let records = Records {
        alias: None,
        data: vec![
            server("db-0.db.shop.svc.cluster.local"),
            server(""),
            server("a..b"),
        ],
    };
    let reply = read(&query.answer(&records, PLAIN_LIMIT));
    assert_eq!(
        answers(&reply),
        ["_sql._tcp.db.shop.svc.cluster.local. 30 SRV 0 100 5432 db-0.db.shop.svc.cluster.local."],
        "what is no name is left out"
    );
}

/// Defect 19 of the reference: answers over 512 bytes went out by UDP, untruncated and without EDNS.
#[test]
fn an_answer_is_never_longer_than_the_client_takes() {
    for (payload, limit, fit) in [
        (None, 512, 30),
        (Some(512), 512, 29),
        (Some(1232), 1232, 74),
        (Some(4096), 4096, 200),
    ] {
        let bytes = question("db.shop.", Type::A, payload);
        let query = Query::parse(&bytes).expect("a question");
        let reply = query.answer(&addresses(200), query.datagram_limit());
        assert!(reply.len() <= limit, "{payload:?}: {}", reply.len());
        let reply = read(&reply);
        assert_eq!(reply.answers.len(), fit, "{payload:?}");
        assert_eq!(reply.metadata.truncation, fit < 200, "{payload:?}");
        let whole = read(&query.answer(&addresses(200), LONGEST));
        assert_eq!(whole.answers.len(), 200);
        assert!(!whole.metadata.truncation);
    }
}

#[test]
fn failures_say_so() {
    for (code, expected) in [
        (Code::ServFail, ResponseCode::ServFail),
        (Code::Refused, ResponseCode::Refused),
        (Code::BadVers, ResponseCode::BADSIG),
    ] {
        let bytes = question("example.org.", Type::A, Some(1232));
        let query = Query::parse(&bytes).expect("a question");
        let reply = read(&query.failure(code));
        assert_eq!(reply.metadata.response_code, expected);
        assert_eq!(reply.queries.len(), 1);
        assert!(!reply.metadata.authoritative);
    }
}

/// A resolver's response to a question.
fn response(asked: &[u8], code: ResponseCode, text: usize) -> Vec<u8> {
    let asked = read(asked);
    let mut message = Message::response(asked.metadata.id, OpCode::Query);
    message.metadata.response_code = code;
    message.queries.clone_from(&asked.queries);
    for number in 0..text {
        let owner = asked.queries[0].name().clone();
        let data =
            hickory_proto::rr::RData::A(std::net::Ipv4Addr::new(1, 1, 1, number as u8).into());
        message.add_answer(hickory_proto::rr::Record::from_rdata(owner, 300, data));
    }
    message.to_vec().expect("it can be written")
}

#[test]
fn what_another_resolver_says_is_passed_on() {
    let bytes = question("ExAmPlE.org.", Type::A, None);
    let query = Query::parse(&bytes).expect("a question");
    let sent = query.forwarded(99);
    assert_eq!(sent[2..], bytes[2..], "nothing but the id differs");
    for (said, known, expected) in [
        (ResponseCode::NoError, false, ResponseCode::NoError),
        (ResponseCode::NXDomain, false, ResponseCode::NXDomain),
        (ResponseCode::Refused, false, ResponseCode::Refused),
        (ResponseCode::ServFail, true, ResponseCode::ServFail),
        (ResponseCode::NXDomain, true, ResponseCode::NoError),
    ] {
        let said = response(&sent, said, 0);
        assert!(query.is_answered_by(&said, 99));
        let reply = read(&query.passed_on(said, known, PLAIN_LIMIT));
        assert_eq!(reply.metadata.response_code, expected);
        assert_eq!(reply.metadata.id, 7);
        assert_eq!(reply.queries[0].name().to_ascii(), "ExAmPlE.org.");
    }
    let long = response(&sent, ResponseCode::NoError, 40);
    let whole = read(&query.passed_on(long.clone(), false, LONGEST));
    assert_eq!(whole.answers.len(), 40);
    let cut = query.passed_on(long, false, PLAIN_LIMIT);
    assert!(cut.len() <= PLAIN_LIMIT);
    let cut = read(&cut);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
}

/// What has no question in it has no bytes of one.
#[test]
fn a_response_without_the_question_stays_as_it_is() {
    let bytes = question("a.", Type::A, Some(1232));
    let query = Query::parse(&bytes).expect("a question");
    let mut said = query.failure(Code::FormErr);
    said.drain(12..bytes.len() - 11);
    said[4..6].fill(0);
    said[..2].copy_from_slice(&[0, 99]);
    assert!(query.is_answered_by(&said, 99));
    let reply = query.passed_on(said.clone(), false, 1232);
    assert_eq!(reply[..2], bytes[..2]);
    assert_eq!(reply[2..], said[2..]);
}

#[test]
fn an_update_is_for_the_resolver_and_no_question() {
    let mut bytes = question("example.org.", Type::SOA, None);
    assert!(Query::parse(&bytes).expect("a question").internet());
    bytes[2] |= 5 << 3;
    let update = Query::parse(&bytes).expect("like a question");
    assert!(!update.internet());
    let mut done = bytes[..12].to_vec();
    done[2] |= 0x80;
    done[4..12].fill(0);
    assert!(update.is_answered_by(&done, 7));
    assert_eq!(update.passed_on(done.clone(), false, PLAIN_LIMIT), done);
    let failed = read(&update.failure(Code::ServFail));
    assert_eq!(failed.metadata.op_code, OpCode::Update);
}

#[test]
fn zones_are_transferred() {
    for (kind, expected) in [(Type::AXFR, true), (Type::IXFR, true), (Type::SOA, false)] {
        let bytes = question("example.org.", kind, None);
        let query = Query::parse(&bytes).expect("a question");
        assert_eq!(query.is_transfer(), expected, "{kind}");
    }
}

#[test]
fn what_does_not_answer_the_question_is_not_taken_for_it() {
    let bytes = question("example.org.", Type::A, None);
    let query = Query::parse(&bytes).expect("a question");
    let said = response(&query.forwarded(99), ResponseCode::NoError, 1);
    assert!(query.is_answered_by(&said, 99));
    let loud = [&said[..12], &said[12..].to_ascii_uppercase()].concat();
    assert!(query.is_answered_by(&loud, 99), "in another case");
    assert!(!query.is_answered_by(&said, 98), "another id");
    let other = response(
        &question("example.com.", Type::A, None),
        ResponseCode::NoError,
        1,
    );
    assert!(!query.is_answered_by(&other, 7), "another question");
    assert!(!query.is_answered_by(&query.forwarded(99), 99), "itself");
    assert!(!query.is_answered_by(&said[..11], 99), "half a header");
    let mut bare = said[..12].to_vec();
    bare[4..12].fill(0);
    assert!(!query.is_answered_by(&bare, 99), "nothing");
    bare[3] |= 1;
    assert!(query.is_answered_by(&bare, 99), "it does not understand");
    assert_eq!(code(&bare), 1);
}

proptest! {
    #[test]
    fn any_bytes_are_answered_with_a_message(bytes: Vec<u8>, limit in 512usize..4096) {
        match Query::parse(&bytes) {
            Err(Malformed::Ignored) => {}
            Err(Malformed::Refused(reply)) => prop_assert!(reply.len() >= 12),
            Ok(query) => prop_assert!(query.answer(&addresses(200), limit).len() <= limit),
        }
    }
}
