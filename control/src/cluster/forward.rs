//! Ports of pods, reached through the API server as `kubectl port-forward` reaches them: the pod's kubelet dials, on
//! the pod's own loopback.

use std::pin::Pin;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::client::UpgradeConnectionError;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Cluster, Failure, PATIENCE, words};

/// A connection to a port of a pod.
pub struct Forward<S> {
    /// Its bytes.
    pub stream: S,
    /// What the kubelet says when there can be no connection, or none any more; nothing while all is well, or when it
    /// ends without a word.
    pub broken: Pin<Box<dyn Future<Output = Option<String>> + Send>>,
}

impl Cluster {
    /// Connects to a port of a pod. It needs the right to get and to create `pods/portforward`.
    ///
    /// # Errors
    /// See [`Failure`]. A refusal has a status, and no message: the client does not read it. That nothing listens at the
    /// port is told later, by [`Forward::broken`].
    pub async fn forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<Forward<impl AsyncRead + AsyncWrite + Unpin + Send + use<>>, Failure> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let ports = [port];
        let asked = tokio::time::timeout(PATIENCE, pods.portforward(pod, &ports)).await;
        let asked =
            asked.map_err(|_| Failure::Unreachable(format!("no answer within {PATIENCE:?}")))?;
        let mut forwarded = asked.map_err(failure)?;
        let none = || Failure::Unreadable(format!("port {port} was not forwarded"));
        let stream = forwarded.take_stream(port).ok_or_else(none)?;
        let broken = forwarded.take_error(port).ok_or_else(none)?;
        Ok(Forward {
            stream,
            broken: Box::pin(broken),
        })
    }
}

fn failure(error: kube::Error) -> Failure {
    match error {
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            Failure::Refused {
                status: status.as_u16(),
                reason: status.canonical_reason().unwrap_or_default().to_owned(),
                message: "no port is forwarded".to_owned(),
                after: None,
            }
        }
        kube::Error::UpgradeConnection(error) => Failure::Unreadable(words(&error)),
        error => Failure::Unreachable(words(&error)),
    }
}
