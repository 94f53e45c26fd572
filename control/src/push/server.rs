//! The delta xDS service: moves messages between a stream and its [`Session`].

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_proto::xds::aggregated_discovery_service_server::AggregatedDiscoveryService;
use ambit_proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use futures_util::Stream;
use prost_types::Value;
use prost_types::value::Kind;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::connections::{Connections, Open};
use super::session::{Session, Told};
use super::standing::Standing;
use crate::admin::metrics::Metrics;
use crate::engine::State;
use crate::tls::Peer;
use crate::tokens::Callers;
use crate::translate::Mesh;
use crate::translate::labels::GATEWAY_NAME;

/// As many responses as a [`Session`] has unanswered: sending never waits for the peer.
const IN_FLIGHT: usize = 4;

/// Serves streams.
#[derive(Clone)]
pub struct Server {
    /// What is pushed.
    pub state: Arc<State>,
    /// Where streams say how far they are.
    pub connections: Arc<Connections>,
    /// Who may connect.
    pub callers: Arc<Callers>,
    /// Counted.
    pub metrics: Arc<Metrics>,
    /// Turns true when the control plane stops.
    pub stopping: watch::Receiver<bool>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Server {
    type DeltaAggregatedResourcesStream = Responses;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let peer = request.extensions().get::<Peer>();
        let caller = self.callers.authenticate(request.metadata(), peer).await?;
        let account = caller.account();
        // A machine is told what its mesh is for as long as it is of the mesh.
        let standing = Standing::of(caller, peer, self.callers.clone(), self.state.clone())?;
        let peer = peer.map(|peer| peer.address);
        let (responses, receiver) = mpsc::channel(IN_FLIGHT);
        let stream = StreamTask {
            open: self.connections.open(peer, account.into()),
            session: Session::default(),
            standing,
            node: String::new(),
            peer,
            server: self.clone(),
            responses,
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

struct StreamTask {
    open: Open,
    session: Session,
    standing: Standing,
    node: String,
    peer: Option<SocketAddr>,
    server: Server,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

impl StreamTask {
    async fn run(mut self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        let mut changed = self.server.state.changes();
        let mut stopping = self.server.stopping.clone();
        let mut is_changed = true;
        let why = loop {
            // A machine that has lost its entry is told so much of the mesh: that it is no part of it. Then nothing more.
            let sent = match self.send().await {
                Ok(()) if is_changed => self.standing.has_its_entry(),
                sent => sent,
            };
            if let Err(status) = sent {
                break Some(status);
            }
            is_changed = false;
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.take(request),
                    Ok(None) => break None,
                    Err(status) => {
                        tracing::debug!(node = %self.node, %status, "stream ended");
                        break None;
                    }
                },
                result = changed.changed() => match result {
                    Ok(()) => is_changed = true,
                    Err(_) => break None,
                },
                status = self.standing.ended() => break Some(status),
                _ = stopping.wait_for(|stopping| *stopping) => {
                    break Some(Status::unavailable("the control plane is stopping"));
                }
                () = self.responses.closed() => break None,
            }
        };
        if let Some(status) = why {
            tracing::debug!(node = %self.node, %status, "the stream is ended");
            // There is room, unless the proxy does not read; the stream ends without a word then.
            let _ = self.responses.try_send(Err(status));
        }
        tracing::info!(node = %self.node, peer = ?self.peer, "proxy disconnected");
    }

    /// Sends all that may be sent now.
    async fn send(&mut self) -> Result<(), Status> {
        loop {
            let polled = {
                let shelves = self.server.state.shelves();
                self.session.poll(&shelves)
            };
            self.open.moved(&self.session);
            let response = match polled {
                Ok(Some(response)) => response,
                Ok(None) => return Ok(()),
                Err(behind) => return Err(Status::aborted(behind.to_string())),
            };
            self.server.metrics.pushed(&response);
            tracing::debug!(
                node = %self.node,
                r#type = %response.type_url,
                resources = response.resources.len(),
                removed = response.removed_resources.len(),
                nonce = %response.nonce,
                "push"
            );
            if self.responses.send(Ok(response)).await.is_err() {
                return Err(Status::cancelled("the proxy is gone"));
            }
        }
    }

    fn take(&mut self, request: DeltaDiscoveryRequest) {
        if self.node.is_empty()
            && let Some(node) = &request.node
        {
            self.node = node.id.clone();
            self.open.named(&self.node);
            let is_a_machine = self.standing.is_a_machine();
            claims(
                &mut self.session,
                node,
                is_a_machine,
                self.server.state.index().mesh(),
            );
            tracing::info!(node = %self.node, peer = ?self.peer, "proxy connected");
        }
        match self.session.on_request(request) {
            Told::Nothing | Told::Ack(_) => {}
            Told::Nack(of, nack) => {
                self.server.metrics.nacked(of);
                tracing::warn!(
                    node = %self.node,
                    r#type = of.name(),
                    resources = ?nack.resources.iter().take(20).collect::<Vec<_>>(),
                    error = %nack.message,
                    "proxy refused configuration and keeps what it had"
                );
            }
            Told::UnknownType(url) => {
                tracing::info!(node = %self.node, %url, "proxy asks for a type that is not served");
            }
        }
        self.open.moved(&self.session);
    }
}

/// Tells a session which part of the mesh its proxy says that it is. A machine is no part that others are of: whatever it says, it is
/// told what any node's proxy is that asks for all.
fn claims(session: &mut Session, node: &Node, is_a_machine: bool, mesh: &Mesh) {
    if is_a_machine {
        return;
    }
    if let Some(waypoint) = waypoint_of(node, mesh) {
        session.is_of(waypoint);
    }
    if let Some(node) = node_of(node) {
        session.is_on(node);
    }
}

/// The waypoint that a proxy says it is an instance of: the label of its pod, as Istio's proxies tell it.
fn waypoint_of(node: &Node, mesh: &Mesh) -> Option<NamespacedName> {
    let is_waypoint = node.id.starts_with("waypoint~");
    let metadata = node.metadata.as_ref().filter(|_| is_waypoint)?;
    let Some(Kind::StructValue(labels)) = &metadata.fields.get("LABELS")?.kind else {
        return None;
    };
    let gateway = text(labels.fields.get(GATEWAY_NAME)?)?;
    let namespace = text(metadata.fields.get("NAMESPACE")?)?;
    Some(mesh.service_key(namespace, gateway))
}

/// The node whose pods a node proxy says it serves.
fn node_of(node: &Node) -> Option<&str> {
    let is_node_proxy = node.id.starts_with("ztunnel~");
    let metadata = node.metadata.as_ref().filter(|_| is_node_proxy)?;
    text(metadata.fields.get("NODE_NAME")?)
}

fn text(value: &Value) -> Option<&str> {
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Struct;

    use super::*;

    fn fields(all: &[(&str, Value)]) -> Struct {
        let owned = all
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        Struct {
            fields: owned.collect(),
        }
    }

    fn says(text: &str) -> Value {
        Value {
            kind: Some(Kind::StringValue(text.to_owned())),
        }
    }

    #[test]
    fn a_machine_is_neither_a_waypoint_nor_a_node() {
        let labels = Value {
            kind: Some(Kind::StructValue(fields(&[(
                GATEWAY_NAME,
                says("waypoint"),
            )]))),
        };
        for id in [
            "waypoint~10.0.0.1~w.shop~shop",
            "ztunnel~10.0.0.1~z.shop~shop",
        ] {
            let metadata = [
                ("LABELS", labels.clone()),
                ("NAMESPACE", says("shop")),
                ("NODE_NAME", says("node-1")),
            ];
            let node = Node {
                id: id.to_owned(),
                metadata: Some(fields(&metadata)),
                ..Node::default()
            };
            for is_a_machine in [false, true] {
                let mut session = Session::default();
                claims(&mut session, &node, is_a_machine, &Mesh::default());
                assert_eq!(session.is_a_part(), !is_a_machine, "{id}");
            }
        }
    }
}
