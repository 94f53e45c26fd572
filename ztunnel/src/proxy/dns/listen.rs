//! Where questions arrive: on the loopback addresses, for that is where redirected packets go, and what answers come from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ambit_net::sys::{self, Listen};
use tokio::net::{TcpListener, UdpSocket};

use super::super::{Pod, PodProxy, accept};
use super::{tcp, udp};
use crate::capture::DNS_PORT;

const LOOPBACKS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// The sockets of a pod's DNS, IPv4 first.
#[derive(Debug)]
pub struct Listeners {
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<TcpListener>,
}

impl Listeners {
    /// Opens them in the pod's network namespace, in the tokio runtime that is entered. Without IPv6 there are those of IPv4 alone.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn open(pod: &Pod) -> io::Result<Self> {
        let mut opened = Self {
            udp: Vec::new(),
            tcp: Vec::new(),
        };
        for loopback in LOOPBACKS {
            let address = (loopback, DNS_PORT).into();
            let both = pod.sockets.receive(address).and_then(|udp| {
                let tcp = pod.sockets.listen(address, Listen::Plain)?;
                Ok((udp, tcp))
            });
            match both {
                Ok((udp, tcp)) => {
                    opened.udp.push(udp);
                    opened.tcp.push(tcp);
                }
                Err(error) if loopback.is_ipv6() && sys::no_ipv6(&error) => {}
                Err(error) => {
                    let text = format!("cannot serve DNS on {address}: {error}");
                    return Err(io::Error::new(error.kind(), text));
                }
            }
        }
        Ok(opened)
    }
}

/// Serves a pod's DNS until it is drained.
pub(in super::super) fn spawn(proxy: &Arc<PodProxy>, listeners: Listeners) {
    for socket in listeners.udp {
        tokio::spawn(udp::serve(proxy.clone(), socket));
    }
    for listener in listeners.tcp {
        let listener = accept::Listener::new(listener, 1);
        accept::spawn(proxy, listener, Duration::ZERO, tcp::serve);
    }
}
