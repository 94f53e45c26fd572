//! What is asked of the authority, and which answers are taken.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_proto::ca::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use ambit_proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use parking_lot::Mutex;
use prost_types::value::Kind;
use rcgen::{CertificateSigningRequestParams, KeyPair, PublicKeyData};
use tonic::{Request, Response, Status};

use super::id;
use crate::ca::testing::leaf;
use crate::ca::{CaClient, CaConfig};
use crate::grpc::testing::{Authority, Files, Running, serve};

const HOUR: Duration = Duration::from_secs(3600);
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

#[tokio::test]
async fn asks_as_a_node_on_behalf_of_its_pod() {
    let t = Test::start(|ca, key| ca.chain(&[WEB], key)).await;
    let certified = t.client().fetch(&id("web")).await.expect("signed");
    assert_eq!(certified.identity(), &id("web"));
    let left = certified
        .not_after()
        .duration_since(SystemTime::now())
        .expect("valid");
    assert!(left <= HOUR && left > HOUR - Duration::from_secs(60));
    let asked = t.asked();
    assert_eq!(asked.authorization, "Bearer first");
    assert_eq!(asked.cluster, "cluster-1");
    assert_eq!(asked.on_behalf_of.as_deref(), Some(WEB));
    assert_eq!(asked.seconds, 24 * 3600);
}

#[tokio::test]
async fn asks_for_itself_when_it_is_no_node() {
    let t = Test::start(|ca, key| ca.chain(&[WEB], key)).await;
    let config = CaConfig {
        impersonate: false,
        lifetime: HOUR,
        ..t.config()
    };
    CaClient::new(config)
        .fetch(&id("web"))
        .await
        .expect("signed");
    let asked = t.asked();
    assert_eq!((asked.on_behalf_of, asked.seconds), (None, 3600));
}

#[tokio::test]
async fn reads_the_token_for_every_request_and_keeps_its_connection() {
    let t = Test::start(|ca, key| ca.chain(&[WEB], key)).await;
    let client = t.client();
    for token in ["second", "third"] {
        t.files.write("token", token);
        client.fetch(&id("web")).await.expect("signed");
        assert_eq!(t.asked().authorization, format!("Bearer {token}"));
    }
    assert_eq!(t.server.connections(), 1);
}

#[tokio::test]
async fn a_failure_gives_the_connection_up() {
    let t = Test::start(|ca, key| ca.chain(&[WEB], key)).await;
    let client = t.client();
    *t.refuse.lock() = Some(Status::permission_denied("web does not run on node-1"));
    let error = client
        .fetch(&id("web"))
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("does not sign for spiffe://cluster.local/ns/shop/sa/web"),
        "{error}"
    );
    assert!(
        error.ends_with("PermissionDenied: web does not run on node-1"),
        "{error}"
    );
    client.fetch(&id("web")).await.expect("signed");
    assert_eq!(t.server.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_was_lost_meanwhile_is_replaced() {
    let t = Test::start(|ca, key| ca.chain(&[WEB], key)).await;
    let client = t.client();
    for _ in 0..3 {
        client.fetch(&id("web")).await.expect("signed");
        t.server.cut().await;
    }
    assert_eq!(t.server.connections(), 3);
}

#[tokio::test]
async fn takes_only_what_it_asked_for() {
    type Answer = fn(&Ca, &Key) -> Vec<String>;
    let other_key = |ca: &Ca, _: &Key| ca.chain(&[WEB], &KeyPair::generate().expect("a key"));
    let cases: [(&str, Answer, &str); 9] = [
        ("nothing", |_, _| vec![], "too short"),
        (
            "no root",
            |ca, key| vec![ca.chain(&[WEB], key).swap_remove(0)],
            "too short",
        ),
        (
            "no certificate",
            |ca, _| vec!["hello".into(), ca.0.root_pem()],
            "of no use",
        ),
        (
            "another identity",
            |ca, key| ca.chain(&["spiffe://cluster.local/ns/shop/sa/db"], key),
            "signed one of spiffe://cluster.local/ns/shop/sa/db",
        ),
        (
            "two identities",
            |ca, key| ca.chain(&[WEB, "spiffe://cluster.local/ns/shop/sa/db"], key),
            "exactly one URI",
        ),
        (
            "no identity",
            |ca, key| ca.chain(&[], key),
            "exactly one URI",
        ),
        (
            "another trust domain",
            |ca, key| ca.chain(&["spiffe://evil/ns/shop/sa/web"], key),
            "signed one of spiffe://evil",
        ),
        ("another key", other_key, "of no use"),
        (
            "expired",
            |ca, key| ca.dated(&[WEB], key, 2 * HOUR, HOUR),
            "compare the clocks",
        ),
    ];
    for (name, answer, reason) in cases {
        let t = Test::start(answer).await;
        let error = t
            .client()
            .fetch(&id("web"))
            .await
            .expect_err(name)
            .to_string();
        assert!(error.contains(reason), "{name}: {error}");
        assert!(
            error.contains("cluster.local/ns/shop/sa/web"),
            "{name} names whom: {error}"
        );
    }
}

#[tokio::test]
async fn asks_only_the_authority_it_was_given() {
    let t = Test::start(|ca, key| ca.chain(&[WEB], key)).await;
    let client = t.client();
    t.files.write("roots.pem", &Authority::new().root_pem());
    let error = client
        .fetch(&id("web"))
        .await
        .expect_err("unknown authority")
        .to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    assert!(t.asked.lock().is_empty(), "no token was shown");
    t.files.write("roots.pem", &t.root);
    client.fetch(&id("web")).await.expect("signed");
}

#[tokio::test]
async fn gives_up_an_authority_that_does_not_answer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let t = Test::start(|ca, key| ca.chain(&[WEB], key)).await;
    let mut config = t.config();
    config.timeout = Duration::from_millis(50);
    let silent = listener.local_addr().expect("bound");
    config.remote.address = format!("https://{silent}").parse().expect("valid");
    let error = CaClient::new(config)
        .fetch(&id("web"))
        .await
        .expect_err("silence")
        .to_string();
    assert!(error.ends_with("did not answer within 50ms"), "{error}");
}

