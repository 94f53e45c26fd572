//! A netlink socket: requests out, acknowledgements and dumps in.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvmsg, sendmsg,
    setsockopt, socket, sockopt,
};

use super::Failure;
use super::message::{Message, Reply, attributes, replies, text, u32_at};

/// The kernel never writes a longer datagram than this into a dump.
const DATAGRAM: usize = 64 * 1024;
/// One object is described in less than this.
const ANSWER: usize = 8 * 1024;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// A dump that the kernel interrupts because the table changed is asked for again this often.
const DUMP_ATTEMPTS: usize = 8;

/// An answer without its header.
type Body = Vec<u8>;

#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// A socket in the calling thread's network namespace.
    pub(crate) fn open(protocol: SockProtocol) -> Result<Self, Failure> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // Better messages and smaller acknowledgements; old kernels know neither, and that is fine.
        enable(&fd, libc::NETLINK_EXT_ACK);
        enable(&fd, libc::NETLINK_CAP_ACK);
        // A transaction is one datagram. Unprivileged callers get what the machine's limit allows.
        if setsockopt(&fd, sockopt::SndBufForce, &(8 << 20)).is_err() {
            setsockopt(&fd, sockopt::SndBuf, &(8 << 20))?;
        }
        Ok(Self { fd, sequence: 0 })
    }

    /// Sends `message` and waits for its acknowledgement.
    pub(crate) fn request(&mut self, mut message: Message) -> Result<(), Failure> {
        message.add_flags(libc::NLM_F_ACK);
        let sequence = self.next();
        self.send(&message.finish(sequence))?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let datagram = self.receive(&mut buffer, MsgFlags::empty())?;
            for reply in replies(datagram).filter(|r| r.sequence == sequence) {
                if let Some(outcome) = acknowledgement(&reply) {
                    return outcome;
                }
            }
        }
    }

    /// Sends `message` and gives the one answer to it. The kernel answers before the message is sent, so that this never waits.
    pub(crate) fn ask(&mut self, message: Message) -> Result<Body, Failure> {
        let sequence = self.next();
        self.send(&message.finish(sequence))?;
        let mut buffer = vec![0; ANSWER];
        loop {
            let datagram = self.receive(&mut buffer, MsgFlags::MSG_DONTWAIT)?;
            if let Some(reply) = replies(datagram).find(|r| r.sequence == sequence) {
                return match acknowledgement(&reply) {
                    Some(Err(failure)) => Err(failure),
                    Some(Ok(())) => Err(Errno::ENOENT.into()),
                    None => Ok(reply.body.to_vec()),
                };
            }
        }
    }

    /// Sends `message` as a dump request and collects the answers.
    pub(crate) fn dump(&mut self, message: &Message) -> Result<Vec<Body>, Failure> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.dump_once(message.clone())? {
                Some(found) => return Ok(found),
                None if attempt < DUMP_ATTEMPTS => {}
                None => {
                    return Err(Failure::new(
                        Errno::EINTR,
                        "the list kept changing while it was read",
                    ));
                }
            }
        }
    }

    /// `None`: the list changed meanwhile and may be torn.
    fn dump_once(&mut self, mut message: Message) -> Result<Option<Vec<Body>>, Failure> {
        message.add_flags(libc::NLM_F_DUMP);
        let sequence = self.next();
        self.send(&message.finish(sequence))?;
        let mut found = Vec::new();
        let mut torn = false;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let datagram = self.receive(&mut buffer, MsgFlags::empty())?;
            for reply in replies(datagram).filter(|r| r.sequence == sequence) {
                torn |= i32::from(reply.flags) & libc::NLM_F_DUMP_INTR != 0;
                if i32::from(reply.kind) == libc::NLMSG_DONE {
                    return Ok((!torn).then_some(found));
                }
                match acknowledgement(&reply) {
                    Some(Err(failure)) if failure.errno == Errno::EINTR => torn = true,
                    Some(Err(failure)) => return Err(failure),
                    Some(Ok(())) => {}
                    None => found.push(reply.body.to_vec()),
                }
            }
        }
    }

    /// Sends `messages` as one datagram. The kernel handles it before this returns, so that what it has to say is there:
    /// the first failure, with the place of the message it is about, or nothing.
    pub(crate) fn transaction(&mut self, messages: Vec<Message>) -> Result<(), (usize, Failure)> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let last = messages.len().saturating_sub(2);
        for (place, mut message) in messages.into_iter().enumerate() {
            // The last but the end marker: its acknowledgement proves that the batch was read to its end.
            if place == last {
                message.add_flags(libc::NLM_F_ACK);
            }
            let sequence = self.next();
            bytes.extend(message.finish(sequence));
        }
        self.send(&bytes).map_err(|failure| (0, failure))?;
        let mut acknowledged = false;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let datagram = match self.receive(&mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(datagram) => datagram,
                Err(failure) if failure.errno == Errno::EAGAIN => break,
                Err(failure) => return Err((0, failure)),
            };
            for reply in replies(datagram) {
                let place = reply.sequence.wrapping_sub(first) as usize;
                match acknowledgement(&reply) {
                    Some(Err(failure)) => return Err((place, failure)),
                    Some(Ok(())) => acknowledged |= place == last,
                    None => {}
                }
            }
        }
        if acknowledged {
            Ok(())
        } else {
            let silence = Failure::new(Errno::EPROTO, "the kernel did not acknowledge the batch");
            Err((last, silence))
        }
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        let parts = [IoSlice::new(bytes)];
        let kernel = NetlinkAddr::new(0, 0);
        loop {
            match sendmsg(
                self.fd.as_raw_fd(),
                &parts,
                &[],
                MsgFlags::empty(),
                Some(&kernel),
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EMSGSIZE) => {
                    let detail = format!("{} bytes are too many for one request", bytes.len());
                    return Err(Failure::new(Errno::EMSGSIZE, detail));
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn receive<'a>(&self, buffer: &'a mut [u8], flags: MsgFlags) -> Result<&'a [u8], Failure> {
        let length = loop {
            let mut parts = [IoSliceMut::new(buffer)];
            match recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut parts, None, flags) {
                Ok(got) if got.flags.contains(MsgFlags::MSG_TRUNC) => {
                    return Err(Failure::new(Errno::EMSGSIZE, "an answer was cut short"));
                }
                Ok(got) => break got.bytes,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        Ok(&buffer[..length])
    }
}

/// What `NLMSG_ERROR` says: errno 0 is the acknowledgement.
fn acknowledgement(reply: &Reply<'_>) -> Option<Result<(), Failure>> {
    if i32::from(reply.kind) != libc::NLMSG_ERROR {
        return None;
    }
    let code = u32_at(reply.body, 0)?.cast_signed();
    if code == 0 {
        return Some(Ok(()));
    }
    Some(Err(Failure {
        errno: Errno::from_raw(-code),
        detail: extended(reply),
    }))
}

/// The kernel's own words, which follow the header of the request, or the whole request when that was not capped.
fn extended(reply: &Reply<'_>) -> Option<String> {
    if i32::from(reply.flags) & libc::NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = if i32::from(reply.flags) & libc::NLM_F_CAPPED != 0 {
        16
    } else {
        (u32_at(reply.body, 4)? as usize).next_multiple_of(4)
    };
    attributes(reply.body.get(4 + request..)?)
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, value)| text(value))
}

fn enable(fd: &OwnedFd, option: i32) {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option's value is the c_int it points at, of the length given.
    let _ = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            std::mem::size_of_val(&on) as libc::socklen_t,
        )
    };
}
