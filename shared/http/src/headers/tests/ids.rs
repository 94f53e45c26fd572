//! Request ids.

use super::*;

#[test]
fn ids_are_kept_when_fit_and_made_otherwise() {
    let random = || [0xff; 16];
    let made = "ffffffff-ffff-4fff-bfff-ffffffffffff";
    let long = "a".repeat(128);
    let too_long = "a".repeat(129);
    let kept = "0b1c9ad6-0f67-4b43-9c0f-000000000000";
    let cases: [(&str, &[&str], &str); 8] = [
        ("none", &[], made),
        ("a UUID", &[kept], kept),
        ("of another form", &["a.b:c/d+e=@_~"], "a.b:c/d+e=@_~"),
        ("long", &[&long], &long),
        ("too long", &[&too_long], made),
        ("empty", &[""], made),
        ("with spaces and quotes", &["a\" b"], made),
        ("two", &["a", "b"], made),
    ];
    for (case, ids, wanted) in cases {
        let pairs: Vec<_> = ids.iter().map(|id| ("x-request-id", *id)).collect();
        let mut headers = headers(&pairs);
        let id = request_id(&mut headers, random);
        assert_eq!(id, wanted, "{case}");
        let left: Vec<_> = headers.get_all("x-request-id").iter().collect();
        assert_eq!(left, [wanted], "{case}");
    }
}

#[test]
fn ids_hold_all_of_the_randomness() {
    let bytes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let id = request_id(&mut HeaderMap::new(), || bytes);
    assert_eq!(id, "00010203-0405-4607-8809-0a0b0c0d0e0f");
}
