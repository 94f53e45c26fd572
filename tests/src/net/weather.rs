//! Weather between a node and the others: what crosses its link is late, or lost.
//!
//! A node's port leaves the bridge, and a pair of devices takes its place. Between the two this process carries
//! frames, each way by itself: some it drops, the others it keeps for as long as they are to be late. What a device
//! hands over in one piece (large segments are cut by the kernel later) is lost or late as one.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ambit_net::netlink::route::Handle;
use ambit_net::sys::watch;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use serde::{Deserialize, Serialize};
use socket2::Socket;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::topology::{BRIDGE, MTU, node_port, set};
use crate::sys;

/// Frames on their way in one direction: what comes when so many are is lost, as in a router's queue.
const QUEUE: usize = 4096;
/// The longest frame, with what the kernel says of it.
const LONGEST: usize = 1 << 17;
/// Of what has come and was not read yet, in bytes.
const BUFFER: usize = 8 << 20;

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
    /// Ends the relay when it is dropped.
    carried: Option<oneshot::Sender<()>>,
    relay: Option<JoinHandle<()>>,
}

impl Storm {
    /// Begins. The calling thread is in the bridge's namespace.
    ///
    /// # Errors
    /// As the kernel says; the link is as it was then.
    pub fn begin(number: u8, weather: Weather) -> io::Result<Self> {
        let (port, outer) = (node_port(number), format!("far-{number}"));
        let (carried, ended) = oneshot::channel();
        let mut storm = Self {
            weather,
            port,
            outer,
            carried: Some(carried),
            relay: None,
        };
        // What fails from here on is undone by dropping it.
        let ends = storm.part(&format!("near-{number}"))?;
        // What else the lab does must not hold frames up.
        let relay = thread::Builder::new().name(format!("weather-{number}"));
        storm.relay = Some(relay.spawn(move || run(ends, weather, ended))?);
        Ok(storm)
    }

    /// What it is like.
    #[must_use]
    pub fn weather(&self) -> Weather {
        self.weather
    }

    /// Takes the node's port off the bridge and puts another one in its place: the ends between which nothing is yet.
    fn part(&self, inner: &str) -> io::Result<[Socket; 2]> {
        let mut links = Handle::open()?;
        links.add_veth(&self.outer, inner, None)?;
        for device in [&self.port, inner] {
            deaf(device)?;
        }
        for device in [&self.outer, inner] {
            links.set_mtu(device, MTU)?;
            links.set_up(device)?;
        }
        // Nothing of the bridge's may be read as the node's.
        links.set_master(&self.port, None)?;
        let ends = [open(&self.port)?, open(inner)?];
        links.set_master(&self.outer, Some(BRIDGE))?;
        Ok(ends)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        drop(self.carried.take());
        if let Some(relay) = self.relay.take() {
            let _ = relay.join();
        }
        // The link as it was. What makes the port deaf is without meaning on a bridge.
        let cleared = Handle::open().and_then(|mut links| {
            let parted = links.delete_link(&self.outer);
            links.set_master(&self.port, Some(BRIDGE)).and(parted)
        });
        if let Err(error) = cleared {
            tracing::error!(%error, port = self.port, "the network does not clear up");
        }
    }
}

/// Carries frames both ways until `ended`.
fn run([node, others]: [Socket; 2], weather: Weather, ended: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let carrying = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let back = (watch(others.try_clone()?)?, watch(node.try_clone()?)?);
            let there = (watch(node)?, watch(others)?);
            tokio::select! {
                broken = carry(&there.0, &there.1, weather) => Err(broken),
                broken = carry(&back.0, &back.1, weather) => Err(broken),
                _ = ended => Ok(()),
            }
        })
    });
    if let Err(error) = carrying {
        tracing::error!(%error, "no weather any more: nothing comes through");
    }
}

/// Frames pass the device; the machine behind it is not addressed by any.
fn deaf(device: &str) -> io::Result<()> {
    set(&format!("net/ipv6/conf/{device}/disable_ipv6"), "1")?;
    // No address of ours is told of there.
    set(&format!("net/ipv4/conf/{device}/arp_ignore"), "8")
}

fn open(device: &str) -> io::Result<Socket> {
    let socket = Socket::from(sys::relay_socket(device)?);
    // As much as the system allows: what does not fit is lost besides what is to be lost.
    socket.set_recv_buffer_size(BUFFER)?;
    Ok(socket)
}

/// One direction, until the device is gone.
async fn carry(from: &AsyncFd<Socket>, to: &AsyncFd<Socket>, weather: Weather) -> io::Error {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let due = under_way.front().map(|(due, _)| *due);
        tokio::select! {
            biased;
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some((_, frame)) = under_way.pop_front() {
                    pass(to, &frame).await;
                }
            }
            received = receive(from, &mut buffer) => {
                let length = match received {
                    Ok(length) => length,
                    Err(error) => return error,
                };
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
            let received = recv(it.as_raw_fd(), buffer, MsgFlags::empty());
            received.map_err(io::Error::from)
        });
        match received {
            Ok(Ok(length)) => return Ok(length),
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::ENODEV as i32) => {
                return Err(error);
            }
            // A frame that the kernel has no words for, a device that was down for a moment: that frame is lost.
            Ok(Err(_)) | Err(_) => {}
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
            let sent = send(it.as_raw_fd(), frame, MsgFlags::empty());
            sent.map_err(io::Error::from)
        });
        if sent.is_ok() {
            return;
        }
    }
}
