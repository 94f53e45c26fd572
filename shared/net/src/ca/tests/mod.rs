//! The client against an authority on loopback; the store with paused time.

mod client;
mod store;

use ambit_core::identity::Identity;

fn id(name: &str) -> Identity {
    Identity::new("cluster.local", "shop", name).expect("valid")
}
