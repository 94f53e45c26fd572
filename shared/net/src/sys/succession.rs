//! How listeners of one port give way to those of a later process.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// From now on the kernel gives new connections to a listener that was opened after the first `own` at the address of this
/// one, if there is any. A listener that is given nothing more can be closed without a reset: those that wait in its queue when it
/// closes would be reset with it.
///
/// The kernel keeps the listeners of an address (`SO_REUSEPORT`) in the order in which they were opened, and fills a gap with the last
/// one. So while any of the first `own` is open, the one after them is none of them, provided the later ones are as many. Where a filter
/// names no listener, the kernel draws one (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)).
///
/// # Errors
/// As the kernel says; it then goes on drawing among all.
pub fn give_way(listener: &impl AsFd, own: u32) -> io::Result<()> {
    let mut filter = [libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: own,
    }];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    set(listener, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

/// What listeners of earlier processes wanted is over: the kernel draws among all.
pub(super) fn draw_among_all(listener: &impl AsFd) {
    // Mostly there is nothing to take back, which is an error.
    let _ = set(listener, libc::SO_DETACH_REUSEPORT_BPF, &0);
}

fn set<T>(socket: &impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads a value, of which it is given the address and the size, and what it points to.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use futures_util::future::select_all;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;

    use super::super::{Listen, Sockets};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Listeners of one process at an address.
    fn open(address: SocketAddr) -> [TcpListener; 2] {
        let listen = || Sockets::default().listen(address, Listen::Plain);
        [(); 2].map(|()| listen().expect("a listener"))
    }

    /// How many of these connections each of the listeners has got, of all that there are.
    async fn dealt(count: usize, address: SocketAddr, to: &[&[TcpListener; 2]]) -> Vec<[usize; 2]> {
        let mut held = Vec::new();
        for _ in 0..count {
            held.push(TcpStream::connect(address).await.expect("connected"));
        }
        let mut got = vec![[0; 2]; to.len()];
        for _ in 0..count {
            let listeners = to.iter().enumerate().flat_map(|(process, listeners)| {
                let each = listeners.iter().enumerate();
                each.map(move |(number, listener)| {
                    let accepted =
                        async move { listener.accept().await.map(|_| (process, number)) };
                    accepted.boxed()
                })
            });
            let next = tokio::time::timeout(PATIENCE, select_all(listeners)).await;
            let (process, number) = next.expect("no connection is lost").0.expect("accepted");
            got[process][number] += 1;
        }
        got
    }

    #[tokio::test]
    async fn what_is_new_goes_to_who_came_last() {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let address = first.expect("a port").local_addr().expect("an address");
        let mut old = open(address);
        // Twice: the second are where the first were.
        for _ in 0..2 {
            let new = open(address);
            let both = dealt(40, address, &[&old, &new]).await;
            let [mine, theirs] = [0, 1].map(|it| both[it].iter().sum::<usize>());
            // That one side gets none is as likely as 1 in 2^39.
            assert!(mine > 0 && theirs > 0, "{mine}, {theirs}");
            give_way(&old[0], 2).expect("a filter");
            assert_eq!(dealt(40, address, &[&old, &new]).await[0], [0, 0]);
            old = new;
            // Alone, both of them.
            let [one, other] = dealt(40, address, &[&old]).await[0];
            assert!(one > 0 && other > 0, "{one}, {other}");
        }
    }

    /// Answers everybody until it is told to end, then those that still come, then closes.
    async fn serve(listeners: [TcpListener; 2], end: oneshot::Receiver<()>) {
        let answer = |accepted: io::Result<(TcpStream, _)>| {
            let (mut stream, _) = accepted.expect("accepted");
            tokio::spawn(async move { stream.write_u8(1).await });
        };
        let [one, other] = &listeners;
        let all = async {
            loop {
                let accepted = tokio::select! {
                    accepted = one.accept() => accepted,
                    accepted = other.accept() => accepted,
                };
                answer(accepted);
            }
        };
        let mut all = std::pin::pin!(all);
        tokio::select! {
            () = &mut all => {}
            _ = end => {}
        }
        give_way(one, 2).expect("a filter");
        // Who is in the queue by then is not left there.
        tokio::select! {
            biased;
            () = all => {}
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_connection_is_reset_when_listeners_are_succeeded() {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let address = first.expect("a port").local_addr().expect("an address");
        let (mut end, ended) = oneshot::channel();
        let mut serving = tokio::spawn(serve(open(address), ended));
        let over = Arc::new(AtomicBool::new(false));
        let callers = [(); 4].map(|()| {
            let over = over.clone();
            tokio::spawn(async move {
                let mut calls = 0;
                while !over.load(Ordering::Relaxed) {
                    let mut stream = TcpStream::connect(address).await?;
                    stream.read_u8().await?;
                    calls += 1;
                }
                io::Result::Ok(calls)
            })
        });
        for _ in 0..50 {
            let (next, ended) = oneshot::channel();
            let succeeding = tokio::spawn(serve(open(address), ended));
            drop(std::mem::replace(&mut end, next));
            std::mem::replace(&mut serving, succeeding)
                .await
                .expect("no panic");
        }
        over.store(true, Ordering::Relaxed);
        for caller in callers {
            let calls = caller.await.expect("no panic").expect("no reset");
            assert!(calls > 0);
        }
    }
}
