//! Accept loops: one task a listener, one task a connection.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ambit_net::sys;
use metrics::{counter, describe_counter};
use pin_project_lite::pin_project;
use tokio::net::{TcpListener, TcpStream};

use super::PodProxy;

/// Waits after an accept that failed; doubled up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

const ACCEPT_PAUSES: &str = "ambit_accept_pauses_total";

/// After the drain has begun, connections still come for so long whose handshakes had been begun.
const STRAGGLERS: Duration = Duration::from_millis(200);

/// A listener, one of some that this process has at the same address.
pub(super) struct Listener {
    socket: TcpListener,
    of: u32,
}

impl Listener {
    pub(super) fn new(socket: TcpListener, of: u32) -> Self {
        Self { socket, of }
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.accept().await
    }

    /// Leaves new connections to the listeners of a later process.
    fn give_way(&self) {
        if let Err(error) = sys::give_way(&self.socket, self.of) {
            tracing::debug!(%error, "new connections cannot be left to others");
        }
    }
}

/// Serves every connection of `listener` in a task of its own, until the pod is drained.
/// Connections may go on for `longer` than what they carry when that is cut.
pub(super) fn spawn<F>(
    proxy: &Arc<PodProxy>,
    listener: Listener,
    longer: Duration,
    serve: impl Fn(Arc<PodProxy>, TcpStream, SocketAddr) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let proxy = proxy.clone();
    tokio::spawn(async move {
        let mut drained = proxy.drained.clone();
        let start = |(stream, peer): (TcpStream, SocketAddr)| {
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            let served = serve(proxy.clone(), stream, peer);
            spawn_until_cut(&proxy, longer, served);
        };
        tokio::select! {
            biased;
            () = drained.begun() => {}
            () = accept(|| listener.accept(), start) => {}
        }
        listener.give_way();
        tokio::select! {
            () = drained.cut() => {}
            () = tokio::time::sleep(STRAGGLERS) => {}
            () = accept(|| listener.accept(), start) => {}
        }
        // What the kernel has accepted already would be reset with the listener.
        while let Some(Ok(accepted)) = ready(listener.accept()).await {
            start(accepted);
        }
    });
}

/// Runs a connection's future until it ends, or until `longer` after the pod's grace period.
pub(super) fn spawn_until_cut(
    proxy: &PodProxy,
    longer: Duration,
    served: impl Future<Output = ()> + Send + 'static,
) {
    tokio::spawn(until_cut(proxy, longer, served));
}

/// Written out, because an async block would hold what it captures twice.
pub(super) fn until_cut<F: Future<Output = ()>>(
    proxy: &PodProxy,
    longer: Duration,
    served: F,
) -> impl Future<Output = ()> + use<F> {
    let mut drained = proxy.drained.clone();
    UntilCut {
        served,
        cut: async move {
            drained.cut().await;
            if !longer.is_zero() {
                tokio::time::sleep(longer).await;
            }
        },
    }
}

pin_project! {
    struct UntilCut<F, C> {
        #[pin]
        served: F,
        #[pin]
        cut: C,
    }
}

impl<F: Future<Output = ()>, C: Future<Output = ()>> Future for UntilCut<F, C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        match this.served.poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => this.cut.poll(cx),
        }
    }
}

/// Says what the metric is, and that there was no such pause.
pub(super) fn describe() {
    describe_counter!(
        ACCEPT_PAUSES,
        "Pauses of listeners that could not accept, for want of descriptors or memory."
    );
    counter!(ACCEPT_PAUSES).absolute(0);
}

/// Starts what `next` gives, for ever.
async fn accept<T, F>(next: impl Fn() -> F, start: impl Fn(T))
where
    F: Future<Output = io::Result<T>>,
{
    let mut pause = PAUSES.0;
    loop {
        match next().await {
            Ok(accepted) => {
                pause = PAUSES.0;
                start(accepted);
            }
            Err(error) if of_the_client(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: the connection stays in the queue, so trying
                // again at once would spin.
                counter!(ACCEPT_PAUSES).increment(1);
                tracing::warn!(%error, retry_in = ?pause, "cannot accept connections");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Whether the error belongs to the connection and not to us.
fn of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// The output of a future that is ready now.
async fn ready<F: Future>(future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use ambit_telemetry::metrics::Recorder;
    use tokio::time::Instant;

    use super::*;
    use crate::testing::counted;

    #[tokio::test(start_paused = true)]
    async fn a_failing_accept_waits_longer_each_time() {
        let emfile = || Err(io::Error::from_raw_os_error(24));
        let mut script: Vec<io::Result<()>> = (0..10).map(|_| emfile()).collect();
        script.push(Ok(()));
        script.push(emfile());
        script.push(Ok(()));
        script.reverse();
        let script = RefCell::new(script);
        let (started, at) = (Instant::now(), RefCell::new(Vec::new()));
        let recorder = Recorder::default();
        let _counting = metrics::set_default_local_recorder(&recorder);
        let next = || {
            let step = script.borrow_mut().pop();
            async move {
                match step {
                    Some(step) => step,
                    None => std::future::pending().await,
                }
            }
        };
        let over = tokio::time::timeout(
            Duration::from_secs(60),
            accept(next, |()| at.borrow_mut().push(started.elapsed())),
        );
        over.await.expect_err("it goes on for ever");
        let at = at.into_inner();
        // 5 + 10 + 20 + ... + 640, then twice the longest.
        assert_eq!(at[0], Duration::from_millis(1275 + 2000));
        assert_eq!(at[1] - at[0], PAUSES.0, "a success starts over");
        assert_eq!(counted(&recorder, "ambit_accept_pauses_total"), Some(11));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_left_costs_no_pause() {
        let left = Cell::new(3);
        let started = Instant::now();
        let at = Cell::new(None);
        let next = || {
            let now = left.replace(left.get() - 1);
            async move {
                match now {
                    1.. => Err(io::ErrorKind::ConnectionAborted.into()),
                    0 => Ok(()),
                    _ => std::future::pending().await,
                }
            }
        };
        let over = accept(next, |()| at.set(Some(started.elapsed())));
        let _ = tokio::time::timeout(Duration::from_secs(1), over).await;
        assert_eq!(at.get(), Some(Duration::ZERO));
    }
}
