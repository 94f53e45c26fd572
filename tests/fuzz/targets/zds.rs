//! Any packet on the agent's socket is a message or an error; a message is written and read again as the same, and fits
//! into a packet.
//!
//! The first octet says whether a descriptor comes with the rest.
#![no_main]

use ambit_core::zds::{LONGEST, Request, answer, hello, read_answer, read_hello};
use libfuzzer_sys::fuzz_target;

/// Stands for a network namespace.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Netns;

fuzz_target!(|packet: &[u8]| {
    let Some((flags, message)) = packet.split_first() else {
        return;
    };
    let beside = (flags & 1 == 1).then_some(Netns);
    match Request::decode(message, beside) {
        Ok(request) => {
            assert!(message.len() <= LONGEST);
            assert_eq!(request.netns().copied(), beside, "none is lost");
            let again = Request::decode(&request.encode(), beside);
            assert_eq!(again.as_ref(), Ok(&request));
            let nothing_for_none = Request::decode(message, beside.xor(Some(Netns)));
            assert!(nothing_for_none.is_err(), "{request:?}");
        }
        Err(error) => is_told(Err(&error.to_string())),
    }
    if let Ok(outcome) = read_answer(message) {
        is_told(outcome.as_ref().map(|()| ()).map_err(String::as_str));
    }
    if read_hello(message).is_ok() {
        assert!(message.len() >= hello().len());
    }
});

/// An outcome reaches the other side, as far as a packet goes.
fn is_told(outcome: Result<(), &str>) {
    let message = answer(outcome);
    assert!(message.len() <= LONGEST, "{}", message.len());
    let heard = read_answer(&message).expect("an answer");
    match (outcome, heard) {
        (Ok(()), Ok(())) => {}
        (Err(said), Err(heard)) => assert!(
            !heard.is_empty() && (said.is_empty() || said.starts_with(&heard)),
            "{said} is heard as {heard}"
        ),
        (said, heard) => panic!("{said:?} is heard as {heard:?}"),
    }
}
