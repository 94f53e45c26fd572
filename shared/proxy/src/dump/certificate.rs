//! Certificates, as `istioctl ztunnel-config certificates` reads them.

use ambit_core::identity::Identity;
use ambit_net::ca::{CertificateStore, Entry, Standing};
use ambit_net::tls::Shown;
use ambit_telemetry::log::utc;
use serde::Serialize;

/// An identity, and how its certificate stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    identity: Identity,
    state: &'static str,
    /// The leaf first.
    cert_chain: Vec<Link>,
    root_certs: Vec<Link>,
    last_error: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    pem: String,
    serial_number: String,
    valid_from: String,
    expiration_time: String,
}

/// Every certificate of a store.
#[must_use]
pub fn certificates(store: &CertificateStore) -> Vec<Certificate> {
    store.snapshot().into_iter().map(certificate).collect()
}

fn certificate(entry: Entry) -> Certificate {
    let state = match entry.standing {
        Standing::Valid => "Available",
        Standing::Pending => "Initializing",
        Standing::Expired => "Expired",
        Standing::Failed => "Unavailable",
    };
    let certified = entry.certified.as_deref();
    let (chain, roots) = certified.map_or((&[][..], &[][..]), |it| (it.chain(), it.roots()));
    // What could be used could be read.
    let links = |all: &[_]| {
        all.iter()
            .filter_map(|it| Shown::of(it).ok())
            .map(link)
            .collect()
    };
    Certificate {
        identity: entry.identity,
        state,
        cert_chain: links(chain),
        root_certs: links(roots),
        last_error: entry.last_error,
    }
}

fn link(shown: Shown) -> Link {
    Link {
        pem: shown.pem,
        serial_number: shown.serial,
        valid_from: utc(shown.not_before),
        expiration_time: utc(shown.not_after),
    }
}
