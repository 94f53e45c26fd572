//! Who the client is, as the application is told.

use std::net::{IpAddr, SocketAddr};

use ambit_core::identity::Identity;
use http::{HeaderMap, HeaderValue};

use super::names::{XF_PROTO, XFCC, XFF, is_reserved, remove_names};

/// Whom a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    /// The TCP peer that opened the connection to the mesh.
    pub peer: IpAddr,
    /// Its verified identity.
    pub client: Option<&'a Identity>,
    /// Our own.
    pub proxy: &'a Identity,
    /// Proxies in front of the mesh whose `x-forwarded-for` is believed; 0 believes none.
    pub trusted_hops: u8,
    /// `http` or `https`: how the client spoke to the mesh.
    pub scheme: &'static str,
}

/// The client after the trusted proxies: the last of them, `peer`, has appended the address of the one
/// before it, and so on. When the list is too short or an entry is no address, `peer`.
#[must_use]
pub fn client_ip(headers: &HeaderMap, peer: IpAddr, trusted_hops: u8) -> IpAddr {
    let Some(skip) = usize::from(trusted_hops).checked_sub(1) else {
        return peer;
    };
    let lines = headers.get_all(XFF).iter().rev();
    let mut entries = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    entries.nth(skip).and_then(address).unwrap_or(peer)
}

/// `IP`, `IP:PORT`, `[IP]` or `[IP]:PORT`.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let ip = bare.unwrap_or(entry).parse().ok();
    let ip = ip.or_else(|| entry.parse().ok().map(|it: SocketAddr| it.ip()));
    ip.map(|ip| ip.to_canonical())
}

/// Says who the client is, right before a request leaves: after all filters, in place of whatever stands
/// there. `x-forwarded-for` is the peer alone, or appended to that of trusted proxies, whose `x-forwarded-proto`
/// is kept as well; `x-forwarded-client-cert` is the verified identity or nothing.
///
/// `x-ambit-*` headers of our own are set after this.
pub fn forward(headers: &mut HeaderMap, hop: &Hop<'_>) {
    remove_names(headers, is_reserved);
    let peer = hop.peer.to_canonical().to_string();
    let believed = hop.trusted_hops > 0;
    let list = match headers.get(XFF) {
        Some(_) if believed => {
            let lines = headers.get_all(XFF).iter();
            let lines = lines.filter_map(|line| line.to_str().ok());
            lines.chain([&*peer]).collect::<Vec<_>>().join(", ")
        }
        _ => peer,
    };
    let list = HeaderValue::try_from(list).expect("addresses and header text are header text");
    headers.insert(XFF, list);
    let known = |proto: &HeaderValue| proto == "http" || proto == "https";
    if !(believed && headers.get(XF_PROTO).is_some_and(known)) {
        headers.insert(XF_PROTO, HeaderValue::from_static(hop.scheme));
    }
    if let Some(client) = hop.client {
        headers.insert(XFCC, xfcc(hop.proxy, client));
    }
}

/// One element of `x-forwarded-client-cert` as Envoy writes it: `By` is the proxy's own identity, `URI` the client's.
#[must_use]
pub fn xfcc(proxy: &Identity, client: &Identity) -> HeaderValue {
    let (by, uri) = (quoted(proxy.to_string()), quoted(client.to_string()));
    let text = format!("By={by};URI={uri}");
    HeaderValue::try_from(text).expect("identities are printable ASCII")
}

/// In quotes when it has one of `,;="`, with `"` escaped.
fn quoted(text: String) -> String {
    if text.contains([',', ';', '=', '"']) {
        format!("\"{}\"", text.replace('"', "\\\""))
    } else {
        text
    }
}
