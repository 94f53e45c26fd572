//! Where it stops looking, and what it holds.

use super::*;

/// A block that would be changed.
fn fault() -> Vec<u8> {
    headers(99, &plain(&[("X", "1")]))
}

/// What cannot be followed, in frames.
fn strange() -> Vec<(&'static str, Vec<u8>)> {
    let block = |name, block: &[u8]| (name, headers(1, block));
    let open = frame(HEADERS, 0, 1, &[0x82]);
    let tail = |frames: &[Vec<u8>]| [std::slice::from_ref(&open), frames].concat().concat();
    let part = frame(CONTINUATION, 0, 1, &[]);
    let end = frame(CONTINUATION, END_HEADERS, 1, &[]);
    let large = frame(CONTINUATION, 0, 1, &[0x82; MAX_PAYLOAD]);
    let whole = END_HEADERS | PADDED;
    vec![
        block("the index of no entry", &[0xbe]),
        block("the name of no entry", &[0x7e, 0]),
        block("index 0", &[0x80]),
        block("a number without end", &[0xff; 9]),
        block("half a number", &[0xff]),
        block("a string longer than its block", &[0, 2, b'x']),
        block("no value", &[0, 1, b'x']),
        block("Huffman's code of nothing", &[0, 0x81, 0xff, 0]),
        block("a table larger than allowed", &[0x3f, 0xe2, 0x1f]),
        block("a table that changes late", &[0x82, 0x20]),
        block("an entry that did not fit", b"\x20\x40\x01x\x011\xbe"),
        block("an entry of nothing", &[0x40, 0, 0]),
        ("no stream", frame(HEADERS, END_HEADERS, 0, &[0x82])),
        ("a stream of ours", frame(HEADERS, END_HEADERS, 2, &[0x82])),
        ("no padding", frame(HEADERS, whole, 1, &[])),
        ("much padding", frame(HEADERS, whole, 1, &[2, 0])),
        (
            "no priority",
            frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0; 4]),
        ),
        ("a long frame", frame(DATA, 0, 1, &[0; MAX_PAYLOAD + 1])),
        ("a promise", frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4])),
        ("a tail of nothing", end.clone()),
        ("a frame between", tail(&[frame(DATA, 0, 1, &[])])),
        (
            "the tail of another",
            tail(&[frame(CONTINUATION, END_HEADERS, 3, &[])]),
        ),
        (
            "many pieces",
            tail(&[vec![part; CONTINUATIONS], vec![end]].concat()),
        ),
        ("a large block", tail(&vec![large; 4])),
    ]
}

#[test]
fn what_cannot_be_followed_is_left_to_h2() {
    for (name, bytes) in strange() {
        let bytes = connection(&[bytes, fault()]);
        assert_eq!(sifted([&*bytes]), bytes, "{name}");
        assert_eq!(sifted(bytes.chunks(1)), bytes, "{name}, byte by byte");
    }
}

#[test]
fn a_replaced_entry_outlives_nobody_who_knows_it() {
    let mut bad = Vec::new();
    Encoder::default().write(&mut bad, &Field::new("X", "1", How::Kept));
    let stained = connection(&[headers(1, &bad)]);
    let before = sifted([&*stained]);
    for (name, bytes) in strange() {
        // Its table is longer by one.
        if name.starts_with("the index") || name.starts_with("the name") {
            continue;
        }
        let sent = [&*stained, &bytes, &fault()].concat();
        let expected = [&*before, &NO_FRAME, &bytes, &fault()].concat();
        assert_eq!(sifted([&*sent]), expected, "{name}");
        assert_eq!(sifted(sent.chunks(1)), expected, "{name}, byte by byte");
        // Once it is gone, nothing is amiss.
        let gone = headers(1, &[0x20]);
        let sent = [&*stained, &gone, &bytes, &fault()].concat();
        let expected = [&*before, &gone, &bytes, &fault()].concat();
        assert_eq!(sifted([&*sent]), expected, "{name}, later");
    }
}

#[test]
fn a_fault_whose_replacement_fits_no_frame_is_left_to_h2() {
    let mut block = Vec::new();
    let mut encoder = Encoder::default();
    for _ in 0..10 {
        let mut field = Field::new("x", &"1".repeat(2_000), How::Kept);
        field.is_referred = false;
        encoder.write(&mut block, &field);
    }
    encoder.write(&mut block, &Field::new("X", "1", How::Plain));
    let (front, back) = block.split_at(10_000);
    let bytes = connection(&[
        frame(HEADERS, 0, 1, front),
        frame(CONTINUATION, END_HEADERS, 1, back),
    ]);
    assert_eq!(sifted([&*bytes]), bytes);
}

#[test]
fn one_block_is_held_and_nothing_between_blocks() {
    let mut sieve = Sieve::default();
    let bytes = connection(&[frame(HEADERS, 0, 1, &[0x82; MAX_PAYLOAD])]);
    let mut look = |bytes: &[u8]| {
        let straight = sieve.look(bytes);
        sieve.taken(usize::MAX);
        (straight, sieve.held.len(), sieve.held.capacity())
    };
    let (straight, held, _) = look(&bytes);
    assert_eq!(straight + held, bytes.len());
    let (_, held, capacity) = look(&frame(CONTINUATION, END_HEADERS, 1, &[]));
    assert_eq!((held, capacity), (0, 0));
    look(&frame(HEADERS, 0, 3, &[]));
    for _ in 0..CONTINUATIONS {
        let (_, held, _) = look(&frame(CONTINUATION, 0, 3, &[0x82; MAX_PAYLOAD]));
        assert!(held <= BOUND, "{held}");
    }
    assert_eq!((sieve.held.capacity(), sieve.out.capacity()), (0, 0));
}
