//! The kubelets' servers: every node's is at its address, and answers an API server for the pods of the node, with
//! their logs and with connections to their ports. Pods reach it as well, so that TLS asks for a certificate of a caller,
//! and the API server is asked what the caller may do. The server's own certificate is signed by itself, as a kubelet's
//! is that was given none.

mod forward;
mod logs;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambit_net::sys::{Listen, Sockets};
use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Pod;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, crypto};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::api::Key;
use crate::apiserver::{Caller, verifier};
use crate::cluster::{Cluster, LabNode};
use crate::net::accepted;

/// Where kubelets listen.
pub(crate) const PORT: u16 = 10250;
/// Connections to one kubelet at a time; more wait.
const CONNECTIONS: usize = 256;
/// Time for a handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Serves on every node, for as long as the lab lives.
///
/// # Errors
/// When there is no certificate, or a node's address cannot be listened on.
pub(crate) fn serve(cluster: &Arc<Cluster>) -> anyhow::Result<()> {
    for node in &cluster.nodes {
        let sockets = Sockets {
            netns: Some(node.netns.netns().clone()),
            mark: None,
        };
        let listener = sockets.listen_any(PORT, Listen::Plain);
        let listener = listener.with_context(|| format!("port {PORT} of {}", node.name))?;
        let server = Server {
            cluster: Arc::clone(cluster),
            node: Arc::clone(node),
            identity: Identity::of(&node.name)?,
        };
        tokio::spawn(Arc::new(server).accept(listener));
    }
    Ok(())
}

/// One node's.
struct Server {
    cluster: Arc<Cluster>,
    node: Arc<LabNode>,
    identity: Identity,
}

/// What a kubelet shows of itself.
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    fn of(node: &str) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed([node.to_owned()])?;
        Ok(Self {
            certificate: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
        })
    }
}

impl Server {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let stream = accepted(|| listener.accept()).await;
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                if let Err(error) = server.attend(stream).await {
                    tracing::debug!(node = %server.node.name, "a caller of a kubelet: {error:#}");
                }
                drop(place);
            });
        }
    }

    async fn attend(self: &Arc<Self>, stream: TcpStream) -> anyhow::Result<()> {
        let acceptor = TlsAcceptor::from(Arc::new(self.tls()?));
        let stream = timeout(PATIENCE, acceptor.accept(stream)).await??;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let caller = certificate.and_then(Caller::of);
        let caller = &caller.context("its certificate names nobody")?;
        let service = service_fn(|request| async move {
            let answer = self.answer(caller, request).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|refusal| *refusal))
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        Ok(served.await?)
    }

    /// As the API server says now who is a client.
    fn tls(&self) -> anyhow::Result<ServerConfig> {
        let clients = self.cluster.read(verifier)?;
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.identity.key.clone()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![self.identity.certificate.clone()], key)?;
        Ok(config)
    }

    async fn answer(
        &self,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Result<Answer, Box<Answer>> {
        if !self.node.is_on() {
            return Err(text(StatusCode::SERVICE_UNAVAILABLE, "the node is off"));
        }
        let path = request.uri().path().to_owned();
        let path: Vec<&str> = path.split('/').skip(1).collect();
        let of_logs = path.first() == Some(&"containerLogs") && request.method() == Method::GET;
        // To reach what a pod keeps to itself is more than to read.
        let verb = if of_logs { "get" } else { "create" };
        let server = self.cluster.api_server();
        let server = server.ok_or_else(|| text(StatusCode::FORBIDDEN, "nobody may ask"))?;
        if !server.allows(caller, verb, &self.node.name).await {
            let said = format!("{verb} nodes/proxy of {} is not allowed", self.node.name);
            return Err(text(StatusCode::FORBIDDEN, &said));
        }
        match path[..] {
            ["containerLogs", namespace, name, container] if of_logs => {
                let pod = self.pod(namespace, name)?;
                let query = request.uri().query().unwrap_or_default();
                logs::answer(&self.cluster, &pod, container, query).await
            }
            ["portForward", namespace, name] | ["portForward", namespace, name, _] => {
                let pod = self.pod(namespace, name)?;
                let key = Key::of(&pod.metadata);
                let netns = self.cluster.with_pod(&key, |pod| pod.netns()).flatten();
                let none = || text(StatusCode::CONFLICT, "the pod has no sandbox");
                forward::answer(&netns.ok_or_else(none)?, request)
            }
            _ => {
                let said = "a kubelet of the lab has /containerLogs and /portForward";
                Err(text(StatusCode::NOT_FOUND, said))
            }
        }
    }

    /// A pod of this node.
    fn pod(&self, namespace: &str, name: &str) -> Result<Pod, Box<Answer>> {
        let key = Key::new(namespace, name);
        let found = self.cluster.read(|store| store.pods.get(&key).cloned());
        let here = |pod: &Pod| {
            let spec = pod.spec.as_ref();
            spec.and_then(|it| it.node_name.as_ref()) == Some(&self.node.name)
        };
        let none = || {
            let said = format!("{} has no pod {key}", self.node.name);
            text(StatusCode::NOT_FOUND, &said)
        };
        found.filter(here).ok_or_else(none)
    }
}

/// One line.
fn text(status: StatusCode, line: &str) -> Box<Answer> {
    let body = Full::<Bytes>::from(format!("{line}\n")).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    Box::new(answer)
}
