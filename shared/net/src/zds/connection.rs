//! One proxy at the agent: questions go out one at a time, each waits for its answer.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ambit_core::zds::{Malformed, read_answer, read_hello};
use socket2::Socket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::packets::Packets;
use super::server::Pod;
use super::{Error, Request};

/// Questions that may wait for their turn.
const QUEUE: usize = 64;

/// What the proxy answered: done, or why not.
pub(super) type Outcome = Result<(), String>;

/// A request for the proxy.
pub(super) type Question = Request<Arc<OwnedFd>>;

/// Gives a pod to the proxy.
pub(super) fn add(uid: &str, pod: Pod) -> Question {
    Request::Add {
        uid: uid.to_owned(),
        info: pod.info,
        netns: pod.netns,
    }
}

/// A question and where its answer goes.
pub(super) type Asked = (Question, oneshot::Sender<Outcome>);

/// Asks the proxy behind a connection; clones ask the same one.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    number: u64,
    questions: mpsc::Sender<Asked>,
}

impl Connection {
    pub(super) fn new(number: u64) -> (Self, mpsc::Receiver<Asked>) {
        let (questions, asked) = mpsc::channel(QUEUE);
        (Self { number, questions }, asked)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The proxy's answer; `None` when it is gone or `deadline` passes.
    pub(super) async fn ask(&self, question: Question, deadline: Instant) -> Option<Outcome> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.questions.send((question, answer)).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout_at(deadline, asked).await.ok()?
    }

    /// Waits for the proxy's hello.
    pub(super) async fn greet(socket: Socket, patience: Duration) -> Result<Packets, Error> {
        let packets = Packets::from_socket(socket)?;
        let hello = packets.receive(|message, _| read_hello(message));
        within(patience, "hello", hello).await?.ok_or_else(gone)??;
        Ok(packets)
    }

    /// Sends the snapshot, then asks what it is given, until the proxy closes (`Ok`) or does not answer in time.
    pub(super) async fn run(
        packets: Packets,
        snapshot: BTreeMap<String, Pod>,
        mut questions: mpsc::Receiver<Asked>,
        patience: Duration,
    ) -> Result<(), Error> {
        for (uid, pod) in snapshot {
            let outcome = put(&packets, add(&uid, pod), patience).await?;
            if let Err(reason) = outcome {
                tracing::error!(uid, reason, "the node proxy refused a pod of the snapshot");
            }
        }
        if let Err(reason) = put(&packets, Request::SnapshotSent, patience).await? {
            tracing::error!(reason, "the node proxy refused the end of the snapshot");
        }
        loop {
            tokio::select! {
                asked = questions.recv() => {
                    let Some((question, answer)) = asked else {
                        return Ok(());
                    };
                    let outcome = put(&packets, question, patience).await?;
                    // Whoever asked may have stopped waiting.
                    let _ = answer.send(outcome);
                }
                unasked = packets.receive(|message, _| read_answer(message)) => {
                    return match unasked? {
                        None => Ok(()),
                        Some(_) => Err(Malformed::new("an answer without question").into()),
                    };
                }
            }
        }
    }
}

/// One question, one answer.
async fn put(packets: &Packets, question: Question, patience: Duration) -> Result<Outcome, Error> {
    let netns = question.netns().map(|netns| netns.as_fd());
    let exchange = async {
        packets.send(&question.encode(), netns).await?;
        packets.receive(|message, _| read_answer(message)).await
    };
    let answer = within(patience, question.uid(), exchange).await?;
    Ok(answer.ok_or_else(gone)??)
}

async fn within<T>(
    patience: Duration,
    uid: &str,
    exchange: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match timeout(patience, exchange).await {
        Ok(done) => done,
        Err(_) => Err(Error::Unanswered {
            uid: uid.to_owned(),
            waited: patience,
        }),
    }
}

fn gone() -> Error {
    Error::Connection(std::io::ErrorKind::UnexpectedEof.into())
}
