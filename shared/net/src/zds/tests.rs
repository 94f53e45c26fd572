use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::zds::LONGEST;
use ambit_proto::workload::zds as wire;
use prost::Message;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wire::workload_request::Payload;

use super::*;
use crate::sys::{receive_packet, send_packet};

/// Long enough to never pass in a test that succeeds.
const LONG: Duration = Duration::from_secs(30);

struct Agent {
    folder: TempDir,
    server: Server,
    task: JoinHandle<()>,
}

impl Agent {
    fn start(patience: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::bind(&folder.path().join("zds"), patience).expect("bound");
        let runs = server.clone();
        let task = tokio::spawn(async move { runs.run().await });
        Self {
            folder,
            server,
            task,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("zds")
    }

    /// A proxy that has taken its snapshot, and the UIDs in it.
    async fn proxy(&self) -> (Client, Vec<String>) {
        let mut proxy = Client::connect(&self.path()).await.expect("connected");
        let mut snapshot = Vec::new();
        loop {
            let request = next(&mut proxy).await;
            proxy.acknowledge(Ok(())).await.expect("answered");
            match request {
                Request::Add { uid, .. } => snapshot.push(uid),
                Request::SnapshotSent => return (proxy, snapshot),
                other => panic!("{other:?} in a snapshot"),
            }
        }
    }

    fn add(&self, uid: &'static str) -> JoinHandle<Result<(), Error>> {
        let server = self.server.clone();
        tokio::spawn(async move { server.add(uid, pod(uid), soon()).await })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn soon() -> Instant {
    Instant::now() + LONG
}

fn info(name: &str) -> WorkloadInfo {
    WorkloadInfo {
        name: name.into(),
        namespace: "default".into(),
        service_account: "app".into(),
    }
}

fn pod(name: &str) -> Pod {
    let netns = File::open("/proc/self/ns/net").expect("open");
    Pod {
        info: info(name),
        netns: Arc::new(netns.into()),
    }
}

async fn next(proxy: &mut Client) -> Request<OwnedFd> {
    proxy
        .receive()
        .await
        .expect("a working connection")
        .expect("a request")
}

#[tokio::test]
async fn pods_come_with_who_they_are_and_their_namespace() {
    let agent = Agent::start(LONG);
    let (mut proxy, snapshot) = agent.proxy().await;
    assert!(snapshot.is_empty());
    let added = agent.add("a");
    let Request::Add {
        uid,
        info: who,
        netns,
    } = next(&mut proxy).await
    else {
        panic!("not an addition");
    };
    assert_eq!((uid.as_str(), who), ("a", info("a")));
    let own = std::fs::metadata("/proc/self/ns/net").expect("there").ino();
    let flags = nix::fcntl::fcntl(&netns, nix::fcntl::FcntlArg::F_GETFD).expect("flags");
    assert_eq!(flags, libc::FD_CLOEXEC);
    assert_eq!(File::from(netns).metadata().expect("there").ino(), own);
    assert!(!added.is_finished());
    proxy.acknowledge(Ok(())).await.expect("answered");
    added.await.expect("no panic").expect("added");
    assert!(agent.server.pods().contains_key("a"));

    let server = agent.server.clone();
    let deleted = tokio::spawn(async move { server.delete("a", soon()).await });
    assert!(matches!(next(&mut proxy).await, Request::Del { uid } if uid == "a"));
    proxy.acknowledge(Ok(())).await.expect("answered");
    deleted.await.expect("no panic");
    assert!(agent.server.pods().is_empty());
    assert_eq!(agent.proxy().await.1, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn without_a_proxy_pods_are_refused_after_a_while() {
    let agent = Agent::start(LONG);
    let deadline = Instant::now() + Duration::from_secs(3);
    let error = agent
        .server
        .add("a", pod("a"), deadline)
        .await
        .expect_err("nobody there");
    let path = agent.path();
    assert_eq!(
        error.to_string(),
        format!(
            "no node proxy is connected to {} (waited 3.0s): is ztunnel running on this node?",
            path.display()
        )
    );
    assert!(agent.server.pods().is_empty());
}

#[tokio::test]
async fn a_pod_that_waits_is_given_once_to_the_proxy_that_comes() {
    let agent = Agent::start(LONG);
    let added = agent.add("a");
    tokio::task::yield_now().await;
    let (mut proxy, snapshot) = agent.proxy().await;
    assert!(snapshot.is_empty(), "given twice");
    assert!(matches!(next(&mut proxy).await, Request::Add { uid, .. } if uid == "a"));
    proxy.acknowledge(Ok(())).await.expect("answered");
    added.await.expect("no panic").expect("added");
}

#[tokio::test]
async fn a_refusal_reaches_who_asked_and_is_undone() {
    let agent = Agent::start(LONG);
    let (mut proxy, _) = agent.proxy().await;
    let added = agent.add("a");
    next(&mut proxy).await;
    proxy
        .acknowledge(Err("no such workload"))
        .await
        .expect("answered");
    let error = added.await.expect("no panic").expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the node proxy refused pod a: no such workload"
    );
    assert!(matches!(next(&mut proxy).await, Request::Del { uid } if uid == "a"));
    proxy.acknowledge(Ok(())).await.expect("answered");
    assert!(agent.server.pods().is_empty());
}

#[tokio::test]
async fn a_silent_proxy_is_left_for_the_next() {
    let agent = Agent::start(Duration::from_secs(2));
    let (mut silent, _) = agent.proxy().await;
    let added = agent.add("a");
    next(&mut silent).await;
    assert!(silent.receive().await.expect("an orderly end").is_none());
    let mut proxy = Client::connect(&agent.path()).await.expect("connected");
    // Already remembered for the first proxy, or not yet for this one: the answer to either is the pod's.
    while !added.is_finished() {
        tokio::select! {
            request = proxy.receive() => {
                request.expect("a working connection").expect("a request");
                proxy.acknowledge(Ok(())).await.expect("answered");
            }
            () = tokio::task::yield_now() => {}
        }
    }
    added.await.expect("no panic").expect("added");
}

#[tokio::test]
async fn the_newest_proxy_gets_pods_and_all_hear_of_deletions() {
    let agent = Agent::start(LONG);
    agent.server.restore("old", pod("old"));
    let (mut first, snapshot) = agent.proxy().await;
    assert_eq!(snapshot, ["old"]);
    let (mut second, snapshot) = agent.proxy().await;
    assert_eq!(snapshot, ["old"]);

    let added = agent.add("new");
    assert!(matches!(next(&mut second).await, Request::Add { uid, .. } if uid == "new"));
    second.acknowledge(Ok(())).await.expect("answered");
    added.await.expect("no panic").expect("added");

    let server = agent.server.clone();
    let deleted = tokio::spawn(async move { server.delete("old", soon()).await });
    for proxy in [&mut second, &mut first] {
        assert!(matches!(next(proxy).await, Request::Del { uid } if uid == "old"));
        proxy.acknowledge(Ok(())).await.expect("answered");
    }
    deleted.await.expect("no panic");

    drop(second);
    let mut connected = agent.server.connected();
    connected
        .wait_for(|count| *count == 1)
        .await
        .expect("running");
    let added = agent.add("newer");
    assert!(matches!(next(&mut first).await, Request::Add { uid, .. } if uid == "newer"));
    first.acknowledge(Ok(())).await.expect("answered");
    added.await.expect("no panic").expect("added");
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let agent = Agent::start(LONG);
    let not_v1 = wire::ZdsHello { version: 0 }.encode_to_vec();
    for hello in [&not_v1[..], b"GET / HTTP/1.1", &[0xff; 4000]] {
        let stranger = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
        let address = SockAddr::unix(agent.path()).expect("short");
        stranger.connect(&address).expect("connected");
        if !hello.is_empty() {
            send_packet(stranger.as_fd(), hello, None).expect("sent");
            let end = tokio::task::spawn_blocking(move || {
                receive_packet(stranger.as_fd(), &mut [0; 8]).map(|packet| packet.length)
            });
            assert_eq!(end.await.expect("no panic").expect("an orderly end"), 0);
        }
    }
    assert_eq!(*agent.server.connected().borrow(), 0);
}

#[tokio::test]
async fn invalid_requests_are_refused_one_by_one_and_leak_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("zds");
    let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    listener
        .bind(&SockAddr::unix(&path).expect("short"))
        .expect("bound");
    listener.listen(1).expect("listening");
    let mut proxy = Client::connect(&path).await.expect("connected");
    let (agent, _) = listener.accept().expect("accepted");
    let mut buffer = [0; LONGEST];
    let hello = receive_packet(agent.as_fd(), &mut buffer).expect("a hello");
    assert_eq!(buffer[..hello.length], [8, 1], "as istio's proxies say it");

    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let writer = OwnedFd::from(writer);
    let add = |info: Option<WorkloadInfo>| {
        Payload::Add(wire::AddWorkload {
            uid: "a".into(),
            workload_info: info.map(Into::into),
        })
    };
    let message = |payload| wire::WorkloadRequest { payload }.encode_to_vec();
    let del = Payload::Del(wire::DelWorkload { uid: "a".into() });
    let cases = [
        (
            message(Some(add(None))),
            1,
            "an addition without workload_info",
        ),
        (
            message(Some(add(Some(info("a"))))),
            0,
            "an addition without network namespace",
        ),
        (
            message(Some(add(Some(info("a"))))),
            2,
            "2 descriptors in one packet",
        ),
        (
            message(Some(add(Some(info("a"))))),
            9,
            "the packet is too long",
        ),
        (
            message(Some(del.clone())),
            1,
            "a descriptor with a request that takes none",
        ),
        (message(None), 0, "a request of an unknown kind"),
        (vec![0xff; 10], 0, "invalid varint"),
        (vec![0x0a; LONGEST + 1], 1, "the packet is too long"),
    ];
    for (bytes, descriptors, reason) in cases {
        // An empty message is the end of a connection; one unknown field is not.
        let bytes = if bytes.is_empty() {
            vec![0x78, 1]
        } else {
            bytes
        };
        let raw = vec![writer.as_raw_fd(); descriptors];
        let rights = [nix::sys::socket::ControlMessage::ScmRights(&raw)];
        nix::sys::socket::sendmsg::<()>(
            agent.as_raw_fd(),
            &[std::io::IoSlice::new(&bytes)],
            if raw.is_empty() { &[] } else { &rights },
            nix::sys::socket::MsgFlags::empty(),
            None,
        )
        .expect("sent");
        send_packet(agent.as_fd(), &message(Some(del.clone())), None).expect("sent");
        assert!(
            matches!(next(&mut proxy).await, Request::Del { .. }),
            "{reason}"
        );
        proxy.acknowledge(Ok(())).await.expect("answered");
        let answer = |buffer: &mut [u8]| {
            let packet = receive_packet(agent.as_fd(), buffer).expect("an answer");
            let response = wire::WorkloadResponse::decode(&buffer[..packet.length]);
            match response.expect("a response").payload {
                Some(wire::workload_response::Payload::Ack(ack)) => ack.error,
                None => panic!("no answer"),
            }
        };
        let refusal = answer(&mut buffer);
        assert!(refusal.contains(reason), "{refusal:?} for {reason:?}");
        assert_eq!(answer(&mut buffer), "");
    }
    drop(writer);
    let mut rest = Vec::new();
    reader
        .read_to_end(&mut rest)
        .expect("no copy of the pipe is left open");
    drop(agent);
    assert!(proxy.receive().await.expect("an orderly end").is_none());
}

#[tokio::test]
async fn a_newer_agent_takes_the_path_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("zds");
    let older = Server::bind(&path, LONG).expect("bound");
    let newer = Server::bind(&path, LONG).expect("in its place");
    drop(older);
    assert!(path.exists(), "the older one left the newer's file");
    drop(newer);
    assert!(!path.exists());
    std::fs::write(&path, "a file of somebody else").expect("written");
    let error = Server::bind(&path, LONG).expect_err("not a socket");
    assert!(
        error.to_string().starts_with("listen for node proxies at "),
        "{error}"
    );
}
