//! What goes on in place of blocks.

use super::*;

const MALFORMED: [u8; 3] = [0x0f, 42, 0];

/// What goes on of a block in one frame of stream 1, after `before`.
fn block(before: &[Vec<u8>], block: &[u8]) -> Vec<u8> {
    let before = connection(before);
    let whole = sifted([&*before, &headers(1, block)]);
    let rest = whole
        .strip_prefix(&*before)
        .expect("what was good goes on as it is");
    assert_eq!(rest[3..9], headers(1, &[])[3..9]);
    rest[9..].to_vec()
}

#[test]
fn what_h2_can_decode_goes_on_without_a_copy() {
    let huffman = Field {
        is_huffman: true,
        ..Field::new("user-agent", "a b", How::Kept)
    };
    let mut encoded = Vec::new();
    Encoder::default().write(&mut encoded, &huffman);
    for (name, block) in [
        ("nothing", Vec::new()),
        ("indexed", vec![0x82, 0x86, 0x84]),
        (
            "literals",
            plain(&[(":path", "/a\r\nb"), ("x", "\t\u{e4}")]),
        ),
        ("Huffman's code", encoded),
        // For these `h2` resets the stream.
        ("a connection field", plain(&[("connection", "close")])),
        ("a late pseudo-field", plain(&[("x", "1"), (":path", "/")])),
        ("a status", plain(&[(":status", "200")])),
        ("a table's size", vec![0x20, 0x3f, 0xe1, 0x1f, 0x82]),
    ] {
        let bytes = connection(&[headers(1, &block), frame(DATA, 0, 1, &[1; 100])]);
        let mut sieve = Sieve::default();
        assert_eq!(sieve.look(&bytes), bytes.len(), "{name}");
        assert!(sieve.taken(usize::MAX).is_empty(), "{name}");
        assert_eq!(sieve.unseen, 0, "{name}");
    }
}

#[test]
fn what_is_no_field_is_left_out() {
    let faults = [
        ("X-Upper", "1"),
        ("", "1"),
        ("", ""),
        ("a:b", "1"),
        ("a\r\nb", "1"),
        ("a\u{e4}", "1"),
        ("x", "a\r\nb: c"),
        ("x", "a\0b"),
        ("x", "\u{7f}"),
        (":other", "1"),
        (":method", "GET /"),
        (":method", ""),
        (":status", "2000"),
    ];
    for (name, value) in faults {
        for how in [How::Plain, How::Never] {
            for is_huffman in [false, true] {
                let mut bytes = vec![0x82];
                let field = Field {
                    is_huffman,
                    ..Field::new(name, value, how)
                };
                Encoder::default().write(&mut bytes, &field);
                bytes.extend(plain(&[("z", "1")]));
                assert_eq!(block(&[], &bytes), MALFORMED, "{name:?} {value:?}");
            }
        }
    }
}

#[test]
fn entries_that_are_none_are_replaced_by_others_of_their_size() {
    // The name stays where it is one.
    for (name, value, stands_for_it) in [
        ("X-Up", "12", "\x40\x04aaaa\x02aa"),
        ("X", "", "\x40\x01a\x00"),
        ("", "12", "\x40\x01a\x01a"),
        ("", "1", "\x40\x01a\x00"),
        ("x", "a\0b", "\x40\x01x\x03aaa"),
        (":method", "\r\n", "\x42\x02aa"),
        (":method", "", "\x40\x07aaaaaaa\x00"),
        (":status", "20", "\x40\x07aaaaaaa\x02aa"),
        (":other", "1", "\x40\x06aaaaaa\x01a"),
    ] {
        let mut bytes = Vec::new();
        Encoder::default().write(&mut bytes, &Field::new(name, value, How::Kept));
        let expected = [stands_for_it.as_bytes(), &MALFORMED].concat();
        assert_eq!(block(&[], &bytes), expected, "{name:?} {value:?}");
    }
}

