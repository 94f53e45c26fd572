//! A control plane for tests: its own authority, TLS and gRPC on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::channel::Stream;
use super::{Address, Remote};

/// An authority that signs servers and workloads.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    pub(crate) fn issuer(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.0
    }

    pub(crate) fn root_pem(&self) -> String {
        self.0.pem()
    }

    /// TLS as a server that is called `name`, offering `alpn`.
    pub(crate) fn server(&self, name: &str, alpn: &[u8]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::clone(crate::tls::provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("fits");
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    }
}

/// A running server; stops when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    cut: Arc<Notify>,
    was_cut: Arc<Notify>,
    /// Aborts what it holds when dropped.
    _tasks: JoinSet<()>,
}

impl Running {
    /// Connections that got through the handshake.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Cuts every connection there is; new ones are taken.
    pub(crate) async fn cut(&self) {
        self.cut.notify_one();
        self.was_cut.notified().await;
    }
}

/// Serves one gRPC service on loopback, with TLS if there is a configuration for it.
pub(crate) async fn serve<S>(service: S, tls: Option<Arc<ServerConfig>>) -> Running
where
    S: Service<Request<Incoming>, Response = Response<tonic::body::Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let cut = Arc::new(Notify::new());
    let was_cut = Arc::new(Notify::new());
    let (cutting, done) = (Arc::clone(&cut), Arc::clone(&was_cut));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            let (tcp, _) = tokio::select! {
                accepted = listener.accept() => accepted.expect("accepts"),
                () = cutting.notified() => {
                    serving.shutdown().await;
                    done.notify_one();
                    continue;
                }
            };
            let (service, tls, counter) = (service.clone(), tls.clone(), Arc::clone(&counter));
            serving.spawn(async move {
                let io: Box<dyn Stream> = match tls {
                    None => Box::new(tcp),
                    Some(config) => match TlsAcceptor::from(config).accept(tcp).await {
                        Ok(tls) => Box::new(tls),
                        Err(_) => return,
                    },
                };
                counter.fetch_add(1, Ordering::SeqCst);
                let _ = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
                    .await;
            });
        }
    });
    Running {
        address,
        connections,
        cut,
        was_cut,
        _tasks: tasks,
    }
}

/// The files that a client reads.
pub(crate) struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new(roots: &str, token: &str) -> Self {
        let files = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        files.write("roots.pem", roots);
        files.write("token", token);
        files
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How a client reaches `server` with these files, expecting the name `localhost`.
    pub(crate) fn remote(&self, server: &Running) -> Remote {
        let address: Address = format!("https://{}", server.address)
            .parse()
            .expect("valid");
        Remote {
            token: Some(self.path("token")),
            cluster_id: "cluster-1".to_owned(),
            ..Remote::new(
                address.with_server_name("localhost").expect("valid"),
                self.path("roots.pem"),
            )
        }
    }
}
