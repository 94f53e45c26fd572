//! What is read ahead or sent again is the whole body, its trailers with it.

use std::sync::Arc;

use http::HeaderValue;

use super::super::mirror;
use super::*;

fn data(text: &'static str) -> Frame {
    Frame::Data(Bytes::from_static(text.as_bytes()))
}

fn trailers() -> Frame {
    let sum = HeaderValue::from_static("1");
    Frame::Trailers(
        [(http::HeaderName::from_static("x-sum"), sum)]
            .into_iter()
            .collect(),
    )
}

/// A body of unknown length that comes in these parts.
fn body(frames: impl IntoIterator<Item = Frame>) -> Body {
    let (mut feed, copied) = mirror::feed(&Arc::default());
    for frame in frames {
        feed.piece(&frame);
    }
    feed.end();
    Body::Copy(copied, Framing::Chunked)
}

/// The text of a body, and what its trailers say.
async fn read(body: &mut Body) -> (String, Option<String>) {
    let mut text = String::new();
    loop {
        match body.next().await.expect("a whole body") {
            Some(Frame::Data(data)) => text += std::str::from_utf8(&data).expect("text"),
            Some(Frame::Trailers(trailers)) => {
                let sum = trailers["x-sum"].to_str().expect("text");
                return (text, Some(sum.to_owned()));
            }
            None => return (text, None),
        }
    }
}

fn whole() -> (String, Option<String>) {
    ("abcd".to_owned(), Some("1".to_owned()))
}

#[tokio::test]
async fn every_attempt_has_the_trailers() {
    let kept = Repeatable::new(body([data("ab"), data("cd"), trailers()]), 64);
    // The first attempt fails before the end, the second after it.
    let first = kept.body().next().await.expect("a part");
    assert!(matches!(first, Some(Frame::Data(_))));
    for attempt in 2..=3 {
        let mut body = kept.body();
        assert_eq!(body.framing(), Framing::Chunked, "attempt {attempt}");
        assert_eq!(read(&mut body).await, whole(), "attempt {attempt}");
    }
    assert!(kept.is_whole());
}

#[tokio::test]
async fn what_is_read_ahead_keeps_its_trailers() {
    let ahead = body([data("ab"), data("cd"), trailers()]).read_ahead(4);
    let (mut body, seen) = ahead.await.expect("a body");
    assert_eq!(seen.as_deref(), Some(&b"abcd"[..]));
    assert_eq!(body.framing(), Framing::Chunked, "trailers need it");
    assert_eq!(read(&mut body).await, whole());
}

#[tokio::test]
async fn what_is_too_long_to_be_read_ahead_is_still_whole() {
    let ahead = body([data("ab"), data("cd"), trailers()]).read_ahead(1);
    let (mut body, seen) = ahead.await.expect("a body");
    assert_eq!(seen, None);
    assert_eq!(read(&mut body).await, whole());
}

#[tokio::test]
async fn a_body_without_trailers_has_a_length_once_it_is_read_ahead() {
    for (frames, framing) in [
        (vec![data("ab"), data("cd")], Framing::Length(4)),
        (vec![], Framing::None),
    ] {
        let (body, _) = body(frames).read_ahead(4).await.expect("a body");
        assert_eq!(body.framing(), framing);
    }
}

/// A body that goes on for ever.
fn endless() -> Body {
    let (mut feed, copied) = mirror::feed(&Arc::default());
    feed.piece(&data("ab"));
    // It is not over as long as that is there.
    std::mem::forget(feed);
    Body::Copy(copied, Framing::Chunked)
}

#[tokio::test(start_paused = true)]
async fn what_is_late_is_cut_off_and_a_call_is_told_why() {
    let soon = || Instant::now() + std::time::Duration::from_secs(1);
    let mut body = endless().until(soon(), false);
    assert!(matches!(body.next().await, Ok(Some(Frame::Data(_)))));
    assert!(!body.is_late());
    assert!(body.next().await.is_err() && body.is_late());

    let mut body = endless().until(soon(), true);
    assert!(matches!(body.next().await, Ok(Some(Frame::Data(_)))));
    let Ok(Some(Frame::Trailers(trailers))) = body.next().await else {
        panic!("no trailers");
    };
    assert_eq!(trailers["grpc-status"], "4");
    assert!(body.is_late() && matches!(body.next().await, Ok(None)));

    // It has something to say at any time.
    let mut body = endless().until(Instant::now(), true);
    assert!(matches!(body.next().await, Ok(Some(Frame::Trailers(_)))));
    // A length was promised: trailers would make what is short look whole.
    let (_feed, copied) = mirror::feed(&Arc::default());
    let body = Body::Copy(copied, Framing::Length(5));
    assert!(body.until(soon(), true).next().await.is_err());
    // What has come whole is given to a client that takes its time.
    let mut body = body_in_time();
    for _ in 0..2 {
        assert!(matches!(body.next().await, Ok(Some(Frame::Data(_)))));
    }
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    let (_, status) = read(&mut body).await;
    assert_eq!(status, whole().1);
    assert!(!body.is_late());
    // Who is in time has all.
    let mut body = body_in_time();
    assert_eq!(read(&mut body).await, whole());
    assert!(!body.is_late());
}

fn body_in_time() -> Body {
    let at = Instant::now() + std::time::Duration::from_secs(1);
    body([data("ab"), data("cd"), trailers()]).until(at, true)
}
