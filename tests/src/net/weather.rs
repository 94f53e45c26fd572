//! Weather between a node and the others: what crosses its link is late, or lost.
//!
//! A node's port leaves the bridge, and a pair of devices takes its place. Between the two this process carries
//! frames, each way by itself: some it drops, the others it keeps for as long as they are to be late. What a device
//! hands over in one piece (large segments are cut by the kernel later) is lost or late as one.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use ambit_net::netlink::route::Handle;
use ambit_net::sys::watch;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use serde::{Deserialize, Serialize};
use socket2::Socket;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::topology::{BRIDGE, MTU, node_port, set};
use crate::sys;

/// Frames on their way in one direction: what comes when so many are is lost, as in a router's queue.
const QUEUE: usize = 4096;
/// The longest frame, with what the kernel says of it.
const LONGEST: usize = 1 << 17;

/// What happens to frames.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Weather {
    /// How late each is, one way.
    pub delay: Duration,
    /// The share that is lost, from 0 to 1.
    pub loss: f64,
}

impl Weather {
    /// Whether nothing happens to them.
    #[must_use]
    pub fn is_fair(&self) -> bool {
        self.delay.is_zero() && self.loss <= 0.0
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} late", self.delay)?;
        write!(f, ", {} % lost", self.loss * 100.0)
    }
}

/// The weather of a node; it clears up when this is dropped.
#[derive(Debug)]
pub struct Storm {
    weather: Weather,
    port: String,
    outer: String,
    ways: [JoinHandle<()>; 2],
}

impl Storm {
    /// Begins. The calling thread is in the bridge's namespace.
    ///
    /// # Errors
    /// As the kernel says; the link is as it was then.
    pub fn begin(number: u8, weather: Weather) -> io::Result<Self> {
        let port = node_port(number);
        let (outer, inner) = (format!("far-{number}"), format!("near-{number}"));
        let mut links = Handle::open()?;
        links.add_veth(&outer, &inner, None)?;
        let begun = (|| {
            for device in [&port, &inner] {
                deaf(device)?;
            }
            for device in [&outer, &inner] {
                links.set_mtu(device, MTU)?;
                links.set_up(device)?;
            }
            let [own, others] = [&port, &inner].map(|device| open(device));
            let (own, others) = (own?, others?);
            links.set_master(&port, None)?;
            links.set_master(&outer, Some(BRIDGE))?;
            let back = (others.get_ref().try_clone()?, own.get_ref().try_clone()?);
            let back = (watch(back.0)?, watch(back.1)?);
            Ok([(own, others), back])
        })();
        match begun {
            Ok(ways) => Ok(Self {
                weather,
                port,
                outer,
                ways: ways.map(|(from, to)| tokio::spawn(carry(from, to, weather))),
            }),
            Err(error) => {
                clear(&port, &outer);
                Err(error)
            }
        }
    }

    /// What it is like.
    #[must_use]
    pub fn weather(&self) -> Weather {
        self.weather
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        for way in &self.ways {
            way.abort();
        }
        clear(&self.port, &self.outer);
    }
}

/// The link as it was. With the lab its devices end anyway.
fn clear(port: &str, outer: &str) {
    let cleared = Handle::open().and_then(|mut links| {
        links.delete_link(outer)?;
        links.set_master(port, Some(BRIDGE))
    });
    if let Err(error) = cleared {
        tracing::error!(%error, port, "the network does not clear up");
    }
}

/// Frames pass the device; the machine behind it is not addressed by any.
fn deaf(device: &str) -> io::Result<()> {
    set(&format!("net/ipv6/conf/{device}/disable_ipv6"), "1")?;
    // No address of ours is told of there.
    set(&format!("net/ipv4/conf/{device}/arp_ignore"), "8")
}

fn open(device: &str) -> io::Result<AsyncFd<Socket>> {
    watch(Socket::from(sys::relay_socket(device)?))
}

/// One direction, until it is aborted.
async fn carry(from: AsyncFd<Socket>, to: AsyncFd<Socket>, weather: Weather) {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let due = under_way.front().map(|(due, _)| *due);
        tokio::select! {
            biased;
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some((_, frame)) = under_way.pop_front() {
                    pass(&to, &frame).await;
                }
            }
            received = receive(&from, &mut buffer) => {
                let Ok(length) = received else { return };
                if rand::random_range(0.0..1.0) < weather.loss || under_way.len() >= QUEUE {
                    continue;
                }
                under_way.push_back((Instant::now() + weather.delay, buffer[..length].to_vec()));
            }
        }
    }
}

async fn receive(from: &AsyncFd<Socket>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = from.readable().await?;
        let received = ready.try_io(|it| {
            let received = recv(it.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT);
            received.map_err(io::Error::from)
        });
        match received {
            // A device that was down for a moment.
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::ENETDOWN as i32) => {}
            Ok(received) => return received,
            Err(_) => {}
        }
    }
}

/// Sends a frame. One that the device does not take is lost, as frames are.
async fn pass(to: &AsyncFd<Socket>, frame: &[u8]) {
    loop {
        let Ok(mut ready) = to.writable().await else {
            return;
        };
        let sent = ready.try_io(|it| {
            let sent = send(it.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT);
            sent.map_err(io::Error::from)
        });
        if sent.is_ok() {
            return;
        }
    }
}
