use std::io::Read;

use http_body_util::BodyExt;

use super::*;

/// Has something to do until it is told to end.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn work_that_a_profile_shows(over: &std::sync::atomic::AtomicBool) {
    let mut sum = 0_u64;
    while !over.load(std::sync::atomic::Ordering::Relaxed) {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
    }
}

async fn unpacked(answer: Answer) -> (StatusCode, String) {
    let status = answer.status();
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let mut plain = Vec::new();
    match flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain) {
        Ok(_) => (status, String::from_utf8_lossy(&plain).into_owned()),
        Err(_) => (status, String::from_utf8_lossy(&body).into_owned()),
    }
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn who_works_is_shown_by_function_and_thread_one_profile_at_a_time() {
    use std::sync::atomic::{AtomicBool, Ordering};

    static OVER: AtomicBool = AtomicBool::new(false);
    let builder = std::thread::Builder::new().name("busy-worker".to_owned());
    let worker = builder
        .spawn(|| work_that_a_profile_shows(&OVER))
        .expect("a thread");
    let asked = Query::parse("seconds=1&hz=250");
    let (first, second) = tokio::join!(cpu(&asked), cpu(&asked));
    OVER.store(true, Ordering::Relaxed);
    worker.join().expect("no panic");
    let (status, refused) = unpacked(second).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    let (status, profile) = unpacked(first).await;
    assert_eq!(status, StatusCode::OK, "{profile}");
    for wanted in ["work_that_a_profile_shows", "busy-worker", "nanoseconds"] {
        assert!(profile.contains(wanted), "{wanted} in {profile}");
    }
    let (status, _) = unpacked(cpu(&asked).await).await;
    assert_eq!(status, StatusCode::OK, "and once more");
}

#[tokio::test]
async fn numbers_that_are_none_are_named() {
    for (query, error) in [
        ("seconds=0", "seconds is a number from 1 to 50, not \"0\"\n"),
        (
            "seconds=51",
            "seconds is a number from 1 to 50, not \"51\"\n",
        ),
        (
            "seconds=50&hz=1000",
            "seconds times hz is 50000: ask for 10000 samples at most\n",
        ),
        (
            "seconds=1&hz=9999",
            "hz is a number from 1 to 1000, not \"9999\"\n",
        ),
        ("seconds=x", "seconds is a number from 1 to 50, not \"x\"\n"),
    ] {
        let (status, body) = unpacked(cpu(&Query::parse(query)).await).await;
        assert_eq!((status, &*body), (StatusCode::BAD_REQUEST, error));
    }
}
