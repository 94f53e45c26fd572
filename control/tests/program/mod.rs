//! Runs `ambit control` on free ports of the loopback, and talks to it as proxies and operators do.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambit_proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use ambit_proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use ambit_proto::xds::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status as XdsStatus};
use http::Uri;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prost_types::{Struct, Value, value::Kind};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

pub(crate) const ISSUER: &str = "https://issuer.test";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running control plane; it dies with this value.
pub(crate) struct Control {
    pub(crate) dir: TempDir,
    child: Child,
    log: Arc<Mutex<String>>,
    key: EncodingKey,
    xds: String,
    admin: String,
}

impl Control {
    /// Starts on a folder that holds `manifests`.
    pub(crate) async fn start(manifests: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let ca = format!("--ca-dir={}", dir.path().join("ca").display());
        Self::start_in(dir, manifests, &[&ca]).await
    }

    /// The same in a folder of the test's, with flags that say who signs.
    pub(crate) async fn start_in(dir: TempDir, manifests: &str, signing: &[&str]) -> Self {
        std::fs::create_dir(dir.path().join("source")).expect("created");
        std::fs::write(dir.path().join("source/mesh.yaml"), manifests).expect("written");
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let jwks = json!({"keys": [jwk(&pair)]}).to_string();
        std::fs::write(dir.path().join("jwks.json"), jwks).expect("written");
        let mut child = command(dir.path())
            .args(signing)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (log, announced) = follow(child.stderr.take().expect("piped"));
        let mut control = Self {
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            child,
            dir,
            log,
            xds: String::new(),
            admin: String::new(),
        };
        let ready = control.ready(announced).await;
        control.xds = ready["xds"].as_str().expect("an address").to_owned();
        control.admin = ready["admin"].as_str().expect("an address").to_owned();
        control
    }

    /// The chosen addresses, once it announces them.
    async fn ready(&self, announced: oneshot::Receiver<()>) -> serde_json::Value {
        match tokio::time::timeout(PATIENCE, announced).await {
            Ok(Ok(())) => {}
            _ => panic!("it did not get ready: {}", self.log()),
        }
        let text = std::fs::read(self.dir.path().join("ready")).expect("written by then");
        serde_json::from_slice(&text).expect("complete JSON")
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no writer panicked").clone()
    }

    /// The log, once it says this.
    pub(crate) async fn log_with(&self, said: &str) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if log.contains(said) {
                return log;
            }
            assert!(tokio::time::Instant::now() < deadline, "no {said:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Writes a manifest; the watch or a sync finds it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let source = self.dir.path().join("source");
        let draft = self.dir.path().join("draft");
        std::fs::write(&draft, text).expect("written");
        std::fs::rename(draft, source.join(name)).expect("renamed");
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.dir.path().join("source").join(name)).expect("removed");
    }

    /// Status and JSON of an admin request.
    pub(crate) async fn admin(&self, method: &str, path: &str) -> (u16, serde_json::Value) {
        let (status, text) = self.admin_text(method, path).await;
        (status, serde_json::from_str(&text).unwrap_or(text.into()))
    }

    pub(crate) async fn admin_text(&self, method: &str, path: &str) -> (u16, String) {
        let tcp = TcpStream::connect(&self.admin).await.expect("connected");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
            .await
            .expect("HTTP");
        tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "admin")
            .body(Empty::<bytes::Bytes>::new())
            .expect("a request");
        let answer = sender.send_request(request).await.expect("answered");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("read").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    pub(crate) async fn sync(&self) -> (u16, serde_json::Value) {
        self.admin("POST", "/sync?timeout=20").await
    }

    /// A token of this test's issuer.
    pub(crate) fn token(&self, account: &str, node: Option<&str>) -> String {
        let (namespace, name) = account.split_once('/').expect("two parts");
        let mut kubernetes = json!({
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": "u"},
        });
        if let Some(node) = node {
            kubernetes["node"] = json!({"name": node});
        }
        let claims = json!({
            "iss": ISSUER,
            "aud": ["istio-ca"],
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "exp": jsonwebtoken::get_current_timestamp() + 600,
            "kubernetes.io": kubernetes,
        });
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("test".to_owned());
        jsonwebtoken::encode(&header, &claims, &self.key).expect("signed")
    }

    /// A verified TLS channel to the xDS port.
    pub(crate) async fn channel(&self) -> Channel {
        self.channel_of(None).await
    }

    /// The same, of a machine that has asked for a certificate with a token and shows that.
    pub(crate) async fn machine(&self, account: &str, entry: &str, seconds: i64) -> Channel {
        let key = KeyPair::generate().expect("a key");
        let request = CertificateParams::default().serialize_request(&key);
        let csr = request
            .and_then(|request| request.pem())
            .expect("a request");
        let named = Some(("WorkloadEntry", entry));
        let token = self.token(account, None);
        let answer = self.signed(Some(&token), &csr, named, seconds);
        let chain = answer.await.expect("signed").cert_chain;
        let leaf = CertificateDer::from_pem_slice(chain[0].as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        self.channel_of(Some((leaf, key))).await
    }

    async fn channel_of(
        &self,
        shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> Channel {
        let root = std::fs::read(self.dir.path().join("ca/root-cert.pem")).expect("a root");
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(&root) {
            roots.add(cert.expect("a certificate")).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match shown {
            None => config.with_no_client_auth(),
            Some((leaf, key)) => config
                .with_client_auth_cert(vec![leaf], key)
                .expect("a key of the certificate"),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let address = self.xds.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let (connector, address) = (connector.clone(), address.clone());
            async move {
                let tcp = TcpStream::connect(address).await?;
                let name = ServerName::try_from("localhost").expect("a name");
                connector.connect(name, tcp).await.map(TokioIo::new)
            }
        });
        Endpoint::from_static("http://control")
            .connect_with_connector(connect)
            .await
            .expect("connected")
    }

    pub(crate) async fn certificate(
        &self,
        token: Option<&str>,
        csr: &str,
        identity: Option<&str>,
        seconds: i64,
    ) -> Result<IstioCertificateResponse, Status> {
        let named = identity.map(|identity| ("ImpersonatedIdentity", identity));
        self.signed(token, csr, named, seconds).await
    }

    /// An answer to a request that says something besides its fields.
    async fn signed(
        &self,
        token: Option<&str>,
        csr: &str,
        named: Option<(&str, &str)>,
        seconds: i64,
    ) -> Result<IstioCertificateResponse, Status> {
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.to_owned(),
            validity_duration: seconds,
            metadata: named.map(|(name, value)| Struct {
                fields: [(
                    name.to_owned(),
                    Value {
                        kind: Some(Kind::StringValue(value.to_owned())),
                    },
                )]
                .into(),
            }),
        });
        authorize(&mut request, token);
        IstioCertificateServiceClient::new(self.channel().await)
            .create_certificate(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Sends SIGTERM and gives the exit status.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        let id = self.child.id().to_string();
        let sent = Command::new("/bin/sh")
            .args(["-c", &format!("kill -TERM {id}")])
            .status();
        assert!(sent.expect("sent").success());
        self.child.wait().expect("waited")
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// Gathers the log, and tells when the program says that it is ready or ends.
fn follow(stderr: ChildStderr) -> (Arc<Mutex<String>>, oneshot::Receiver<()>) {
    let log = Arc::new(Mutex::new(String::new()));
    let (announce, announced) = oneshot::channel();
    let written = log.clone();
    std::thread::spawn(move || {
        let mut announce = Some(announce);
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let ready = line.contains(" ready xds=");
            let mut log = written.lock().expect("no reader panicked");
            log.push_str(&line);
            log.push('\n');
            drop(log);
            if ready && let Some(announce) = announce.take() {
                // Nobody waits any more when the test gave up.
                let _ = announce.send(());
            }
        }
    });
    (log, announced)
}

/// The program with flags that fit a folder, but for who signs.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ambit"));
    let at = |flag: &str, name: &str| format!("--{flag}={}", dir.join(name).display());
    command
        .args([
            "control",
            "--xds-address=127.0.0.1:0",
            "--admin-address=127.0.0.1:0",
        ])
        .args([at("source", "source"), at("jwks", "jwks.json")])
        .args([
            at("ready-file", "ready"),
            format!("--token-issuer={ISSUER}"),
        ])
        .stdin(Stdio::null());
    command
}

