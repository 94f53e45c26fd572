use std::net::IpAddr;

use ambit_core::identity::Identity;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;

mod hops;
mod ids;
mod traces;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let value = HeaderValue::from_str(value).expect("a value");
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
