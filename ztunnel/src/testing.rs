//! A mesh inside a test: an authority, an index, pods on loopback addresses and what they log.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use ambit_core::addr::{NamespacedName, NetworkAddr};
use ambit_core::identity::Identity;
use ambit_core::index::{Change, Index};
use ambit_core::model::{
    Action, AppProtocol, AuthorizationPolicy, Clause, Health, IpFamilies, LoadBalancing, Locality,
    Match, NetworkMode, PortMapping, Rule, Scope, Service, StringMatch, TunnelProtocol, Vip,
    Workload, WorkloadType,
};
use ambit_core::plan::OutboundTrafficPolicy;
use ambit_net::ca::{self, CaError, CertificateStore, Signer};
use ambit_net::netlink::testing::isolated;
use ambit_net::sys::Sockets;
use ambit_net::tls::Certified;
use ambit_net::xds::{Push, Resource};
use ambit_proto::workload as proto;
use ambit_telemetry::access::AccessLog;
use ambit_telemetry::log::{Format, Logging, Sink};
use ambit_telemetry::metrics::{Metrics, Recorder};
use parking_lot::Mutex;
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::net::{TcpListener, TcpStream};

use crate::connections::Connections;
use crate::proxy::{Limits, Listeners, Pod, PodProxy, Settings, Shared, dns, udp};
use ambit_proxy::{Drain, Drained};

/// Runs a test as root of its own namespaces, on one thread, within a time limit.
pub(crate) fn run(test: impl AsyncFnOnce()) {
    run_within(Duration::from_secs(30), test);
}

/// The same within another limit.
pub(crate) fn run_within(limit: Duration, test: impl AsyncFnOnce()) {
    isolated(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let within = async { tokio::time::timeout(limit, test()).await };
        runtime
            .expect("a runtime")
            .block_on(within)
            .expect("no hang");
    });
}

/// The wall clock of a test's machine, which it sets.
#[derive(Clone, Default)]
pub(crate) struct WallClock(Arc<AtomicI64>);

impl WallClock {
    /// Sets it to so many seconds ahead of the true time.
    pub(crate) fn set(&self, ahead: i64) {
        self.0.store(ahead, Ordering::Relaxed);
    }

    fn now(&self) -> SystemTime {
        let ahead = self.0.load(Ordering::Relaxed);
        let by = Duration::from_secs(ahead.unsigned_abs());
        match ahead {
            ..0 => SystemTime::now() - by,
            _ => SystemTime::now() + by,
        }
    }
}

/// Signs for everybody, for twelve hours by its clock.
pub(crate) struct TestAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    clock: WallClock,
}

impl TestAuthority {
    fn new(clock: WallClock) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a root");
        Self { issuer, clock }
    }
}

impl Signer for TestAuthority {
    async fn sign(&self, identity: &Identity) -> Result<Certified, CaError> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        let uri = identity.to_string().try_into().expect("ASCII");
        params.subject_alt_names = vec![SanType::URI(uri)];
        let now = self.clock.now();
        params.not_before = (now - Duration::from_secs(300)).into();
        params.not_after = (now + Duration::from_secs(12 * 3600)).into();
        let leaf = params.signed_by(&key, &self.issuer).expect("signed");
        let chain = [leaf.pem(), self.issuer.pem()];
        Ok(Certified::from_pem(&chain, &key.serialize_pem()).expect("it fits"))
    }
}

/// A certificate store whose driver runs in the current runtime.
fn certificates(clock: &WallClock) -> CertificateStore {
    let its = clock.clone();
    let settings = ca::Settings {
        clock: Arc::new(move || its.now()),
        ..ca::Settings::default()
    };
    let (store, driver) = CertificateStore::new(TestAuthority::new(clock.clone()), settings);
    tokio::spawn(driver.run());
    store
}

