//! Probes: exec, HTTP, TCP and gRPC, from the pod's node as a kubelet does.

mod grpc;

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use ambit_net::sys::{Netns, Sockets};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::exec::{self, Place};

/// How often something is asked that has never succeeded: a lab is not to wait for nothing.
const EAGER: Duration = Duration::from_millis(100);
/// As whom servers see a probe.
const USER_AGENT: &str = "kube-probe/1.32";

/// What a probe is for, and so how its results count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Startup,
    Readiness,
    Liveness,
}

/// A probe of one container's run.
#[derive(Debug, Clone)]
pub(super) struct Prober {
    pub(super) probe: Probe,
    pub(super) container: Container,
    pub(super) address: IpAddr,
    pub(super) node: Netns,
    pub(super) place: Place,
}

impl Prober {
    /// Probes until dropped and calls `report` with each change; the first is always reported.
    pub(super) async fn run(self, purpose: Purpose, mut report: impl FnMut(bool)) {
        let seconds = |value: Option<i32>, default: u64| {
            let value = value
                .and_then(|it| u64::try_from(it).ok())
                .filter(|it| *it > 0);
            Duration::from_secs(value.unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value
                .and_then(|it| u32::try_from(it).ok())
                .filter(|it| *it > 0)
                .unwrap_or(default)
        };
        let period = seconds(self.probe.period_seconds, 10);
        let limit = seconds(self.probe.timeout_seconds, 1);
        let enough = count(self.probe.success_threshold, 1);
        let too_many = count(self.probe.failure_threshold, 3);
        if let Some(delay) = self
            .probe
            .initial_delay_seconds
            .and_then(|it| u64::try_from(it).ok())
        {
            sleep(Duration::from_secs(delay)).await;
        }
        let (mut healthy, mut streak, mut last) = (None, 0, None);
        let began = tokio::time::Instant::now();
        loop {
            let result = timeout(limit, self.ask())
                .await
                .unwrap_or_else(|_| Err("timeout".into()));
            let good = result.is_ok();
            streak = if last == Some(good) { streak + 1 } else { 1 };
            last = Some(good);
            let eager = healthy != Some(true) && purpose != Purpose::Liveness;
            let verdict = match (good, purpose) {
                (true, _) => (streak >= enough).then_some(true),
                // Asked eagerly, so the patience is a time and not a number.
                (false, Purpose::Startup) => (began.elapsed() > period * too_many).then_some(false),
                (false, Purpose::Readiness) if eager => Some(false),
                (false, _) => (streak >= too_many).then_some(false),
            };
            if let Some(verdict) = verdict
                && healthy != Some(verdict)
            {
                if let Err(error) = &result {
                    tracing::info!(container = %self.container.name, ?purpose, %error, "probe failed");
                }
                healthy = Some(verdict);
                report(verdict);
            }
            sleep(if eager { EAGER.min(period) } else { period }).await;
        }
    }

    async fn ask(&self) -> Result<(), String> {
        if let Some(action) = &self.probe.exec {
            return self
                .execute(action.command.as_deref().unwrap_or_default())
                .await;
        }
        if let Some(action) = &self.probe.tcp_socket {
            return self
                .connect(&action.port, action.host.as_deref())
                .await
                .map(drop);
        }
        if let Some(action) = &self.probe.http_get {
            return self.get(action).await;
        }
        if let Some(action) = &self.probe.grpc {
            return self.check(action).await;
        }
        Err("the lab has exec, httpGet, tcpSocket and grpc probes".to_owned())
    }

    async fn execute(&self, argv: &[String]) -> Result<(), String> {
        let command = exec::command(&self.place, argv).map_err(|error| error.to_string())?;
        let mut command = tokio::process::Command::from(command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = command
            .kill_on_drop(true)
            .status()
            .await
            .map_err(|error| error.to_string())?;
        if status.success() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    }

    async fn connect(&self, port: &IntOrString, host: Option<&str>) -> Result<TcpStream, String> {
        let port = self.port(port)?;
        let address = match host.map(str::parse) {
            Some(Ok(address)) => address,
            Some(Err(_)) => return Err("probe host is not an address".to_owned()),
            None => self.address,
        };
        let sockets = Sockets {
            netns: Some(self.node.clone()),
            mark: None,
        };
        let connected = sockets.connect(SocketAddr::new(address, port), None).await;
        connected.map_err(|error| format!("{address}:{port}: {error}"))
    }

    async fn get(&self, action: &HTTPGetAction) -> Result<(), String> {
        if action
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme != "HTTP")
        {
            return Err("the lab probes HTTP, not HTTPS".to_owned());
        }
        let stream = self.connect(&action.port, action.host.as_deref()).await?;
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| words(&error))?;
        let port = self.port(&action.port)?;
        let path = action
            .path
            .as_deref()
            .filter(|path| !path.is_empty())
            .unwrap_or("/");
        let mut request = http::Request::get(path)
            .header("host", SocketAddr::new(self.address, port).to_string())
            .header("user-agent", USER_AGENT);
        for header in action.http_headers.iter().flatten() {
            request = request.header(&header.name, &header.value);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| words(&error))?;
        let exchange = async move {
            let mut answer = std::pin::pin!(sender.send_request(request));
            tokio::select! {
                answer = &mut answer => answer,
                // A server that closes right after its answer has answered all the same.
                end = connection => match end { Ok(()) => answer.await, Err(error) => Err(error) },
            }
        };
        let status = exchange.await.map_err(|error| words(&error))?.status();
        if (200..400).contains(&status.as_u16()) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    }

    async fn check(&self, action: &GRPCAction) -> Result<(), String> {
        let port = IntOrString::Int(action.port);
        let server = SocketAddr::new(self.address, self.port(&port)?);
        let stream = self.connect(&port, None).await?;
        grpc::check(
            stream,
            server,
            action.service.as_deref().unwrap_or_default(),
        )
        .await
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let mut ports = self.container.ports.iter().flatten();
                let named = ports.find(|port| port.name.as_deref() == Some(name));
                named
                    .map(|port| port.container_port)
                    .or_else(|| name.parse().ok())
            }
        };
        let number = number.and_then(|number| u16::try_from(number).ok());
        number.ok_or_else(|| "probe port is no port of the container".to_owned())
    }
}
