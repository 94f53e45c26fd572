//! The proxy's end.

use std::path::Path;

use ambit_proto::workload::zds as wire;
use wire::workload_request::Payload;

use super::packets::Packets;
use super::{Error, PACKET, Request, WorkloadInfo};

/// A connection to the node agent.
#[derive(Debug)]
pub struct Client {
    packets: Packets,
}

impl Client {
    /// Connects to the agent's socket and says hello.
    ///
    /// # Errors
    /// When the agent is not there.
    pub async fn connect(path: &Path) -> Result<Self, Error> {
        let packets = Packets::connect(path)
            .map_err(|error| Error::socket("connect to the node agent at", path, error))?;
        let hello = wire::ZdsHello {
            version: wire::Version::V1.into(),
        };
        packets.send(&hello, None).await?;
        Ok(Self { packets })
    }

    /// The next request, or `None` when the agent closed the connection. Answer each by [`Self::acknowledge`] before the
    /// next. A packet that is no valid request is refused here, towards the agent, and does not end the connection.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn receive(&mut self) -> Result<Option<Request>, Error> {
        loop {
            let Some(received) = self.packets.receive::<wire::WorkloadRequest>().await? else {
                return Ok(None);
            };
            let parsed = received.and_then(|(message, netns)| parse(message, netns));
            match parsed {
                Ok(request) => return Ok(Some(request)),
                Err(error) => {
                    tracing::warn!(%error, "the node agent sent an invalid request");
                    self.acknowledge(Err(&error.to_string())).await?;
                }
            }
        }
    }

    /// Answers the last request: it is done, or why not.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn acknowledge(&mut self, outcome: Result<(), &str>) -> Result<(), Error> {
        // On the wire an empty error is success.
        let error = match outcome {
            Ok(()) => "",
            Err("") => "no reason given",
            Err(reason) => cut(reason),
        };
        let error = error.to_owned();
        let ack = wire::workload_response::Payload::Ack(wire::Ack { error });
        let answer = wire::WorkloadResponse { payload: Some(ack) };
        self.packets.send(&answer, None).await
    }
}

/// Cuts a reason so that its answer fits into a packet.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(PACKET / 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

fn parse(
    message: wire::WorkloadRequest,
    netns: Option<std::os::fd::OwnedFd>,
) -> Result<Request, Error> {
    let malformed = |reason: &str| Err(Error::Malformed(reason.into()));
    match (message.payload, netns) {
        (Some(Payload::Add(add)), Some(netns)) => {
            let Some(info) = add.workload_info else {
                return malformed("an addition without workload_info");
            };
            Ok(Request::Add {
                uid: add.uid,
                info: WorkloadInfo {
                    name: info.name,
                    namespace: info.namespace,
                    service_account: info.service_account,
                },
                netns,
            })
        }
        (Some(Payload::Add(_)), None) => malformed("an addition without network namespace"),
        (Some(_), Some(_)) => malformed("a descriptor with a request that takes none"),
        (Some(Payload::Keep(keep)), None) => Ok(Request::Keep { uid: keep.uid }),
        (Some(Payload::Del(del)), None) => Ok(Request::Del { uid: del.uid }),
        (Some(Payload::SnapshotSent(_)), None) => Ok(Request::SnapshotSent),
        (None, _) => malformed("a request of an unknown kind"),
    }
}