/// What was written.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A mesh in a test's current-thread runtime.
pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
    pub(crate) certificates: CertificateStore,
    pub(crate) metrics: Metrics,
    /// Of the machine that all of it is on.
    pub(crate) clock: WallClock,
    captured: Captured,
    sink: Sink,
    _logging: tracing::subscriber::DefaultGuard,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let captured = Captured::default();
        let sink = Sink::new(captured.clone());
        let (logging, subscriber) =
            Logging::new(Format::Json, "access=info", sink.clone()).expect("a filter");
        let metrics = Metrics::default();
        let log = AccessLog::new(&logging);
        let connections = Connections::new(metrics.traffic().clone(), log);
        let mut settings = Settings {
            hbone: ambit_net::hbone::Settings::default(),
            connect_timeout: Duration::from_secs(5),
            half_closed: Duration::from_secs(3600),
            description_timeout: Duration::from_secs(5),
            original_source: true,
            node_local: false,
            outbound_policy: OutboundTrafficPolicy::AllowAny,
            dns: dns::Settings {
                domain: "cluster.local".into(),
                timeout: Duration::from_secs(1),
                machine: None,
            },
            udp: udp::Settings {
                idle: Duration::from_secs(120),
            },
        };
        change(&mut settings);
        let mut index = Index::default();
        index.apply(Change::PoliciesSynced);
        let clock = WallClock::default();
        Self {
            shared: Shared::new(settings, connections, index),
            certificates: certificates(&clock),
            metrics,
            clock,
            captured,
            sink,
            _logging: tracing::subscriber::set_default(subscriber),
        }
    }

    /// Publishes changes to the index.
    pub(crate) fn change(&self, changes: impl IntoIterator<Item = Change>) {
        let mut index = Index::clone(&self.shared.index());
        for change in changes {
            index.apply(change);
        }
        self.shared.publish(index);
    }

    /// A pod that is described but not served.
    pub(crate) fn pod(&self, workload: &Workload) -> Arc<Pod> {
        self.limited_pod(workload, 1000)
    }

    pub(crate) fn limited_pod(&self, workload: &Workload, limit: u32) -> Arc<Pod> {
        self.change([Change::Workload(Arc::new(workload.clone()))]);
        let pod = self.unidentified_pod(workload, limit);
        pod.identify(self.certificates.want(&workload.identity));
        pod
    }

    /// A pod of which nobody has said who it is.
    pub(crate) fn unidentified_pod(&self, workload: &Workload, limit: u32) -> Arc<Pod> {
        let name = format!("{}/{}", workload.namespace, workload.name);
        let uid = workload.uid.clone();
        let limits = Limits {
            connections: limit,
            hbone_connections: limit,
            dns_queries: limit,
            udp_flows: limit,
        };
        Arc::new(Pod::new(uid, name.into(), Sockets::default(), limits))
    }

    /// Serves a pod on its own loopback address.
    pub(crate) async fn serve(&self, workload: &Workload) -> Served {
        let pod = self.pod(workload);
        self.serve_pod(pod, workload.addresses[0]).await
    }

    pub(crate) async fn serve_pod(&self, pod: Arc<Pod>, ip: IpAddr) -> Served {
        let listen = async |port: u16| TcpListener::bind((ip, port)).await.expect("a free port");
        let listeners = Listeners {
            outbound: listen(15001).await,
            passthrough: listen(15006).await,
            hbone: listen(15008).await,
            each: 1,
            dns: None,
            udp: None,
        };
        let (drain, drained) = Drain::new();
        self.shared.add_pod(&pod);
        let shared = self.shared.clone();
        let proxy = PodProxy::spawn(shared, pod.clone(), listeners, drained.clone());
        Served {
            pod,
            proxy,
            drain,
            drained,
        }
    }

    /// The access log so far, a JSON value a line.
    pub(crate) fn log(&self) -> Vec<serde_json::Value> {
        self.sink.flush();
        let text = String::from_utf8(self.captured.0.lock().clone()).expect("UTF-8");
        let line = |line| serde_json::from_str(line).expect("JSON");
        text.lines().map(line).collect()
    }

    /// The access log, once it has this many lines.
    pub(crate) async fn logged(&self, lines: usize) -> Vec<serde_json::Value> {
        loop {
            let log = self.log();
            if log.len() >= lines {
                return log;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// A pod that is served.
pub(crate) struct Served {
    pub(crate) pod: Arc<Pod>,
    pub(crate) proxy: Arc<PodProxy>,
    pub(crate) drain: Drain,
    pub(crate) drained: Drained,
}

/// A counter, by its name and labels.
pub(crate) fn counted(recorder: &Recorder, series: &str) -> Option<u64> {
    let mut text = String::new();
    recorder.render(&mut text);
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

/// Two ends of a TCP connection; the second is where it was accepted.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    let (near, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (near.expect("connected"), accepted.expect("accepted").0)
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(crate) fn workload(name: &str, ip: &str) -> Workload {
    Workload {
        uid: format!("Kubernetes//Pod/ns/{name}").into(),
        name: name.into(),
        namespace: "ns".into(),
        addresses: vec![ip.parse().expect("an address")],
        hostname: "".into(),
        network: "".into(),
        identity: Identity::new("cluster.local", "ns", name).expect("valid"),
        tunnel_protocol: TunnelProtocol::Hbone,
        native_tunnel: false,
        waypoint: None,
        network_gateway: None,
        node: "node-1".into(),
        cluster_id: "Kubernetes".into(),
        canonical_name: name.into(),
        canonical_revision: "latest".into(),
        workload_type: WorkloadType::Deployment,
        workload_name: name.into(),
        authorization_policies: vec![],
        health: Health::Healthy,
        services: vec![],
        application_tunnel: None,
        locality: Locality::default(),
        network_mode: NetworkMode::Standard,
        capacity: 1,
        udp_ports: Vec::new(),
        takes_udp: false,
    }
}

/// A service at `vip` whose port 80 is `target` of its endpoints.
pub(crate) fn service(name: &str, vip: &str, target: u16) -> Service {
    Service {
        name: name.into(),
        key: service_key(name),
        vips: vec![Vip {
            network: "".into(),
            net: NetworkAddr::new("", vip.parse().expect("an address"))
                .ip
                .into(),
        }],
        ports: vec![PortMapping {
            service_port: 80,
            target_port: target,
            app_protocol: AppProtocol::Unknown,
        }],
        subject_alt_names: vec![],
        waypoint: None,
        weighted_waypoints: Vec::new(),
        waypoint_bypass: false,
        takes_direct: false,
        load_balancing: LoadBalancing::default(),
        canonical: true,
        ingress_use_waypoint: false,
        namespace_private: false,
        ip_families: IpFamilies::Automatic,
        port_names: Vec::new(),
        udp_ports: Vec::new(),
    }
}

pub(crate) fn service_key(name: &str) -> NamespacedName {
    NamespacedName::new("ns", format!("{name}.ns.svc.cluster.local"))
}

/// Denies callers with this principal; of the whole namespace.
pub(crate) fn deny(principal: &Identity) -> Change {
    policy("deny", Action::Deny, principals(&principal.principal()))
}

/// Denies callers with this principal, of workloads that refer to it.
pub(crate) fn deny_where_referred_to(principal: &Identity) -> AuthorizationPolicy {
    AuthorizationPolicy {
        scope: Scope::WorkloadSelector,
        ..authorization("selected", Action::Deny, principals(&principal.principal()))
    }
}

/// For callers with this principal; of the whole namespace.
pub(crate) fn policy_for(action: Action, principal: &str) -> Change {
    policy("policy", action, principals(principal))
}

/// Denies callers without an identity; of the whole namespace.
pub(crate) fn strict() -> Change {
    let anonymous = Match {
        not_principals: vec![StringMatch::Presence],
        ..Match::default()
    };
    policy("deny", Action::Deny, anonymous)
}

fn principals(principal: &str) -> Match {
    Match {
        principals: vec![StringMatch::Exact(principal.into())],
        ..Match::default()
    }
}

fn policy(name: &str, action: Action, matches: Match) -> Change {
    Change::Policy(Arc::new(authorization(name, action, matches)))
}

fn authorization(name: &str, action: Action, matches: Match) -> AuthorizationPolicy {
    let matches = vec![matches];
    AuthorizationPolicy {
        key: NamespacedName::new("ns", name),
        scope: Scope::Namespace,
        action,
        rules: vec![Rule {
            clauses: vec![Clause { matches }],
        }],
        dry_run: false,
    }
}

/// A push of the control plane.
pub(crate) fn push(type_url: &str, resources: Vec<Resource>, removed: &[&str]) -> Push {
    Push {
        type_url: type_url.into(),
        resources,
        removed: removed.iter().map(|name| (*name).to_owned()).collect(),
        complete: true,
    }
}

pub(crate) fn resource(name: &str, message: &impl Message) -> Resource {
    Resource {
        name: name.to_owned(),
        version: "1".to_owned(),
        body: message.encode_to_vec().into(),
    }
}

/// A workload as the control plane describes it.
pub(crate) fn described(workload: &Workload) -> Resource {
    resource(&workload.uid, &proto::Address::from(workload))
}
