//! The first and the last thing done to the headers of a request.

use std::net::IpAddr;

use ambit_core::identity::Identity;
use http::header::FORWARDED;
use http::{HeaderMap, HeaderValue};

use super::forwarded::{client_ip, list, xfcc};
use super::hop::strip_request;
use super::names::{XF_PROTO, XFCC, XFF, is_reserved, remove_names};

/// The TCP peer that opened a connection to the mesh, and what is said of it: the same for all of its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    address: IpAddr,
    forwarded_for: HeaderValue,
    client_cert: Option<HeaderValue>,
}

impl Peer {
    /// A peer that nothing is known of but its address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let text = HeaderValue::try_from(address.to_string());
        Self {
            address,
            forwarded_for: text.expect("an address is printable ASCII"),
            client_cert: None,
        }
    }

    /// With the identity of `client`, which `proxy` has verified.
    #[must_use]
    pub fn verified(self, proxy: &Identity, client: &Identity) -> Self {
        Self {
            client_cert: Some(xfcc(proxy, client)),
            ..self
        }
    }
}

/// Whom a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    /// Who opened the connection.
    pub peer: &'a Peer,
    /// Proxies in front of the mesh whose `x-forwarded-for` is believed; 0 believes none.
    pub trusted_hops: u8,
    /// `http` or `https`: how the client spoke to the mesh.
    pub scheme: &'static str,
}

/// What is known of a request after [`receive`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The client after the trusted proxies: `remote_ip` of the facts that policies judge.
    pub client_ip: IpAddr,
    /// What `upgrade` asked for. It is passed on only where the upgrade is enabled.
    pub upgrade: Option<HeaderValue>,
    forwarded_for: HeaderValue,
    proto: HeaderValue,
    xfcc: Option<HeaderValue>,
}

/// Makes a received request safe to judge.
///
/// Removes hop-by-hop headers and those that `connection` names, what only proxies may send
/// (`x-forwarded-client-cert`, `x-envoy-*`, `x-istio-*`, `x-ambit-*`, and `forwarded`, which is another word for
/// `x-forwarded-for`), and names with an underscore, which many applications read as a hyphen.
///
/// Then says who the client is: `x-forwarded-for` is the peer alone, or appended to that of trusted proxies,
/// whose `x-forwarded-proto` is kept as well; `x-forwarded-client-cert` is the verified identity, or nothing.
pub fn receive(headers: &mut HeaderMap, hop: &Hop<'_>) -> Received {
    let upgrade = strip_request(headers);
    remove_names(headers, |name| {
        *name == FORWARDED || is_reserved(name) || name.as_str().contains('_')
    });
    let believed = hop.trusted_hops > 0;
    let known = |proto: &&HeaderValue| *proto == "http" || *proto == "https";
    let proto = believed.then(|| headers.get(XF_PROTO)).flatten();
    let proto = proto.filter(known);
    let received = Received {
        client_ip: client_ip(headers, hop.peer.address, hop.trusted_hops),
        upgrade,
        forwarded_for: match believed {
            true => list(headers, &hop.peer.forwarded_for),
            false => hop.peer.forwarded_for.clone(),
        },
        proto: proto
            .cloned()
            .unwrap_or(HeaderValue::from_static(hop.scheme)),
        xfcc: hop.peer.client_cert.clone(),
    };
    received.say(headers);
    received
}

impl Received {
    /// Says it again, right before the request leaves: after all filters and authorizers, in place of whatever
    /// stands there. Our own `x-ambit-*` headers are set after this.
    pub fn forward(&self, headers: &mut HeaderMap) {
        if !self.stands(headers) {
            remove_names(headers, is_reserved);
            self.say(headers);
        }
    }

    /// Whether exactly this is said, once, and nothing else that only we may say: nobody has touched it.
    fn stands(&self, headers: &HeaderMap) -> bool {
        let mut said = [false; 3];
        for (name, value) in headers {
            let (which, ours) = match name {
                _ if *name == XFF => (0, Some(&self.forwarded_for)),
                _ if *name == XF_PROTO => (1, Some(&self.proto)),
                _ if *name == XFCC => (2, self.xfcc.as_ref()),
                _ if is_reserved(name) => return false,
                _ => continue,
            };
            if ours != Some(value) || std::mem::replace(&mut said[which], true) {
                return false;
            }
        }
        said == [true, true, self.xfcc.is_some()]
    }

    fn say(&self, headers: &mut HeaderMap) {
        headers.insert(XFF, self.forwarded_for.clone());
        headers.insert(XF_PROTO, self.proto.clone());
        if let Some(xfcc) = &self.xfcc {
            headers.insert(XFCC, xfcc.clone());
        }
    }
}
