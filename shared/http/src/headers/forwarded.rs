//! Who the client is: `x-forwarded-for` and `x-forwarded-client-cert`.

use std::net::{IpAddr, SocketAddr};

use ambit_core::identity::Identity;
use http::{HeaderMap, HeaderValue};

use super::names::XFF;

/// The client after the trusted proxies: the last of them, `peer`, has appended the address of the one
/// before it, and so on. When the list is too short or an entry is no address, `peer`.
pub(super) fn client_ip(headers: &HeaderMap, peer: IpAddr, trusted_hops: u8) -> IpAddr {
    let Some(skip) = usize::from(trusted_hops).checked_sub(1) else {
        return peer;
    };
    let lines = headers.get_all(XFF).iter().rev();
    let mut entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    entries.nth(skip).and_then(address).unwrap_or(peer)
}

/// `IP`, `IP:PORT`, `[IP]` or `[IP]:PORT`.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let bare = entry.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let ip = bare.unwrap_or(entry).parse().ok();
    let ip = ip.or_else(|| entry.parse().ok().map(|it: SocketAddr| it.ip()));
    ip.map(|ip| ip.to_canonical())
}

/// The peer, behind what is there already.
pub(super) fn list(headers: &HeaderMap, peer: &HeaderValue) -> HeaderValue {
    let mut list = Vec::new();
    for line in headers.get_all(XFF) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(peer.as_bytes());
    HeaderValue::from_bytes(&list).expect("header values and addresses make one")
}

/// One element of `x-forwarded-client-cert` as Envoy writes it: `By` is the proxy's own identity, `URI` the
/// client's.
#[must_use]
pub fn xfcc(proxy: &Identity, client: &Identity) -> HeaderValue {
    let (by, uri) = (quoted(proxy.to_string()), quoted(client.to_string()));
    let text = format!("By={by};URI={uri}");
    HeaderValue::try_from(text).expect("identities are printable ASCII")
}

/// In quotes when it has one of `,;="`, with `"` escaped. No identity has, today.
fn quoted(text: String) -> String {
    if text.contains([',', ';', '=', '"']) {
        format!("\"{}\"", text.replace('"', "\\\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_separators_are_quoted() {
        let cases = [
            ("a/b", "a/b"),
            ("a,b", "\"a,b\""),
            ("a;b=\"c\"", "\"a;b=\\\"c\\\"\""),
        ];
        for (text, wanted) in cases {
            assert_eq!(quoted(text.into()), wanted);
        }
    }
}
