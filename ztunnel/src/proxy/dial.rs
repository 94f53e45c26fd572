//! TCP and UDP to where a plan leads.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ambit_core::plan::InboundPlan;
use ambit_net::sys::Sockets;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

use super::{Failure, Settings};

/// Connects within the time limit, from the kernel's choice of address.
pub(super) async fn plain(
    sockets: &Sockets,
    target: SocketAddr,
    settings: &Settings,
) -> Result<TcpStream, Failure> {
    connect(sockets, target, None, settings.connect_timeout).await
}

/// Connects to the application that an inbound plan leads to, from the caller's address when
/// that is of the same family, and says first what the plan has to say.
pub(super) async fn application(
    sockets: &Sockets,
    plan: &InboundPlan,
    caller: IpAddr,
    settings: &Settings,
) -> Result<TcpStream, Failure> {
    let (source, limit) = (source(plan, caller, settings), settings.connect_timeout);
    let mut stream = connect(sockets, plan.dial, source, limit).await?;
    if let Some(header) = &plan.proxy_header {
        let written = stream.write_all(&header.encode()).await;
        written.map_err(|error| failed(plan.dial, error))?;
    }
    Ok(stream)
}

/// A socket that exchanges datagrams with the application that an inbound plan leads to, from the caller's address when that is of the same
/// family.
pub(super) fn datagrams(
    sockets: &Sockets,
    plan: &InboundPlan,
    caller: IpAddr,
    settings: &Settings,
) -> Result<UdpSocket, Failure> {
    correspond(sockets, plan.dial, source(plan, caller, settings))
}

/// The same with anybody else, from the kernel's choice of address.
pub(super) fn plain_datagrams(sockets: &Sockets, target: SocketAddr) -> Result<UdpSocket, Failure> {
    correspond(sockets, target, None)
}

fn correspond(
    sockets: &Sockets,
    target: SocketAddr,
    source: Option<IpAddr>,
) -> Result<UdpSocket, Failure> {
    let socket = sockets.correspond(target, source);
    socket.map_err(|error| failed(target, error))
}

/// From where an application is reached.
fn source(plan: &InboundPlan, caller: IpAddr, settings: &Settings) -> Option<IpAddr> {
    let same_family = caller.is_ipv4() == plan.dial.is_ipv4();
    (settings.original_source && same_family).then_some(caller)
}

async fn connect(
    sockets: &Sockets,
    target: SocketAddr,
    source: Option<IpAddr>,
    limit: Duration,
) -> Result<TcpStream, Failure> {
    match tokio::time::timeout(limit, sockets.connect(target, source)).await {
        Ok(connected) => connected.map_err(|error| failed(target, error)),
        Err(_) => {
            let error = io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {limit:?}"));
            Err(failed(target, error))
        }
    }
}

fn failed(target: SocketAddr, error: io::Error) -> Failure {
    Failure::Dial { target, error }
}
