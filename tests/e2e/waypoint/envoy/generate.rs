//! Random cases, and requests that come near to what their rules say. The same seed gives the same.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::model::{
    Backend, Case, Edits, Match, PathEdit, PathMatch, Redirect, Request, Rewrite, Rule, SERVERS,
    Text,
};

const PATHS: [&str; 10] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/c",
    "/ab",
    "/v2",
    "/V2",
    "/x.y/z",
    "/caf%C3%A9",
];
const EXPRESSIONS: [(&str, &str); 5] = [
    ("/item/[0-9]+", "/item/42"),
    ("/a/.*", "/a/b"),
    ("/(a|v2)", "/v2"),
    (".*[.]js", "/lib/x.js"),
    ("/a(/b)*/?", "/a/b/b/"),
];
const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
const HEADERS: [&str; 3] = ["x-one", "x-two", "x-three"];
const VALUES: [&str; 5] = ["red", "green", "red,green", "Red", "a b"];
const PARAMETERS: [&str; 3] = ["one", "two", "three"];
const PARAMETER_VALUES: [&str; 4] = ["1", "2", "x", "1.0"];
const TEXTS: [(&str, &str); 3] = [("r.*", "red"), ("[0-9]+", "17"), ("(red|green)", "green")];
const NEW_PATHS: [&str; 6] = ["/", "/new", "/new/", "/n/e/w", "/a", "/n%20w"];
const HOSTS: [&str; 3] = ["other.example", "a.b.example", "x"];
/// What clients say; the last ones are no hosts.
const ASKED: [&str; 10] = [
    "shop.example",
    "shop.example",
    "shop.example:80",
    "shop.example:8080",
    "Shop.Example",
    "10.1.2.3:81",
    "[fd00::1]:443",
    "x@shop.example",
    "a b",
    "",
];
/// What requests bring besides.
const NOISE: [(&str, &str); 10] = [
    ("forwarded", "for=192.0.2.1"),
    ("accept", "*/*"),
    ("user-agent", "test/1"),
    ("x-under_score", "1"),
    ("x-forwarded-client-cert", "By=a;URI=b"),
    ("x-envoy-retry-on", "5xx"),
    ("x-empty", ""),
    ("te", "trailers"),
    ("cookie", "a=1; b=2"),
    ("x-odd", "\"a\", 'b' \\ \u{7e}"),
];

/// How often something is so, in percent.
fn often(random: &mut StdRng, percent: u32) -> bool {
    random.random_range(0..100) < percent
}

fn one<T: Copy>(random: &mut StdRng, of: &[T]) -> T {
    *of.choose(random).expect("something to choose from")
}

/// As many cases as it takes for so many requests, and the requests.
pub(super) fn generate(seed: u64, requests: usize, each: usize) -> (Vec<Case>, Vec<Request>) {
    let mut random = StdRng::seed_from_u64(seed);
    let cases: Vec<Case> = (0..requests.div_ceil(each))
        .map(|number| case(&mut random, number))
        .collect();
    let requests = (0..requests)
        .map(|at| request(&mut random, &cases[at / each]))
        .collect();
    (cases, requests)
}

fn case(random: &mut StdRng, number: usize) -> Case {
    let objects = random.random_range(1..=2);
    let routes = (0..objects)
        .map(|_| {
            let rules = random.random_range(1..=4);
            (0..rules).map(|_| rule(random)).collect()
        })
        .collect();
    Case { number, routes }
}

fn rule(random: &mut StdRng) -> Rule {
    let count = random.random_range(0..=3);
    let mut rule = Rule {
        matches: (0..count).map(|_| condition(random)).collect(),
        ..Rule::default()
    };
    if often(random, 30) {
        rule.request = Some(edits(random, ["x-one", "x-two", "x-new"]));
    }
    if often(random, 30) {
        rule.response = Some(edits(random, ["x-shop", "x-new", "content-type"]));
    }
    let prefixes = rule.matches.iter().all(|it| it.prefix().is_some());
    match random.random_range(0..10) {
        0..2 => rule.redirect = Some(redirect(random, prefixes)),
        2..5 => rule.rewrite = Some(rewrite(random, prefixes)),
        _ => {}
    }
    if rule.redirect.is_none() {
        rule.backends = backends(random);
    }
    rule
}

