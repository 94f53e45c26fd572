//! A host has one spelling that policies compare, reading it again gives the same, and the tunnel's authority
//! agrees with it.
#![no_main]

use std::net::IpAddr;

use ambit_core::hbone::Authority;
use ambit_http::host::Host;
use ambit_http::jwt::{JwksUrl, check_address};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(url) = JwksUrl::parse(text) {
        assert!(url.path.starts_with('/') && url.port != 0, "{url:?}");
        let address = url.host.parse::<IpAddr>();
        assert!(
            address.is_err() || address.is_ok_and(|it| check_address(it).is_ok()),
            "{url:?}"
        );
        let local = url.host == "localhost" || url.host.ends_with(".localhost");
        assert!(!local, "{url:?}");
    }
    let Ok(host) = Host::parse(text) else { return };
    let name = host.name();
    assert_eq!(host.authority(), text);
    assert!(
        !name
            .bytes()
            .any(|b| b.is_ascii_uppercase() || b"@/?#%\\ ,".contains(&b)),
        "{name}"
    );
    let bare = Host::parse(name).expect("a name is a host");
    assert_eq!((bare.name(), bare.port()), (name, None));
    let literal = name.starts_with('[');
    assert!(
        literal || name.split('.').all(|label| !label.is_empty()),
        "{name}"
    );
    let Some(port) = host.port() else { return };
    let again = Host::parse(format!("{name}:{port}")).expect("a name and a port");
    assert!(host.same(&again) && !host.same(&bare));
    match text.parse::<Authority>() {
        Ok(Authority::Host(found, at)) => assert_eq!((&*found, at), (name, port)),
        Ok(Authority::Addr(addr)) => {
            let ip: IpAddr = name.trim_matches(['[', ']']).parse().expect("an address");
            assert_eq!((addr.ip(), addr.port()), (ip.to_canonical(), port));
        }
        Err(_) => {}
    }
});
