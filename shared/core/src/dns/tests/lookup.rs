use std::net::IpAddr;

use hickory_proto::op::{Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType as Type};
use proptest::prelude::*;

use crate::dns::{Query, RecordType, addresses, question};

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

/// What another implementation answers to our question.
fn response(host: &str, code: ResponseCode) -> Vec<u8> {
    let asked = question(host, RecordType::A).expect("a question");
    let asked = Message::from_vec(&asked).expect("another can read it");
    let mut message = Message::query();
    message.metadata = Metadata::response_from_request(&asked.metadata);
    message.metadata.response_code = code;
    message.add_query(asked.queries[0].clone());
    let alias = name("other.example.");
    let data = [
        (name(host), RData::CNAME(CNAME(alias.clone()))),
        (alias.clone(), RData::A(A::new(192, 0, 2, 1))),
        (alias.clone(), RData::TXT(TXT::new(vec!["text".to_owned()]))),
        (
            alias,
            RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        ),
    ];
    for (owner, data) in data {
        message.add_answer(Record::from_rdata(owner, 60, data));
    }
    message.to_vec().expect("it can be written")
}

#[test]
fn a_question_reads_as_one() {
    for (host, kind, other) in [
        ("db.example.com", RecordType::A, Type::A),
        ("db.example.com.", RecordType::AAAA, Type::AAAA),
    ] {
        let bytes = question(host, kind).expect("a question");
        let asked = Message::from_vec(&bytes).expect("another can read it");
        assert_eq!(asked.queries[0].name().to_ascii(), "db.example.com.");
        assert_eq!(asked.queries[0].query_type(), other);
        assert!(asked.metadata.recursion_desired);
        let own = Query::parse(&bytes).expect("so can we");
        assert_eq!((own.name(), own.kind()), (Some("db.example.com"), kind));
    }
    let long = "a".repeat(64);
    let many = "a.".repeat(127);
    for host in ["", ".", "a..b", ".a", &long, &format!("{many}a")] {
        assert_eq!(question(host, RecordType::A), None, "{host:?}");
    }
}

#[test]
fn addresses_are_read_behind_names_and_other_records() {
    let found = addresses(&response("db.example.com.", ResponseCode::NoError));
    let expected: [IpAddr; 2] = ["192.0.2.1", "2001:db8::1"].map(|it| it.parse().expect("one"));
    assert_eq!(found, Some(expected.to_vec()));
    for (code, expected) in [
        (ResponseCode::NXDomain, Some(Vec::new())),
        (ResponseCode::ServFail, None),
        (ResponseCode::Refused, None),
    ] {
        let found = addresses(&response("db.example.com.", code));
        assert_eq!(found, expected, "{code}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_not(
        cut in 0usize..200,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = response("db.example.com.", ResponseCode::NoError);
        let whole = bytes.len();
        bytes.truncate(cut);
        let is_cut = bytes.len() < whole;
        for (at, octet) in &changes {
            let length = bytes.len();
            if let Some(found) = bytes.get_mut(at.index(length.max(1))) {
                *found = *octet;
            }
        }
        let found = addresses(&bytes);
        prop_assert!(found.as_ref().is_none_or(|found| found.len() <= bytes.len() / 4));
        prop_assert!(!(is_cut && changes.is_empty()) || found.is_none());
    }
}
