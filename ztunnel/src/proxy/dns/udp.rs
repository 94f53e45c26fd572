//! Questions in datagrams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::dns::{MOST_DATAGRAM, Malformed, Query};
use ambit_net::netlink::conntrack::Handle;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::super::{PodProxy, accept};
use super::tally::Tally;
use super::{Failure, Look, Transport, fail, look, reply};

/// Wait after an error of the socket, which would come again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers what comes until the pod is drained. What the mesh knows takes no task and no wait.
pub(super) async fn serve(proxy: Arc<PodProxy>, socket: UdpSocket) {
    let Ok(local) = socket.local_addr() else {
        return;
    };
    let mut drained = proxy.drained.clone();
    let open = Arc::new(watch::Sender::new(()));
    let mut server = Server {
        proxy,
        socket: Arc::new(socket),
        local,
        table: None,
        open: open.clone(),
        has_complained: false,
    };
    tokio::select! {
        biased;
        () = drained.begun() => {}
        () = server.receive() => {}
    }
    // Open questions hold the socket, so that it gets its share of new ones until they are answered: nobody else can read those.
    tokio::select! {
        biased;
        () = server.receive() => {}
        () = open.closed() => {}
        () = drained.cut() => {}
    }
}

struct Server {
    proxy: Arc<PodProxy>,
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    /// The pod's tracked connections, once they were asked for.
    table: Option<Handle>,
    /// Every open question has a receiver.
    open: Arc<watch::Sender<()>>,
    /// It was said once that the table cannot be read.
    has_complained: bool,
}

struct Datagram {
    bytes: Vec<u8>,
    client: SocketAddr,
}

impl Server {
    /// For ever.
    async fn receive(&mut self) {
        loop {
            // What is read at once costs nothing of its own: a flood is not to stop the worker.
            tokio::task::consume_budget().await;
            let received = match self.socket.readable().await {
                Ok(()) => self.next(),
                Err(error) => Err(error),
            };
            match received {
                Ok(datagram) => self.handle(datagram),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::warn!(pod = %self.proxy.pod.name, %error, "cannot receive DNS questions");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn next(&self) -> io::Result<Datagram> {
        let mut buffer = [0; MOST_DATAGRAM as usize];
        let (length, client) = self.socket.try_recv_from(&mut buffer)?;
        Ok(Datagram {
            bytes: buffer[..length].to_vec(),
            client,
        })
    }

    fn handle(&mut self, Datagram { bytes, client }: Datagram) {
        let query = match Query::parse(&bytes) {
            Ok(query) => query,
            Err(Malformed::Ignored) => return,
            Err(Malformed::Refused(reply)) => return send(&self.socket, &reply, client),
        };
        let mut tally = Tally::begin(&self.proxy, Transport::Udp, &query);
        let looked = look(&self.proxy, &query, Transport::Udp, &mut tally);
        if let Look::Answer(reply) = looked {
            tally.answered(&query, &reply);
            return send(&self.socket, &reply, client);
        }
        let permit = match self.proxy.pod.admit_question() {
            Ok(permit) => permit,
            Err(failure) => {
                let reply = fail(&query, &Failure::Limit(failure), tally);
                return send(&self.socket, &reply, client);
            }
        };
        let asked = self.original_destination(client);
        if let Err(error) = &asked {
            self.complain(error);
        }
        let (proxy, socket, open) = (
            self.proxy.clone(),
            self.socket.clone(),
            self.open.subscribe(),
        );
        accept::spawn_until_cut(&self.proxy, Duration::ZERO, async move {
            let reply = reply(&proxy, &query, Transport::Udp, looked, &asked, tally).await;
            send(&socket, &reply, client);
            drop((socket, permit, open));
        });
    }

    /// The resolver that a client's question was for.
    fn original_destination(&mut self, client: SocketAddr) -> io::Result<SocketAddr> {
        if self.table.is_none() {
            let open = || Ok(Handle::open()?);
            self.table = Some(match &self.proxy.pod.sockets.netns {
                Some(netns) => netns.run(open)?,
                None => open()?,
            });
        }
        let table = self.table.as_mut().expect("it was opened just now");
        Ok(table.original_destination(client, self.local)?)
    }

    /// That the kernel does not say is no matter of one question.
    fn complain(&mut self, error: &io::Error) {
        if error.kind() != io::ErrorKind::InvalidInput && !self.has_complained {
            self.has_complained = true;
            let pod = &self.proxy.pod.name;
            tracing::warn!(%pod, %error, "cannot tell which resolver DNS over UDP is for");
        }
    }
}

fn send(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    // A client that cannot take it asks again.
    if let Err(error) = socket.try_send_to(reply, client) {
        tracing::debug!(%client, %error, "a DNS reply is lost");
    }
}
