//! Any bytes are a resource or an error; a resource is written and read again as the same, can be applied, and removed.
#![no_main]

use ambit_core::convert::{
    address_change, authorization_change, decode_address, decode_authorization,
};
use ambit_core::index::{self, Index};
use ambit_http::config::{Change, Config};
use ambit_http::convert::{change, decode, encode, key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    waypoint(bytes);
    address(bytes);
    authorization(bytes);
});

fn waypoint(bytes: &[u8]) {
    let mut config = Config::default();
    let Ok(resource) = decode(bytes) else {
        let (change, error) = change("policy/ns/a", bytes);
        assert!(error.is_some() && !matches!(change, Change::Remove(_)));
        config.apply(change);
        return;
    };
    assert_eq!(decode(&encode(&resource)).as_ref(), Ok(&resource));
    let name = resource.key().to_string();
    assert_eq!(key(&name), resource.key(), "{name}");
    let (change, error) = change(&name, bytes);
    assert_eq!((&change, error), (&Change::Set(resource.clone()), None));
    config.apply(change.clone());
    config.apply(change);
    config.apply(Change::Undecodable(resource.key(), "no".into()));
    config.apply(Change::Remove(resource.key()));
}

fn address(bytes: &[u8]) {
    use ambit_core::convert::Address;
    let Ok(found) = decode_address(bytes) else {
        return;
    };
    let name = match &found {
        Address::Workload(workload) => workload.uid.clone(),
        Address::Service(service) => service.key.to_string().into(),
    };
    let change = address_change(&name, bytes).expect("it decodes");
    let mut index = Index::new("istio-system");
    index.apply(change.clone());
    index.apply(change);
    index.apply(index::Change::RemoveAddress(name));
    assert_eq!(
        (index.workloads().count(), index.services().count()),
        (0, 0)
    );
}

fn authorization(bytes: &[u8]) {
    let mut index = Index::new("istio-system");
    let name = decode_authorization(bytes).map(|policy| policy.key.to_string());
    let decodes = name.is_ok();
    let name = name.unwrap_or_else(|_| "ns/a".into());
    let (change, error) = authorization_change(&name, bytes);
    assert_eq!(error.is_none(), decodes);
    index.apply(change.clone());
    index.apply(change);
    index.apply(index::Change::RemovePolicy(
        ambit_core::convert::policy_key(&name),
    ));
    assert_eq!(index.policies().count(), 0);
}
