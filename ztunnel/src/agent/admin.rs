//! Health and metrics of the agent.

use std::io;
use std::sync::Arc;

use ambit_telemetry::admin::{self, Router};
use ambit_telemetry::metrics::Metrics;
use ambit_telemetry::readiness::Readiness;

use super::api;
use super::config::Config;
use super::enrolment::Enrolment;
use super::source::Source;

/// Binds the address; the future serves it, for ever.
pub(super) async fn serve<S: Source>(
    config: &Config,
    readiness: &Readiness,
    enrolment: &Arc<Enrolment<S>>,
) -> io::Result<impl Future<Output = ()> + use<S>> {
    let listeners = admin::bind(&[config.address]).await?;
    let enrolment = enrolment.clone();
    let metrics = Metrics::install();
    api::describe();
    let router = admin::metrics(Router::default(), &metrics, move || {
        let (pods, proxies) = enrolment.counts();
        metrics::gauge!("ambit_agent_pods").set(pods as f64);
        metrics::gauge!("ambit_agent_proxies").set(proxies as f64);
    });
    let router = Arc::new(admin::ready(router, readiness));
    Ok(async move {
        let served = listeners
            .into_iter()
            .map(|listener| admin::serve(listener, router.clone()));
        futures_util::future::join_all(served).await;
    })
}
