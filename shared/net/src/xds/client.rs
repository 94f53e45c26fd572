//! The driver: one stream after another, for as long as the proxy lives.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::backoff::Backoff;
use ambit_core::subscription::{Pushed, Request, Subscription};
use ambit_proto::xds::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::journal::{Journal, Record};
use super::status::Reporter;
use super::{Config, Handler, Status, wire};
use crate::grpc::{self, ConnectError, Remote};

/// Requests that wait for the control plane to read them.
const REQUESTS: usize = 64;
/// How long it may take until it does.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Keeps the subscription alive.
pub struct Client<H> {
    config: Config,
    remote: Arc<Remote>,
    handler: H,
    subscription: Subscription,
    backoff: Backoff,
    reporter: Reporter,
    journal: Option<Journal>,
}

impl<H: Handler> Client<H> {
    /// A client that hands every push to `handler`, and a view of how it does.
    #[must_use]
    pub fn new(config: Config, handler: H) -> (Self, Status) {
        let (reporter, status) = Reporter::new();
        let client = Self {
            remote: Arc::new(config.remote.clone()),
            subscription: Subscription::new(config.types.iter().cloned()),
            backoff: Backoff::new(config.retry.0, config.retry.1),
            handler,
            reporter,
            journal: config.state.as_deref().map(Journal::new),
            config,
        };
        (client, status)
    }

    /// Runs until it is dropped. The handler is called from within.
    pub async fn run(mut self) -> Infallible {
        loop {
            let started = Instant::now();
            self.reporter.attempt();
            let Err(ended) = self.stream().await;
            // A control plane that takes streams only to drop them is not dialled at once.
            if started.elapsed() > self.config.retry.1 {
                self.backoff.reset();
            }
            let wait = self.backoff.next(rand::random());
            tracing::warn!(%ended, retry_in = ?wait, "no news from the control plane");
            self.reporter.ended(ended.to_string());
            self.restore();
            sleep(wait).await;
        }
    }

    /// Takes over what an earlier process has heard, unless this one has heard something.
    fn restore(&mut self) {
        let Some((records, age)) = self.journal.as_mut().and_then(Journal::restore) else {
            return;
        };
        let pushes = records.len();
        for record in records {
            let _ = self.apply(record.push);
        }
        tracing::warn!(
            pushes,
            ?age,
            "going on with what was known before the start"
        );
        self.reporter.restored(age);
    }

    /// One stream, from the first byte of its connection to its end.
    async fn stream(&mut self) -> Result<Infallible, Ended> {
        let connection = grpc::connect(&self.remote).await?;
        let (requests, outgoing) = mpsc::channel(REQUESTS);
        let call = connection.request(ReceiverStream::new(outgoing)).await?;
        for request in self.subscription.opened() {
            let mut request = wire::request(request);
            request.node = Some(self.config.node.to_proto());
            send(&requests, request).await?;
        }
        let mut client = AggregatedDiscoveryServiceClient::new(connection.channel.clone())
            .max_decoding_message_size(self.config.max_message);
        let limit = self.config.answer_timeout;
        let failed = |status: tonic::Status| Ended::Failed(connection.refusal(&status));
        let mut pushes = timeout(limit, client.delta_aggregated_resources(call))
            .await
            .map_err(|_| Ended::Silent(limit))?
            .map_err(failed)?
            .into_inner();
        tracing::info!(address = %self.remote.address, "connected to the control plane");
        self.reporter.connected();
        while let Some(response) = pushes.message().await.map_err(failed)? {
            let answer = self.take(response);
            send(&requests, answer).await?;
        }
        Err(Ended::Closed)
    }

    /// Applies one push, keeps it, and says what to answer.
    fn take(&mut self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        let kept = self.journal.is_some().then(|| response.clone());
        let (request, rejected) = self.apply(response);
        self.reporter
            .pushed(self.subscription.synced(), request.error.as_deref());
        if let (Some(journal), Some(push)) = (&mut self.journal, kept)
            && self.subscription.has(&push.type_url)
        {
            journal.append(&Record { push, rejected });
            if self.subscription.synced() {
                journal.complete();
            }
        }
        wire::request(request)
    }

    /// Applies one push. Gives the answer and the names that were refused.
    fn apply(&mut self, response: DeltaDiscoveryResponse) -> (Request, Vec<String>) {
        let nonce = response.nonce.clone();
        let versions: Vec<_> = response
            .resources
            .iter()
            .map(|resource| (resource.name.clone(), resource.version.clone()))
            .collect();
        let (push, mut rejections) = wire::push(response);
        let type_url = Arc::clone(&push.type_url);
        let (removed, complete) = (push.removed.clone(), push.complete);
        if self.subscription.has(&type_url)
            && let Err(refused) = self.handler.apply(push)
        {
            rejections.extend(refused);
        }
        let rejected: Vec<_> = rejections.into_iter().map(|r| (r.name, r.reason)).collect();
        let request = self.subscription.pushed(&Pushed {
            type_url: &type_url,
            nonce: &nonce,
            resources: &versions,
            removed: &removed,
            rejected: &rejected,
            complete,
        });
        match &request.error {
            Some(error) => tracing::warn!(%type_url, nonce, error, "push rejected in part"),
            None => tracing::debug!(%type_url, nonce, resources = versions.len(), "push applied"),
        }
        (
            request,
            rejected.into_iter().map(|(name, _)| name).collect(),
        )
    }
}

async fn send(
    requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    request: DeltaDiscoveryRequest,
) -> Result<(), Ended> {
    match requests.send_timeout(request, SEND_TIMEOUT).await {
        Ok(()) => Ok(()),
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Ended::Stuck),
        Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Ended::Closed),
    }
}

/// Why a stream came to its end.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the control plane did not answer within {0:?}")]
    Silent(Duration),
    #[error("the control plane does not read its requests")]
    Stuck,
    #[error("the control plane closed the stream")]
    Closed,
    #[error("the stream failed: {0}")]
    Failed(String),
}
