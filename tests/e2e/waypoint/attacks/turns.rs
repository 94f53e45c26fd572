//! Who speaks when: interim responses and upgrades in their turn, and nobody's bytes ahead of it. What changes
//! applies to the next request, also of a connection that is there.

use super::evil::UPGRADES;
use super::frames::{Outcome, good, hello};
use super::scene::scene;
use super::wire::Wire;

fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: evil.mesh\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: echo.mesh\r\n\r\n")
}

/// The status of the next response, interim or final.
fn status(wire: &mut Wire, what: &str) -> u16 {
    wire.response(what).expect(what).status
}

#[test]
fn a_body_is_asked_for_when_it_is_wanted() {
    let scene = scene();
    let mut wire = scene.dial("echo", 80);
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: echo.mesh\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        )
    };
    wire.send(head("/wanted").as_bytes());
    assert_eq!(status(&mut wire, "a request for the body"), 100);
    wire.send(b"body");
    let answer = wire.response("an answer").expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\"bytes\": 4"), "{answer:?}");
    // Nobody wants the body of what is refused.
    wire.send(head("/admin").as_bytes());
    assert_eq!(status(&mut wire, "a refusal"), 403);
}

#[test]
fn early_hints_reach_the_client() {
    let scene = scene();
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
    scene.evil.answer("/hints", hints.as_bytes());
    let mut wire = scene.dial("evil", 80);
    wire.send(get("/hints").as_bytes());
    let early = wire.response("hints").expect("hints");
    assert_eq!(early.status, 103);
    assert!(
        early.head.contains("</style.css>; rel=preload"),
        "{early:?}"
    );
    let answer = wire.response("an answer").expect("an answer");
    assert_eq!((answer.status, &*answer.body), (200, "fine"));
}

#[test]
fn nothing_passes_before_the_server_has_switched() {
    let scene = scene();
    let mut wire = scene.dial("evil", 80);
    wire.send(format!("{}too soon", handshake(UPGRADES)).as_bytes());
    assert_eq!(status(&mut wire, "a sign of the server"), 103);
    assert_eq!(status(&mut wire, "the switch"), 101);
    let wanted = b"(before: )too soon";
    let carried = wire.take("what was carried", |seen| {
        (seen.len() >= wanted.len()).then(|| (seen.to_vec(), seen.len()))
    });
    let carried = carried.expect("bytes both ways");
    assert_eq!(String::from_utf8_lossy(&carried), "(before: )too soon");
}

#[test]
fn what_follows_an_upgrade_that_is_refused_is_read_as_requests() {
    let scene = scene();
    for refusal in [200, 403, 426] {
        let path = format!("/refused-{refusal}");
        let answer = format!("HTTP/1.1 {refusal} No\r\nContent-Length: 2\r\n\r\nno");
        scene.evil.answer(&path, answer.as_bytes());
        let mut wire = scene.dial("evil", 80);
        // To the server it would be a good request.
        let hidden = get("/admin-behind-an-upgrade");
        wire.send((handshake(&path) + &hidden).as_bytes());
        assert_eq!(status(&mut wire, "the server's answer"), refusal);
        assert_eq!(status(&mut wire, "the policy's answer"), 403, "{refusal}");
        assert!(!scene.evil.was_asked("/admin-behind-an-upgrade"));
    }
}

#[test]
fn a_policy_applies_to_the_next_request_of_a_live_connection() {
    let scene = scene();
    let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {name: live, namespace: mesh}\nspec:\n  \
         targetRefs: [{kind: Service, group: \"\", name: echo}]\n  action: DENY\n  \
         rules: [{to: [{operation: {paths: [/live]}}]}]\n";
    let mut old = scene.dial("echo", 80);
    let mut new = scene.dial("echo", 80);
    new.send(&hello());
    let mut next = 1;
    let mut both = |when: &str| {
        old.send(get("/live").as_bytes());
        new.send(&good(next, "/live"));
        let answered = new.outcome(when, next);
        next += 2;
        (status(&mut old, when), answered)
    };
    assert_eq!(both("before"), (200, Outcome::Status(200)));
    scene.lab.apply(deny);
    assert_eq!(both("denied"), (403, Outcome::Status(403)));
    scene.lab.delete(deny);
    assert_eq!(both("allowed again"), (200, Outcome::Status(200)));
}
