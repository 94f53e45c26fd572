//! One proxy at the agent: questions go out one at a time, each waits for its answer.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

use ambit_proto::workload::zds as wire;
use socket2::Socket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use wire::workload_request::Payload;

use super::Error;
use super::packets::Packets;
use super::server::Pod;

/// Questions that may wait for their turn.
const QUEUE: usize = 64;

/// What the proxy answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Refused(String),
}

/// A request for the proxy.
#[derive(Debug)]
pub(super) struct Question {
    uid: String,
    payload: Payload,
    /// Whose namespace goes along.
    pod: Option<Pod>,
}

impl Question {
    pub(super) fn add(uid: &str, pod: Pod) -> Self {
        let payload = Payload::Add(wire::AddWorkload {
            uid: uid.to_owned(),
            workload_info: Some(pod.info.clone().into()),
        });
        Self {
            uid: uid.to_owned(),
            payload,
            pod: Some(pod),
        }
    }

    pub(super) fn del(uid: &str) -> Self {
        let payload = Payload::Del(wire::DelWorkload {
            uid: uid.to_owned(),
        });
        Self {
            uid: uid.to_owned(),
            payload,
            pod: None,
        }
    }

    fn snapshot_sent() -> Self {
        Self {
            uid: String::new(),
            payload: Payload::SnapshotSent(wire::SnapshotSent {}),
            pod: None,
        }
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
        let hello = within(patience, "hello", packets.receive::<wire::ZdsHello>()).await?;
        let (hello, _) = hello.ok_or_else(gone)??;
        if hello.version() == wire::Version::NotUsed {
            let version = hello.version;
            return Err(Error::Malformed(format!("hello with version {version}")));
        }
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
            let outcome = put(&packets, Question::add(&uid, pod), patience).await?;
            if let Outcome::Refused(reason) = outcome {
                tracing::error!(uid, reason, "the node proxy refused a pod of the snapshot");
            }
        }
        put(&packets, Question::snapshot_sent(), patience).await?;
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
                unasked = packets.receive::<wire::WorkloadResponse>() => {
                    return match unasked? {
                        None => Ok(()),
                        Some(_) => Err(Error::Malformed("an answer without question".into())),
                    };
                }
            }
        }
    }
}

/// One question, one answer.
async fn put(packets: &Packets, question: Question, patience: Duration) -> Result<Outcome, Error> {
    let message = wire::WorkloadRequest {
        payload: Some(question.payload),
    };
    let netns = question.pod.as_ref().map(|pod| pod.netns.as_fd());
    let exchange = async {
        packets.send(&message, netns).await?;
        packets.receive::<wire::WorkloadResponse>().await
    };
    let (response, _) = within(patience, &question.uid, exchange)
        .await?
        .ok_or_else(gone)??;
    match response.payload {
        Some(wire::workload_response::Payload::Ack(ack)) if ack.error.is_empty() => {
            Ok(Outcome::Done)
        }
        Some(wire::workload_response::Payload::Ack(ack)) => Ok(Outcome::Refused(ack.error)),
        None => Err(Error::Malformed("an answer that is no ack".into())),
    }
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
