//! Answers commands: one request a connection.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::{apply, delete, exec, get, status, target};
use crate::cluster::Cluster;
use crate::mesh::Mesh;
use crate::protocol::{self, Reply, Request};

/// How long a command may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a lab says that keeps the objects of another API server.
const JOINED: &str = "this lab is joined to an API server: use kubectl";

/// Serves until something fails for good.
pub(super) async fn serve(
    cluster: &Arc<Cluster>,
    listener: &UnixListener,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (cluster, stop) = (Arc::clone(cluster), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = attend(&cluster, stream, &stop).await {
                tracing::debug!(%error, "a command went away");
            }
        });
    }
}

/// The command at the other end.
pub(super) struct Caller {
    stream: UnixStream,
}

impl Caller {
    /// Sends one reply.
    pub(super) async fn tell(&mut self, reply: &Reply) -> io::Result<()> {
        let body = serde_json::to_vec(reply)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        self.stream
            .write_all(&[&length.to_be_bytes(), &body[..]].concat())
            .await
    }

    /// A line for the person.
    pub(super) async fn line(&mut self, line: String) -> io::Result<()> {
        self.tell(&Reply::Line(line)).await
    }

    /// Returns when the caller is gone.
    pub(super) async fn gone(&mut self) {
        let mut byte = [0];
        // A caller says nothing after its request: whatever comes is the end.
        let _ = self.stream.read(&mut byte).await;
    }
}

async fn attend(
    cluster: &Arc<Cluster>,
    stream: UnixStream,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let receiving = tokio::task::spawn_blocking(move || {
        protocol::receive::<Request>(&mut stream).map(|request| (request, stream))
    });
    let (request, stream) = receiving.await??;
    let Some((request, descriptors)) = request else {
        return Ok(());
    };
    stream.set_nonblocking(true)?;
    let mut caller = Caller {
        stream: UnixStream::from_std(stream)?,
    };
    let down = matches!(request, Request::Down);
    let last = match answer(cluster, &mut caller, request, descriptors).await {
        Ok(last) => last,
        Err(problems) => Reply::Failed(problems),
    };
    caller.tell(&last).await?;
    if down {
        stop.send_replace(true);
    }
    Ok(())
}

async fn answer(
    cluster: &Arc<Cluster>,
    caller: &mut Caller,
    request: Request,
    descriptors: Vec<OwnedFd>,
) -> Result<Reply, Vec<String>> {
    match request {
        Request::Down => Ok(Reply::Done(0)),
        Request::Status => Ok(Reply::Status(status::status(cluster))),
        Request::Apply { .. } | Request::Delete { .. } if cluster.api_server().is_some() => {
            Err(vec![JOINED.to_owned()])
        }
        Request::Apply { manifests, seconds } => {
            apply::apply(cluster, caller, &manifests, Duration::from_secs(seconds)).await
        }
        Request::Delete {
            manifests,
            object,
            seconds,
        } => {
            let patience = Duration::from_secs(seconds);
            delete::delete(cluster, caller, &manifests, object, patience).await
        }
        Request::Get {
            kind,
            name,
            namespace,
        } => get::get(cluster, &kind, name.as_deref(), namespace).map(Reply::Objects),
        Request::Exec {
            target,
            namespace,
            container,
            argv,
            env,
        } => {
            let place = target::place(cluster, &target, &namespace, container.as_deref(), env)?;
            exec::exec(caller, &place, &argv, descriptors)
                .await
                .map(Reply::Done)
        }
        Request::LogFile {
            target,
            namespace,
            container,
        } => target::log_file(cluster, &target, &namespace, container.as_deref()).map(Reply::File),
        Request::Kill { target, namespace } => target::kill(cluster, &target, &namespace)
            .await
            .map(|()| Reply::Done(0)),
        Request::Replace { target, env } => {
            let replaced = mesh(cluster)?.replace(cluster, &target, &env).await;
            replaced.map_err(|it| vec![it])?;
            Ok(Reply::Done(0))
        }
        Request::Join { machine, joining } => {
            let joined = mesh(cluster)?.join(cluster, &machine, &joining).await;
            joined.map_err(|it| vec![it])?;
            Ok(Reply::Done(0))
        }
        Request::Leave { machine } => {
            let left = mesh(cluster)?.leave(cluster, &machine).await;
            left.map_err(|it| vec![it])?;
            Ok(Reply::Done(0))
        }
        Request::Network { target, weather } => {
            target::network(cluster, &target, weather).map(|()| Reply::Done(0))
        }
        Request::Restart {
            target,
            namespace,
            seconds,
        } => {
            let patience = Duration::from_secs(seconds);
            target::restart(cluster, &target, &namespace, patience)
                .await
                .map(|()| Reply::Done(0))
        }
    }
}

fn mesh(cluster: &Cluster) -> Result<&Mesh, Vec<String>> {
    let mesh = cluster.mesh();
    mesh.ok_or_else(|| vec!["there is no mesh in this lab".to_owned()])
}