#[test]
fn all_that_changes_the_table_goes_on() {
    let mut bytes = vec![0x3f, 0x45, 0x82];
    let mut encoder = Encoder::default();
    encoder.write(&mut bytes, &Field::new("x", "1", How::Kept));
    bytes.extend(plain(&[("y", "1"), ("Y", "1")]));
    encoder.write(&mut bytes, &Field::new("x", "\n", How::Kept));
    encoder.write(&mut bytes, &Field::new("z", "1", How::Kept));
    let mut expected = vec![0x3f, 0x45];
    expected.extend(b"\x40\x01x\x011\x7e\x01a\x40\x01z\x011");
    expected.extend(MALFORMED);
    assert_eq!(block(&[], &bytes), expected);
}

#[test]
fn a_replaced_entry_is_a_fault_wherever_it_is_used() {
    let mut encoder = Encoder::default();
    let mut bad = Vec::new();
    encoder.write(&mut bad, &Field::new("X", "1", How::Kept));
    encoder.write(&mut bad, &Field::new("x", "\n", How::Kept));
    let before = [headers(3, &bad)];
    let stands_for_it = b"\x40\x01a\x01a\x40\x01x\x01a";
    let known = connection(&[headers(3, &[&stands_for_it[..], &MALFORMED].concat())]);
    let after = |block: &[u8]| {
        let all = sifted([&*connection(&before), &headers(1, block)]);
        let rest = all.strip_prefix(&*known).expect("entries of the same size");
        rest[9..].to_vec()
    };
    assert_eq!(after(&[0x82, 0xbe]), MALFORMED, "the field with its value");
    assert_eq!(after(&[0x82, 0xbf]), MALFORMED, "the field with its name");
    let value = b"\x7f\x00\x012";
    let expected = [&b"\x40\x01a\x01a"[..], &MALFORMED].concat();
    assert_eq!(after(value), expected, "a new field of the name");
    // The name of the other is one.
    assert_eq!(after(b"\x7e\x012"), b"\x7e\x012");
    // An entry that fills the table has pushed both out.
    let mut large = Vec::new();
    encoder.write(&mut large, &Field::new("y", &"1".repeat(4_050), How::Kept));
    let last = [headers(1, &large), headers(5, &[0xbe]), headers(7, &[0xbf])].concat();
    let all = sifted([&*connection(&before), &last]);
    assert_eq!(all, [known, last].concat());
}

#[test]
fn a_block_in_pieces_becomes_one_frame() {
    let fields = plain(&[("x", "1"), ("connection", "close")]);
    let (front, back) = fields.split_at(5);
    let priority = [0, 0, 0, 9, 200];
    let padded = [&[3][..], &priority, front, &[0; 3]].concat();
    let flags = PADDED | PRIORITY | END_STREAM;
    let bytes = connection(&[
        frame(HEADERS, flags, 1, &padded),
        frame(CONTINUATION, 0, 1, &[]),
        frame(CONTINUATION, END_HEADERS, 1, back),
    ]);
    let block = [&priority[..], &fields].concat();
    let flags = PRIORITY | END_STREAM | END_HEADERS;
    let expected = connection(&[frame(HEADERS, flags, 1, &block)]);
    assert_eq!(sifted([&*bytes]), expected);
    // One that has come whole stays, padding and all.
    let flags = PADDED | PRIORITY | END_HEADERS;
    let bytes = connection(&[frame(HEADERS, flags, 1, &padded[..])]);
    assert_eq!(sifted([&*bytes]).len(), bytes.len());
    // As does one that is longer than a frame.
    let large = plain(&[("x", &"1".repeat(20_000))]);
    let (front, back) = large.split_at(10_000);
    let bytes = connection(&[
        frame(HEADERS, 0, 1, front),
        frame(CONTINUATION, END_HEADERS, 1, back),
    ]);
    assert_eq!(sifted([&*bytes]), bytes);
}

#[test]
fn a_stream_that_depends_on_itself_keeps_the_table_in_step() {
    let kept = b"\x40\x01x\x011";
    let payload = [&[0x80, 0, 0, 1, 0][..], &[0x82], kept].concat();
    let bytes = connection(&[frame(HEADERS, PRIORITY | END_HEADERS, 1, &payload)]);
    let block = [&kept[..], &MALFORMED].concat();
    let expected = connection(&[frame(HEADERS, END_HEADERS, 1, &block)]);
    assert_eq!(sifted([&*bytes]), expected);
}
