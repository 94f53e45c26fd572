//! However much room the reader has, it gets all there is, and then the end.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::Sieved;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// HEADERS of stream 1 with an indexed field.
const GOOD: &[u8] = b"\0\0\x01\x01\x05\0\0\0\x01\x82";
/// HEADERS of stream 3 with a name in upper case, and what goes on in their place.
const BAD: &[u8] = b"\0\0\x05\x01\x05\0\0\0\x03\0\x01X\x011";
const MALFORMED: &[u8] = b"\0\0\x03\x01\x05\0\0\0\x03\x0f\x2a\0";
const DATA: &[u8] = b"\0\0\x03\0\x01\0\0\0\x05abc";

/// What is read of `sent`, which arrives in pieces, with this much room at a time.
async fn read(sent: &[u8], piece: usize, room: usize) -> Vec<u8> {
    let (mut client, server) = duplex(piece);
    let mut server = Sieved::new(server);
    let reading = async {
        let mut all = Vec::new();
        let mut some = vec![0; room];
        loop {
            match server.read(&mut some).await.expect("no error") {
                0 => return all,
                read => all.extend_from_slice(&some[..read]),
            }
        }
    };
    let writing = async {
        client.write_all(sent).await.expect("taken");
        client.shutdown().await.expect("an end");
    };
    tokio::join!(reading, writing).0
}

#[tokio::test]
async fn all_is_read_whatever_the_room() {
    let sent = [PREFACE, SETTINGS, GOOD, BAD, DATA, BAD, GOOD].concat();
    let whole = [PREFACE, SETTINGS, GOOD, MALFORMED, DATA, MALFORMED, GOOD].concat();
    for end in 0..4 {
        // The end may come within a frame that is held.
        let end = end * 3;
        let (sent, whole) = (&sent[..sent.len() - end], &whole[..whole.len() - end]);
        for piece in [1, 2, 7, 4_096] {
            for room in [1, 3, 4_096] {
                let read = read(sent, piece, room).await;
                assert_eq!(read, whole, "{piece} with room for {room}, {end} less");
            }
        }
    }
}

#[tokio::test]
async fn what_is_written_goes_on_as_it_is() {
    let (mut client, server) = duplex(64);
    let mut server = Sieved::new(server);
    server.write_all(BAD).await.expect("room");
    server.shutdown().await.expect("an end");
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.expect("all of it");
    assert_eq!(all, BAD);
}
