//! The three servers of the process: operators, metrics, readiness.

use std::io;
use std::sync::Arc;

use ambit_telemetry::admin::{self, Router, json, text};
use ambit_telemetry::profile;
use http::{Method, StatusCode};

use super::{App, dump};
use ambit_proxy::config::Listen;
use ambit_proxy::heap;

/// Binds them all and serves them for as long as the runtime lives.
pub(super) async fn start(app: &Arc<App>) -> io::Result<()> {
    let servers = &app.config.servers;
    serve(&servers.admin, operators(app)).await?;
    serve(&servers.stats, metrics(Router::default(), app)).await?;
    serve(
        &servers.readiness,
        admin::ready(Router::default(), &app.readiness),
    )
    .await
}

async fn serve(listen: &Listen, router: Router) -> io::Result<()> {
    let router = Arc::new(router);
    for listener in admin::bind(&listen.0).await? {
        tokio::spawn(admin::serve(listener, router.clone()));
    }
    Ok(())
}

/// What operators see and do. Anybody on a machine reaches its loopback, as nobody but the node reaches that of a node's proxy: there
/// its service manager ends it, its environment says what is logged, and what the mesh is is shown if it says so.
fn operators(app: &Arc<App>) -> Router {
    let router = Router::default();
    let router = match &app.config.machine {
        None => {
            let router = heap::route(profile::route(quit(dump(router, app), app)));
            admin::logging(router, &app.logging)
        }
        Some(machine) if machine.config_dump => dump(router, app),
        Some(_) => router,
    };
    admin::ready(metrics(router, app), &app.readiness)
}

fn dump(router: Router, app: &Arc<App>) -> Router {
    let dumped = app.clone();
    let about = "everything this proxy knows, as JSON";
    router.route(Method::GET, "/config_dump", about, move |_| {
        let known = dump::Known::of(&dumped);
        let body = json(StatusCode::OK, &known.dump(&dumped));
        async move { body }
    })
}

fn quit(router: Router, app: &App) -> Router {
    let quit = app.quit.clone();
    let about = "drain and end the process";
    router.route(Method::POST, "/quitquitquit", about, move |_| {
        tracing::info!("told to end by /quitquitquit");
        quit.notify_one();
        async { text(StatusCode::OK, "draining\n") }
    })
}

fn metrics(router: Router, app: &Arc<App>) -> Router {
    let measured = app.clone();
    admin::metrics(router, &app.metrics, move || measure(&measured))
}

/// Brings up to date what is not counted as it happens.
fn measure(app: &App) {
    let shared = &app.shared;
    shared.connections().count_bytes();
    let gone = app.departed.take(&shared.index());
    if !gone.is_empty() {
        let gone = |namespace: &str, name: &str| gone.contains(&(namespace.into(), name.into()));
        app.metrics.traffic().retire(gone);
    }
    let discovery = app.discovery.state();
    let gauge = |name: &'static str, value: f64| metrics::gauge!(name).set(value);
    // Counts below 2^52 are exact in a gauge.
    #[allow(clippy::cast_precision_loss)]
    {
        gauge("ambit_connections", shared.connections().len() as f64);
        gauge("ambit_pool_connections", shared.pooled() as f64);
        gauge("ambit_peer_connections", shared.peers() as f64);
        gauge("ambit_pods", app.pods.borrow().len() as f64);
        gauge(
            "ambit_log_lines_dropped",
            app.logging.sink().dropped() as f64,
        );
        metrics::counter!("ambit_xds_pushes_total").absolute(discovery.pushes);
        metrics::counter!("ambit_xds_rejected_pushes_total").absolute(discovery.nacks);
        metrics::counter!("ambit_xds_connection_attempts_total").absolute(discovery.attempts);
    }
    for (reason, count) in shared.handshakes().failed() {
        metrics::counter!("ambit_peer_handshakes_failed_total", "reason" => reason).absolute(count);
    }
    gauge(
        "ambit_xds_connected",
        f64::from(u8::from(discovery.connected)),
    );
    if let Some(age) = app.discovery.state_age() {
        gauge("ambit_state_age_seconds", age.as_secs_f64());
    }
}