/// A delta stream of a node proxy.
pub(crate) struct Proxy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    node: String,
}

impl Proxy {
    pub(crate) async fn connect(
        control: &Control,
        name: &str,
        token: Option<&str>,
    ) -> Result<Self, Status> {
        Self::over(control.channel().await, name, token).await
    }

    pub(crate) async fn over(
        channel: Channel,
        name: &str,
        token: Option<&str>,
    ) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(receiver));
        authorize(&mut request, token);
        let responses = AggregatedDiscoveryServiceClient::new(channel)
            .delta_aggregated_resources(request)
            .await?
            .into_inner();
        Ok(Self {
            requests,
            responses,
            node: format!("ztunnel~10.0.0.1~{name}.ambit-system~ambit-system.svc.cluster.local"),
        })
    }

    pub(crate) async fn subscribe(&self, url: &str, held: &[(&str, &str)]) {
        let request = DeltaDiscoveryRequest {
            node: Some(Node {
                id: self.node.clone(),
                ..Node::default()
            }),
            type_url: url.to_owned(),
            initial_resource_versions: held
                .iter()
                .map(|(name, version)| ((*name).to_owned(), (*version).to_owned()))
                .collect(),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.expect("sent");
    }

    pub(crate) async fn next(&mut self) -> DeltaDiscoveryResponse {
        let next = tokio::time::timeout(PATIENCE, self.responses.message());
        next.await
            .expect("in time")
            .expect("no error")
            .expect("no end")
    }

    /// Why the stream ended.
    pub(crate) async fn end(&mut self) -> Option<Status> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.responses.message());
            match next.await.expect("in time") {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }

    pub(crate) async fn answer(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|message| XdsStatus {
                code: 3,
                message: message.to_owned(),
                ..XdsStatus::default()
            }),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.expect("sent");
    }

    /// The next response, acknowledged.
    pub(crate) async fn accept(&mut self) -> DeltaDiscoveryResponse {
        let response = self.next().await;
        self.answer(&response, None).await;
        response
    }
}

fn authorize<T>(request: &mut Request<T>, token: Option<&str>) {
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("ASCII");
        request.metadata_mut().insert("authorization", value);
    }
}

pub(crate) fn csr() -> String {
    let key = KeyPair::generate().expect("a key");
    CertificateParams::default()
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .expect("a request")
}

fn jwk(key: &KeyPair) -> serde_json::Value {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    // An uncompressed point: 4, x, y.
    let point = key.der_bytes();
    json!({"kty": "EC", "crv": "P-256", "kid": "test",
        "x": encode(&point[1..33]), "y": encode(&point[33..65])})
}