/// The public key of a request.
type Key = rcgen::PublicKey;

/// An authority on loopback that answers as the test says.
struct Test {
    server: Running,
    files: Files,
    root: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    refuse: Arc<Mutex<Option<Status>>>,
}

impl Test {
    async fn start(answer: fn(&Ca, &Key) -> Vec<String>) -> Self {
        let ca = Ca(Authority::new());
        let root = ca.0.root_pem();
        let files = Files::new(&root, "first");
        let tls = ca.0.server("localhost", b"h2");
        let (asked, refuse) = (Arc::default(), Arc::default());
        let service = Service {
            ca,
            answer,
            asked: Arc::clone(&asked),
            refuse: Arc::clone(&refuse),
        };
        let server = serve(IstioCertificateServiceServer::new(service), Some(tls)).await;
        Self {
            server,
            files,
            root,
            asked,
            refuse,
        }
    }

    fn config(&self) -> CaConfig {
        CaConfig::new(self.files.remote(&self.server))
    }

    fn client(&self) -> CaClient {
        CaClient::new(self.config())
    }

    /// The last request.
    fn asked(&self) -> Asked {
        self.asked.lock().pop().expect("was asked")
    }
}

struct Ca(Authority);

impl Ca {
    /// A leaf good for an hour, and the root.
    fn chain(&self, names: &[&str], key: &impl PublicKeyData) -> Vec<String> {
        self.dated(names, key, Duration::ZERO, Duration::ZERO)
    }

    /// The same, valid from `before` ago until an hour from now, or until `expired` ago.
    fn dated(
        &self,
        names: &[&str],
        key: &impl PublicKeyData,
        before: Duration,
        expired: Duration,
    ) -> Vec<String> {
        let now = SystemTime::now();
        let until = if expired.is_zero() {
            now + HOUR
        } else {
            now - expired
        };
        vec![
            leaf(&self.0, names, key, now - before, until),
            self.0.root_pem(),
        ]
    }
}

struct Asked {
    authorization: String,
    cluster: String,
    on_behalf_of: Option<String>,
    seconds: i64,
}

struct Service {
    ca: Ca,
    answer: fn(&Ca, &Key) -> Vec<String>,
    asked: Arc<Mutex<Vec<Asked>>>,
    refuse: Arc<Mutex<Option<Status>>>,
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let header = |name: &str| {
            let value = request
                .metadata()
                .get(name)
                .and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let message = request.get_ref();
        let fields = message.metadata.as_ref().map(|metadata| &metadata.fields);
        let on_behalf_of = fields
            .and_then(|fields| fields.get("ImpersonatedIdentity"))
            .and_then(|value| match &value.kind {
                Some(Kind::StringValue(text)) => Some(text.clone()),
                _ => None,
            });
        self.asked.lock().push(Asked {
            authorization: header("authorization"),
            cluster: header("clusterid"),
            on_behalf_of,
            seconds: message.validity_duration,
        });
        if let Some(status) = self.refuse.lock().take() {
            return Err(status);
        }
        let csr = CertificateSigningRequestParams::from_pem(&message.csr)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let cert_chain = (self.answer)(&self.ca, &csr.public_key);
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}
