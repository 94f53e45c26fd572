//! UDP in a tunnel: capsules come in whatever pieces, hold no more than one, and what is read is written and read again as the same.
#![no_main]

use ambit_core::hbone::datagram::{Capsules, encode, parse_path, path};
use libfuzzer_sys::fuzz_target;

/// All that is read of a stream that comes in pieces of `size`, and whether it could be followed.
fn read(stream: &[u8], size: usize) -> (Vec<Vec<u8>>, bool) {
    let mut capsules = Capsules::default();
    let mut found = Vec::new();
    for piece in stream.chunks(size) {
        capsules.put(piece);
        loop {
            match capsules.take() {
                Ok(Some(payload)) => found.push(payload),
                Ok(None) => break,
                Err(_) => return (found, false),
            }
        }
    }
    (found, capsules.end().is_ok())
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Ok(target)) = std::str::from_utf8(bytes).map(parse_path) {
        assert!(target.port() != 0 && target.ip() == target.ip().to_canonical());
        assert_eq!(parse_path(&path(target)), Ok(target));
    }
    let Some((size, stream)) = bytes.split_first() else {
        return;
    };
    let (found, ended) = read(stream, usize::from(*size).max(1));
    assert_eq!(
        read(stream, stream.len().max(1)),
        (found.clone(), ended),
        "the pieces do not matter"
    );
    let written: Vec<u8> = found
        .iter()
        .flat_map(|payload| encode(payload).expect("it was one"))
        .collect();
    assert_eq!(read(&written, 7), (found, true));
});