fn condition(random: &mut StdRng) -> Match {
    let path = match random.random_range(0..10) {
        0 => None,
        1..4 => Some(PathMatch::Exact(one(random, &PATHS).to_owned())),
        4..9 => Some(PathMatch::Prefix(one(random, &PATHS).to_owned())),
        _ => {
            let (regex, sample) = one(random, &EXPRESSIONS);
            Some(PathMatch::Regex(regex, sample))
        }
    };
    let headers = match random.random_range(0..10) {
        0..6 => 0,
        6..9 => 1,
        _ => 2,
    };
    Match {
        path,
        method: often(random, 25).then(|| one(random, &METHODS)),
        headers: texts(random, headers, &HEADERS, &VALUES),
        query: {
            let count = usize::from(often(random, 20));
            texts(random, count, &PARAMETERS, &PARAMETER_VALUES)
        },
    }
}

fn texts(
    random: &mut StdRng,
    count: usize,
    names: &[&'static str],
    values: &[&'static str],
) -> Vec<(&'static str, Text)> {
    let names: Vec<&str> = names.choose_multiple(random, count).copied().collect();
    names
        .into_iter()
        .map(|name| match often(random, 25) {
            true => {
                let (regex, sample) = one(random, &TEXTS);
                (name, Text::Regex(regex, sample))
            }
            false => (name, Text::Exact(one(random, values))),
        })
        .collect()
}

/// Each of the names in one place, or in none.
fn edits(random: &mut StdRng, names: [&'static str; 3]) -> Edits {
    let mut edits = Edits::default();
    for name in names {
        match random.random_range(0..4) {
            0 => edits.set.push((name, one(random, &VALUES))),
            1 if name != "content-type" => edits.add.push((name, one(random, &VALUES))),
            2 => edits.remove.push(name),
            _ => {}
        }
    }
    edits
}

fn path_edit(random: &mut StdRng, prefixes: bool) -> PathEdit {
    let path = one(random, &NEW_PATHS);
    match prefixes && often(random, 70) {
        true => PathEdit::Prefix(path),
        false => PathEdit::Full(path),
    }
}

fn redirect(random: &mut StdRng, prefixes: bool) -> Redirect {
    Redirect {
        scheme: often(random, 40).then(|| one(random, &["http", "https"])),
        host: often(random, 50).then(|| one(random, &HOSTS)),
        port: often(random, 30).then(|| one(random, &[80, 443, 8080])),
        path: often(random, 60).then(|| path_edit(random, prefixes)),
        status: one(random, &[301, 302, 303, 307, 308]),
    }
}

fn rewrite(random: &mut StdRng, prefixes: bool) -> Rewrite {
    let path = often(random, 75).then(|| path_edit(random, prefixes));
    Rewrite {
        host: (path.is_none() || often(random, 40)).then(|| one(random, &HOSTS)),
        path,
    }
}

/// One with all the weight at most: what is drawn is the same for both.
fn backends(random: &mut StdRng) -> Vec<Backend> {
    let count = random.random_range(0..10);
    if count == 0 {
        return Vec::new();
    }
    let backend = |random: &mut StdRng, weight| Backend {
        server: (!often(random, 10)).then(|| one(random, &SERVERS)),
        weight,
        // Other headers than the rule's: the two proxies take rule and backend in another order.
        request: often(random, 20).then(|| edits(random, ["x-three", "x-four", "x-more"])),
        response: often(random, 20).then(|| edits(random, ["x-backend", "x-more", "x-far"])),
    };
    let heavy = often(random, 95);
    let mut backends = vec![backend(random, u32::from(heavy))];
    if often(random, 30) {
        backends.push(backend(random, 0));
    }
    if often(random, 50) {
        backends.reverse();
    }
    backends
}

fn request(random: &mut StdRng, case: &Case) -> Request {
    let rules: Vec<&Rule> = case.routes.iter().flatten().collect();
    let rule = one(random, &rules);
    let wanted = rule.matches.choose(random).cloned().unwrap_or_default();
    // Near to what a rule says, and half of the time exactly that.
    let exact = often(random, 50);
    let keep = |random: &mut StdRng| exact || often(random, 70);
    let path = match &wanted.path {
        Some(PathMatch::Exact(path) | PathMatch::Prefix(path)) if keep(random) => path.as_str(),
        Some(PathMatch::Regex(_, sample)) if keep(random) => sample,
        _ => one(random, &PATHS),
    };
    let mut target = path.as_bytes().to_vec();
    if wanted.prefix().is_some() && often(random, 50) {
        let more = one(random, &["/", "/more", "more", "//more/", "/b/c", "x"]);
        target.extend_from_slice(more.as_bytes());
    }
    if often(random, 40) {
        target = otherwise(random, target);
    }
    let query = query(random, &wanted, exact);
    if !query.is_empty() {
        target.push(b'?');
        target.extend_from_slice(query.as_bytes());
    }
    let mut headers: Vec<(&str, &str)> = Vec::new();
    for (name, text) in &wanted.headers {
        if keep(random) {
            headers.push((name, text.sample()));
        }
    }
    for _ in 0..random.random_range(0..3) {
        if !exact {
            headers.push((one(random, &HEADERS), one(random, &VALUES)));
        }
        headers.push(one(random, &NOISE));
    }
    let body = often(random, 15).then_some("one body");
    Request {
        case: case.number,
        method: match wanted.method {
            Some(method) if keep(random) => method,
            _ => one(random, &METHODS),
        },
        target,
        host: match often(random, 60) {
            true => ASKED[0],
            false => one(random, &ASKED),
        },
        headers,
        body,
        h2: often(random, 40),
    }
}

fn query(random: &mut StdRng, wanted: &Match, exact: bool) -> String {
    let mut pairs: Vec<String> = Vec::new();
    for (name, text) in &wanted.query {
        if exact || often(random, 70) {
            let (first, rest) = text.sample().split_at(1);
            pairs.push(match often(random, 20) {
                true => format!("{name}=%{:x}{rest}", first.as_bytes()[0]),
                false => format!("{name}={first}{rest}"),
            });
        }
    }
    if often(random, 20) {
        let (name, value) = (one(random, &PARAMETERS), one(random, &PARAMETER_VALUES));
        let at = random.random_range(0..=pairs.len());
        pairs.insert(at, format!("{name}={value}"));
    }
    if often(random, 10) {
        let odd = ["", "one", "a=%2f..", "b?c", "d=/../", "one=1&one=2", "{f}|"];
        pairs.push(one(random, &odd).to_owned());
    }
    pairs.join("&")
}

/// Another spelling: of the same path, of another, or of none.
fn otherwise(random: &mut StdRng, mut path: Vec<u8>) -> Vec<u8> {
    let at = random.random_range(1..=path.len());
    let mut insert = |text: &[u8]| {
        path.splice(at..at, text.iter().copied());
    };
    match random.random_range(0..19) {
        0 => insert(b"/./"),
        1 => insert(b"/zz/../"),
        2 => insert(b"//"),
        3 => insert(b"/../"),
        4 => insert(b"/%2e%2E/"),
        5 => insert(b"\\"),
        6 => insert(b"%2f"),
        7 => insert(b"%5C"),
        8 => insert(b"%00"),
        9 => insert(b"#x"),
        10 => insert(b"%zz"),
        11 => insert(b";p=1"),
        12 => insert("\u{e9}".as_bytes()),
        13 => insert(b"%c3%a8"),
        14 => insert(b"/..;p=1/"),
        15 => insert(b"\"<{|}>^`"),
        16 => insert(b"[a]'(b)!*:@&=+$,"),
        17 => path = String::from_utf8_lossy(&path).to_uppercase().into_bytes(),
        // Escapes that say nothing.
        _ => {
            let byte = path[at - 1];
            if byte.is_ascii_alphanumeric() && !path.contains(&b'%') {
                path.splice(at - 1..at, format!("%{byte:02x}").into_bytes());
            }
        }
    }
    path
}
