//! What arrives at a listener, each datagram to its flow.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::plan::{OUTBOUND_PORT, is_own_port};
use ambit_net::sys::{Answering, Capturing};
use ambit_telemetry::access::Direction;
use tokio::sync::OnceCell;

use super::super::{Flow, PodProxy, accept};
use super::end::{Client, LONGEST};
use super::table::{Key, Table};
use super::{Listeners, Lost, flows};

/// Wait after an error of the socket, which would come again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves a pod's UDP until it is drained. Flows that have begun go on until they are cut.
pub(in super::super) fn spawn(proxy: &Arc<PodProxy>, listeners: Listeners) {
    let answering = Arc::new(OnceCell::new());
    for (socket, direction) in [
        (listeners.outbound, Direction::Outbound),
        (listeners.passthrough, Direction::Inbound),
    ] {
        let server = Server {
            proxy: proxy.clone(),
            table: Arc::default(),
            answering: answering.clone(),
            direction,
        };
        let mut drained = proxy.drained.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = drained.begun() => {}
                () = server.receive(&socket) => {}
            }
            // Who comes later reads from now on, also for flows that go on here: what these miss begins another one there.
        });
    }
}

struct Server {
    proxy: Arc<PodProxy>,
    table: Arc<Table>,
    /// Opened with the first flow: most pods have none.
    answering: Arc<OnceCell<Arc<Answering>>>,
    direction: Direction,
}

impl Server {
    /// For ever.
    async fn receive(&self, socket: &Capturing) {
        let mut buffer = Vec::new();
        loop {
            // Who has nothing to receive needs no buffer. An error comes again below.
            if buffer.is_empty() {
                let _ = socket.readable().await;
                buffer.resize(LONGEST, 0);
            }
            // What is read at once costs nothing of its own: a flood is not to stop the worker.
            tokio::task::consume_budget().await;
            let handled = match socket.receive(&mut buffer).await {
                Ok(captured) => {
                    let key = Key {
                        client: captured.client,
                        dialled: captured.dialled,
                    };
                    self.handle(key, &buffer[..captured.length]).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = handled {
                tracing::warn!(pod = %self.proxy.pod.name, %error, "cannot take UDP");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Whether somebody has sent it to a port of the proxy itself. All pods have these, whether anything is led there or not, and it costs
    /// nobody more than a datagram.
    fn is_for_the_proxy(&self, key: Key) -> bool {
        let port = key.dialled.port();
        match self.direction {
            // Elsewhere the other ports are somebody else's.
            Direction::Outbound => port == OUTBOUND_PORT,
            Direction::Inbound => is_own_port(port),
        }
    }

    /// # Errors
    /// Nothing can be answered.
    async fn handle(&self, key: Key, payload: &[u8]) -> io::Result<()> {
        if self.is_for_the_proxy(key) {
            Lost::OwnPort.count();
            return Ok(());
        }
        let flow = match self.direction {
            Direction::Outbound => Flow::Outbound,
            Direction::Inbound => Flow::Plaintext,
        };
        let admit = || {
            let admitted = self.proxy.pod.admit_flow(flow);
            admitted.map_err(|_| Lost::Limit)
        };
        let (incoming, admitted) = match self.table.put(key, payload, admit) {
            Ok(None) => return Ok(()),
            Ok(Some(begun)) => begun,
            Err(lost) => {
                lost.count();
                return Ok(());
            }
        };
        let entry = Entry {
            table: self.table.clone(),
            key,
            has_failed: true,
        };
        let open = async || self.proxy.pod.sockets.answer().map(Arc::new);
        let answering = self.answering.get_or_try_init(open).await?.clone();
        let client = Client {
            incoming,
            answering,
            address: key.client,
            dialled: key.dialled,
        };
        let (proxy, direction) = (self.proxy.clone(), self.direction);
        accept::spawn_until_cut(&self.proxy, Duration::ZERO, async move {
            flows::serve(proxy, client, direction, entry).await;
            drop(admitted);
        });
        Ok(())
    }
}

/// The place of a flow in its table, which it gives up when it ends, however it does.
pub(super) struct Entry {
    table: Arc<Table>,
    key: Key,
    has_failed: bool,
}

impl Entry {
    /// The flow has ended well: another one may begin at once.
    pub(super) fn well(mut self) {
        self.has_failed = false;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.table.ended(self.key, self.has_failed);
    }
}
