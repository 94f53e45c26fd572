//! Questions of the proxy itself, on a machine whose DNS it answers: what the system's resolver asks would come back here, and the
//! mesh would give an address of its own for a host whose real one is looked for. So the servers are asked with marked packets.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ambit_core::dns::{self, Query, RecordType};
use ambit_net::sys::Sockets;

use super::{Transport, upstream};

/// Where the servers are named, and where they are if what is named there is a resolver of the machine itself, whose own questions
/// are captured (systemd-resolved).
const SERVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// As resolv.conf(5) has it.
const MOST: usize = 3;
const PORT: u16 = 53;
/// Time for one server.
const PATIENCE: Duration = Duration::from_millis(1300);

/// The addresses of a host, of the first server that knows. That there are none is an error, as the system's resolver has it.
pub(in crate::proxy) async fn addresses(sockets: &Sockets, host: &str) -> io::Result<Vec<IpAddr>> {
    let texts = SERVERS.map(|path| fs::read_to_string(path).unwrap_or_default());
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "no DNS server is named");
    for server in servers(&texts) {
        let server = SocketAddr::new(server, PORT);
        let ask = |kind| one(sockets, server, host, kind);
        match both(tokio::join!(ask(RecordType::A), ask(RecordType::AAAA))) {
            Ok(found) if found.is_empty() => {
                let none = "the host has no address";
                return Err(io::Error::new(io::ErrorKind::NotFound, none));
            }
            Ok(found) => return Ok(found),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The addresses of both families. One that has some is enough; one that has none says nothing of the other.
fn both((v4, v6): (io::Result<Vec<IpAddr>>, io::Result<Vec<IpAddr>>)) -> io::Result<Vec<IpAddr>> {
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => Ok([v4, v6].concat()),
        (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

async fn one(
    sockets: &Sockets,
    server: SocketAddr,
    host: &str,
    kind: RecordType,
) -> io::Result<Vec<IpAddr>> {
    let query = dns::question(host, kind).and_then(|bytes| Query::parse(&bytes).ok());
    let query = query.ok_or(io::ErrorKind::InvalidInput)?;
    let response = upstream::ask(sockets, &query, Transport::Udp, &Ok(server), PATIENCE).await;
    let response = response.map_err(io::Error::other)?;
    let unknown = || io::Error::other(format!("{server} does not know"));
    dns::addresses(&response).ok_or_else(unknown)
}

/// The servers of the first file, unless all of them are resolvers of the machine itself and the second names others.
fn servers(texts: &[String; 2]) -> Vec<IpAddr> {
    let [named, behind] = texts.each_ref().map(|text| named(text));
    let is_local = named.iter().all(IpAddr::is_loopback);
    if is_local && !behind.is_empty() {
        return behind;
    }
    named
}

fn named(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        words.next().filter(|_| is_server)?.parse().ok()
    });
    servers.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_those_behind_a_resolver_of_the_machine() {
        let far = "# far\nsearch example.com\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\noptions ndots:2\n";
        let near = "nameserver 127.0.0.53\n";
        let many = "nameserver 192.0.2.1\n".repeat(5);
        for (first, second, expected) in [
            (far, "", &["192.0.2.1", "2001:db8::1"][..]),
            (near, far, &["192.0.2.1", "2001:db8::1"]),
            (near, "", &["127.0.0.53"]),
            (near, near, &["127.0.0.53"]),
            (far, near, &["192.0.2.1", "2001:db8::1"]),
            ("", "", &[]),
            (&many, "", &["192.0.2.1"; 3]),
        ] {
            let found = servers(&[first.to_owned(), second.to_owned()]);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{first:?} {second:?}");
        }
    }

    #[test]
    fn a_family_that_failed_is_not_one_without_addresses() {
        let one = || Ok(vec!["192.0.2.1".parse().expect("an address")]);
        let (none, failed) = (|| Ok(Vec::new()), || Err(io::Error::other("refused")));
        for (v4, v6, expected) in [
            (one(), one(), Some(2)),
            (one(), none(), Some(1)),
            (one(), failed(), Some(1)),
            (failed(), one(), Some(1)),
            (none(), none(), Some(0)),
            (none(), failed(), None),
            (failed(), none(), None),
            (failed(), failed(), None),
        ] {
            let said = format!("{v4:?} {v6:?}");
            let found = both((v4, v6)).ok().map(|found| found.len());
            assert_eq!(found, expected, "{said}");
        }
    }
}
