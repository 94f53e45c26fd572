//! ZDS, its messages: the node agent tells the node proxy which pods of this node are in the mesh. One message a packet,
//! a pod's network namespace beside it. Wire: `istio.workload.zds`.
//!
//! Whoever opens the socket may send anything: what is read here is one of these messages, or [`Malformed`].

use ambit_proto::workload::zds as wire;
use prost::Message;
use wire::workload_request::Payload;
use wire::workload_response::Payload as Response;

/// Longest packet either side accepts, in octets. Kubernetes names of every kind fit into half of it.
pub const LONGEST: usize = 2048;

/// A packet that is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a ZDS message: {0}")]
pub struct Malformed(String);

impl Malformed {
    /// A packet of which this is wrong.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Who a pod is, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkloadInfo {
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
}

/// What the agent asks of the proxy; `N` is a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<N> {
    /// Serve this pod.
    Add {
        /// The pod's UID.
        uid: String,
        /// Who it is; the proxy finds its workload by this.
        info: WorkloadInfo,
        /// Its network namespace, which goes beside the message.
        netns: N,
    },
    /// Go on serving this pod, whose namespace the proxy has already.
    Keep {
        /// The pod's UID.
        uid: String,
    },
    /// The pod is gone or left the mesh.
    Del {
        /// The pod's UID.
        uid: String,
    },
    /// All pods that there were before the connection have been sent.
    SnapshotSent,
}

impl<N> Request<N> {
    /// Reads a message and what came beside it.
    ///
    /// # Errors
    /// It is no request, an addition without namespace, or something beside a request that takes nothing.
    pub fn decode(message: &[u8], beside: Option<N>) -> Result<Self, Malformed> {
        let message: wire::WorkloadRequest = decode(message)?;
        let malformed = |reason: &str| Err(Malformed::new(reason));
        match (message.payload, beside) {
            (Some(Payload::Add(add)), Some(netns)) => match add.workload_info {
                Some(info) => Ok(Self::Add {
                    uid: add.uid,
                    info: info.into(),
                    netns,
                }),
                None => malformed("an addition without workload_info"),
            },
            (Some(Payload::Add(_)), None) => malformed("an addition without network namespace"),
            (Some(_), Some(_)) => malformed("a descriptor with a request that takes none"),
            (Some(Payload::Keep(keep)), None) => Ok(Self::Keep { uid: keep.uid }),
            (Some(Payload::Del(del)), None) => Ok(Self::Del { uid: del.uid }),
            (Some(Payload::SnapshotSent(_)), None) => Ok(Self::SnapshotSent),
            (None, _) => malformed("a request of an unknown kind"),
        }
    }

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let payload = match self {
            Self::Add { uid, info, .. } => Payload::Add(wire::AddWorkload {
                uid: uid.clone(),
                workload_info: Some(info.clone().into()),
            }),
            Self::Keep { uid } => Payload::Keep(wire::KeepWorkload { uid: uid.clone() }),
            Self::Del { uid } => Payload::Del(wire::DelWorkload { uid: uid.clone() }),
            Self::SnapshotSent => Payload::SnapshotSent(wire::SnapshotSent {}),
        };
        let payload = Some(payload);
        wire::WorkloadRequest { payload }.encode_to_vec()
    }

    /// The UID of the pod that it is about; empty of [`Request::SnapshotSent`].
    #[must_use]
    pub fn uid(&self) -> &str {
        match self {
            Self::Add { uid, .. } | Self::Keep { uid } | Self::Del { uid } => uid,
            Self::SnapshotSent => "",
        }
    }

    /// What goes beside it.
    #[must_use]
    pub fn netns(&self) -> Option<&N> {
        match self {
            Self::Add { netns, .. } => Some(netns),
            _ => None,
        }
    }
}

/// The first message on a connection, the proxy's: it speaks version 1.
#[must_use]
pub fn hello() -> Vec<u8> {
    let version = wire::Version::V1.into();
    wire::ZdsHello { version }.encode_to_vec()
}

/// Reads the first message.
///
/// # Errors
/// It is no hello, or of another version.
pub fn read_hello(message: &[u8]) -> Result<(), Malformed> {
    let hello: wire::ZdsHello = decode(message)?;
    match hello.version() {
        wire::Version::NotUsed => {
            let version = hello.version;
            Err(Malformed(format!("hello with version {version}")))
        }
        wire::Version::V1 => Ok(()),
    }
}

/// The proxy's answer to a request: it is done, or why not. A reason that is too long for a packet is cut.
#[must_use]
pub fn answer(outcome: Result<(), &str>) -> Vec<u8> {
    // On the wire an empty error is success.
    let error = match outcome {
        Ok(()) => "",
        Err("") => "no reason given",
        Err(reason) => cut(reason),
    };
    let error = error.to_owned();
    let payload = Some(Response::Ack(wire::Ack { error }));
    wire::WorkloadResponse { payload }.encode_to_vec()
}

/// Reads an answer: the request is done, or why not.
///
/// # Errors
/// It is no answer.
pub fn read_answer(message: &[u8]) -> Result<Result<(), String>, Malformed> {
    let response: wire::WorkloadResponse = decode(message)?;
    match response.payload {
        Some(Response::Ack(ack)) if ack.error.is_empty() => Ok(Ok(())),
        Some(Response::Ack(ack)) => Ok(Err(ack.error)),
        None => Err(Malformed::new("an answer that is no ack")),
    }
}

fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(LONGEST / 2)]
}

fn decode<M: Message + Default>(message: &[u8]) -> Result<M, Malformed> {
    if message.len() > LONGEST {
        return Err(Malformed::new("the packet is too long"));
    }
    M::decode(message).map_err(|error| Malformed(error.to_string()))
}

impl From<WorkloadInfo> for wire::WorkloadInfo {
    fn from(info: WorkloadInfo) -> Self {
        Self {
            name: info.name,
            namespace: info.namespace,
            service_account: info.service_account,
        }
    }
}

impl From<wire::WorkloadInfo> for WorkloadInfo {
    fn from(info: wire::WorkloadInfo) -> Self {
        Self {
            name: info.name,
            namespace: info.namespace,
            service_account: info.service_account,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_is_wrong_as_far_as_a_packet_goes() {
        // Of two octets each, and none begins where a packet ends.
        let long = format!("a{}", "ä".repeat(LONGEST));
        let cut = &long[..LONGEST / 2 - 1];
        let cases = [
            (Ok(()), Ok(())),
            (Err("no such pod"), Err("no such pod")),
            (Err(""), Err("no reason given")),
            (Err(&*long), Err(cut)),
            (Err(cut), Err(cut)),
        ];
        for (said, heard) in cases {
            let message = answer(said);
            assert!(message.len() <= LONGEST);
            assert_eq!(read_answer(&message), Ok(heard.map_err(str::to_owned)));
        }
    }

    #[test]
    fn only_the_first_version_is_spoken() {
        assert_eq!(hello(), [8, 1], "as istio's proxies say it");
        assert_eq!(read_hello(&hello()), Ok(()));
        for other in [&[][..], &[8, 0], &[8, 2]] {
            let error = read_hello(other).expect_err("another version");
            assert!(error.to_string().contains("hello with version"), "{error}");
        }
    }
}
