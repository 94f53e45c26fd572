//! DNS of a pod. Questions to any resolver arrive here; what the mesh knows is answered, and all else is asked of the resolver that
//! the pod asked, in the pod's namespace and in the pod's words.
//!
//! Nothing goes round: what the proxy sends is marked and not captured, and a question that was sent here is refused.

mod listen;
mod own;
mod tally;
mod tcp;
mod udp;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::dns::{self, Answer, Client, Code, LONGEST, Query};
use ambit_core::model::Workload;
use ambit_net::sys::Sockets;
use ambit_proxy::{Hosts, Lookup};

pub use listen::Listeners;

use super::PodProxy;
pub(super) use listen::spawn;
use tally::Tally;
pub(super) use tally::describe;

/// How questions are answered.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The domain of the cluster's services.
    pub domain: Arc<str>,
    /// Time for the resolver that a pod asked.
    pub timeout: Duration,
    /// What the proxy of a machine makes sockets with, whose own questions are captured as all are. Those of a machine that nobody
    /// has described go on to its resolver, and do not wait: it has to find its control plane first.
    pub machine: Option<Sockets>,
}

impl Settings {
    /// The addresses of hosts, as the proxy itself finds them.
    pub(super) fn hosts(&self) -> Hosts {
        let Some(sockets) = self.machine.clone() else {
            return Hosts::default();
        };
        let lookup: Lookup = Arc::new(move |host| {
            let sockets = sockets.clone();
            Box::pin(async move { own::addresses(&sockets, &host).await })
        });
        Hosts::asking(lookup)
    }
}

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    fn limit(self, query: &Query) -> usize {
        match self {
            Self::Udp => query.datagram_limit(),
            Self::Tcp => LONGEST,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("nobody has said yet who the pod is")]
    Undescribed,
    #[error("{0}")]
    Limit(super::Failure),
    #[error("it was for no resolver: {0}")]
    Nobody(io::Error),
    #[error("{resolver} does not answer within {limit:?}")]
    Silent {
        resolver: SocketAddr,
        limit: Duration,
    },
    #[error("{resolver}: {error}")]
    Upstream {
        resolver: SocketAddr,
        error: io::Error,
    },
}

impl Failure {
    fn code(&self) -> Code {
        match self {
            // It was sent to the proxy: asking on would ask itself.
            Self::Nobody(error) if error.kind() == io::ErrorKind::InvalidInput => Code::Refused,
            _ => Code::ServFail,
        }
    }
}

/// What can be said of a question at once.
enum Look {
    Answer(Vec<u8>),
    /// Another resolver has to be asked.
    Elsewhere {
        known: bool,
    },
    /// The pod has to be described first.
    Undescribed,
}

/// Looks for an answer in what is known of the mesh.
fn look(proxy: &PodProxy, query: &Query, via: Transport, tally: &mut Tally) -> Look {
    let index = proxy.shared.index();
    let Some(pod) = index.workload(&proxy.pod.uid) else {
        return Look::Undescribed;
    };
    tally.is_from(pod);
    let name = query.name().filter(|_| query.internet());
    let answer = name.map(|name| dns::answer(&index, &client(proxy, pod), name, query.kind()));
    match answer {
        Some(Answer::Here(mut records)) => {
            records.shuffle(&mut |bound| rand::random_range(0..bound));
            Look::Answer(query.answer(&records, via.limit(query)))
        }
        Some(Answer::Elsewhere { known }) => Look::Elsewhere { known },
        None => Look::Elsewhere { known: false },
    }
}

fn client<'a>(proxy: &'a PodProxy, pod: &'a Workload) -> Client<'a> {
    Client {
        namespace: &pod.namespace,
        network: &pod.network,
        addresses: &pod.addresses,
        cluster_id: &pod.cluster_id,
        domain: &proxy.shared.settings().dns.domain,
    }
}

/// The reply to a question that cannot be answered at once. `asked` is the resolver it was for.
async fn reply(
    proxy: &PodProxy,
    query: &Query,
    via: Transport,
    looked: Look,
    asked: &io::Result<SocketAddr>,
    mut tally: Tally,
) -> Vec<u8> {
    let looked = match looked {
        Look::Undescribed if proxy.shared.settings().dns.machine.is_some() => {
            Look::Elsewhere { known: false }
        }
        Look::Undescribed => match proxy.identity().await {
            Ok(_) => look(proxy, query, via, &mut tally),
            Err(_) => Look::Undescribed,
        },
        looked => looked,
    };
    let result = match looked {
        Look::Answer(reply) => {
            tally.answered(query, &reply);
            return reply;
        }
        Look::Undescribed => Err(Failure::Undescribed),
        Look::Elsewhere { known } => {
            tally.forwarded();
            let sockets = &proxy.pod.sockets;
            let limit = proxy.shared.settings().dns.timeout;
            let asked = upstream::ask(sockets, query, via, asked, limit).await;
            asked.map(|response| query.passed_on(response, known, via.limit(query)))
        }
    };
    match result {
        Ok(reply) => {
            tally.passed_on(query, &reply);
            reply
        }
        Err(failure) => fail(query, &failure, tally),
    }
}

fn fail(query: &Query, failure: &Failure, tally: Tally) -> Vec<u8> {
    let reply = query.failure(failure.code());
    tally.failed(query, failure, &reply);
    reply
}
