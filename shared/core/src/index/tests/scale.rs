//! The cost of a change does not grow with the mesh.

// The bound is real time: what it catches is quadratic work.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fixtures::{index, key, pod, service};
use crate::index::{Change, Index};
use crate::model::Workload;

const WORKLOADS: u32 = 100_000;
const SERVICES: u32 = 1_000;

fn workload(number: u32) -> Workload {
    let addr = std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string();
    let service = format!("ns/s{}", number % SERVICES);
    pod(&format!("p{number}"), &[&addr]).serving(&service, &[(80, 8080)])
}

fn mesh() -> Index {
    let services = (0..SERVICES).map(|number| {
        let vip = std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string();
        Change::from(service(&format!("ns/s{number}"), &[&vip]))
    });
    let workloads = (0..WORKLOADS).map(|number| Change::from(workload(number)));
    index(workloads.chain(services))
}

/// A bound that only quadratic work can miss, also in a debug build on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_hundred_thousand_workloads() {
    let start = Instant::now();
    let mut index = mesh();
    for number in 0..SERVICES {
        let endpoints = index.endpoints(&key(&format!("ns/s{number}")));
        assert_eq!(endpoints.map(|e| e.len()), Some(100));
    }
    // Every change to a published index copies only the path to it.
    let published = index.clone();
    for number in 0..1_000 {
        let before = index.clone();
        let mut changed = workload(number * 7);
        changed.canonical_revision = "v2".into();
        index.apply(Change::Workload(Arc::new(changed)));
        drop(before);
    }
    for number in 0..WORKLOADS {
        let uid = format!("Kubernetes//Pod/ns/p{number}");
        index.apply(Change::RemoveAddress(uid.into()));
    }
    assert_eq!(index.workloads().count(), 0);
    assert_eq!(published.workloads().count(), WORKLOADS as usize);
    let first = published.endpoints(&key("ns/s0")).expect("known");
    assert_eq!(first.len(), 100);
    assert!(start.elapsed() < BOUND, "took {:?}", start.elapsed());
}

#[test]
fn one_service_with_many_endpoints() {
    let start = Instant::now();
    let one = |number: u32| {
        let mut workload = workload(number);
        workload.services[0].0 = key("ns/s0");
        workload
    };
    let mut index = index((0..30_000).map(|number| one(number).into()));
    for number in 0..30_000 {
        let uid = one(number).uid;
        index.apply(Change::RemoveAddress(uid));
    }
    assert!(index.endpoints(&key("ns/s0")).is_none());
    assert!(start.elapsed() < BOUND, "took {:?}", start.elapsed());
}
