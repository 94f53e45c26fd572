//! The waypoint's configuration: environment variables under the node proxy's names.

use std::collections::BTreeMap;
use std::time::Duration;

use ambit_net::hbone;
use ambit_proxy::config::value::{self, Value, Workers};
use ambit_proxy::config::{ControlPlane, Drain, Known, Log, Mesh, Problems, Reader, Servers};
use serde::Serialize;

use crate::trusted::TrustedProxies;

/// All that can be configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Where and who this proxy is.
    pub mesh: Mesh,
    /// The name of its Gateway, and of its service.
    pub gateway: String,
    /// The network that it is the gateway of, instead of a waypoint.
    pub leads_into: Option<String>,
    /// Discovery and certificates.
    pub control_plane: ControlPlane,
    /// Threads that carry traffic.
    pub workers: usize,
    /// Clients are asked to open another connection after about this long; 0: never.
    #[serde(serialize_with = "value::duration")]
    pub connection_age: Duration,
    /// Proxies in front of the mesh that say who calls.
    pub trusted_proxies: TrustedProxies,
    /// Histograms of durations have exemplars.
    pub exemplars: bool,
    /// The end of the process.
    pub drain: Drain,
    /// Admin, metrics and readiness.
    pub servers: Servers,
    /// Log lines.
    pub log: Log,
    /// Spans of requests; `None`: no spans.
    pub tracing: Option<Tracing>,
}

/// Where spans of requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tracing {
    /// `http://HOST:PORT` of a collector.
    pub endpoint: String,
    /// Of the traces that begin here.
    pub sampled: Share,
}

/// A number from 0 to 1, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Share(pub u32);

impl Value for Share {
    const ACCEPTS: &'static str = "a number from 0 to 1";

    fn read(text: &str) -> Result<Self, String> {
        let share: f64 = text.parse().map_err(|_| String::new())?;
        match (0.0..=1.0).contains(&share) {
            // At most a million.
            true => Ok(Self((share * 1e6).round() as u32)),
            false => Err(String::new()),
        }
    }

    fn show(&self) -> String {
        (f64::from(self.0) / 1e6).to_string()
    }
}

impl Config {
    /// Reads the configuration from environment variables.
    ///
    /// # Errors
    /// Every variable that is wrong.
    pub fn from_env(vars: BTreeMap<String, String>) -> Result<Self, Problems> {
        let mut reader = Reader::new(vars);
        let config = Self::read(&mut reader);
        for (name, value) in [
            ("POD_NAME", &config.mesh.pod_name),
            ("POD_NAMESPACE", &config.mesh.pod_namespace),
            ("SERVICE_ACCOUNT", &config.mesh.service_account),
        ] {
            if value.is_empty() {
                reader.refuse(name, "it has to be set: who is this waypoint?".to_owned());
            }
        }
        reader.finish(config)
    }

    /// Every variable there is.
    #[must_use]
    pub fn variables() -> Vec<Known> {
        let mut reader = Reader::new(BTreeMap::new());
        Self::read(&mut reader);
        reader.into_known()
    }

    /// The limits of tunnels.
    #[must_use]
    pub fn hbone(&self) -> hbone::Settings {
        hbone::Settings {
            // What a slow reader can make a waypoint hold.
            stream_window: 256 << 10,
            connection_window: 4 << 20,
            max_streams: 1000,
            connection_age: (!self.connection_age.is_zero()).then_some(self.connection_age),
            ..hbone::Settings::default()
        }
    }

    fn read(reader: &mut Reader) -> Self {
        let mesh = Mesh::read(reader);
        let gateway = reader.value(
            "GATEWAY_NAME",
            "name of the Gateway; not set: the service account's",
            String::new(),
        );
        let leads_into = reader.value(
            "AMBIT_GATEWAY_TO_NETWORK",
            "the network it leads callers on other networks into, as its gateway; not set: it is a waypoint",
            String::new(),
        );
        let workers = reader.value(
            "WAYPOINT_WORKER_THREADS",
            "threads that carry traffic",
            Workers::Count(0),
        );
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            leads_into: (!leads_into.is_empty()).then_some(leads_into),
            gateway: match gateway.as_str() {
                "" => mesh.service_account.clone(),
                _ => gateway,
            },
            mesh,
            control_plane: ControlPlane::read(reader),
            workers: match workers {
                Workers::Count(0) => processors,
                Workers::Count(count) => count as usize,
                Workers::Percent(percent) => (processors * percent as usize).div_ceil(100).max(1),
            },
            connection_age: reader.value(
                "AMBIT_CONNECTION_AGE",
                "clients open another connection after about this long, perhaps to an instance that is new; 0: never",
                Duration::from_secs(10 * 60),
            ),
            trusted_proxies: reader.value(
                "AMBIT_TRUSTED_PROXIES",
                "who is believed when it says in x-forwarded-for who calls, by identity, and how many proxies add to that",
                TrustedProxies::default(),
            ),
            exemplars: reader.value(
                "AMBIT_EXEMPLARS",
                "durations of requests are shown with the trace of one of them, to scrapers that ask for OpenMetrics",
                false,
            ),
            drain: Drain::read(reader),
            servers: Servers::read(reader),
            log: Log::read(reader),
            tracing: tracing(reader),
        }
    }
}

fn tracing(reader: &mut Reader) -> Option<Tracing> {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let endpoint: Option<String> = reader.optional(
        ENDPOINT,
        "http://HOST:PORT of a collector of spans (OTLP over gRPC); not set: no spans",
    );
    let sampled = reader.value(
        "OTEL_TRACES_SAMPLER_ARG",
        "share of the traces that begin here",
        Share(10_000),
    );
    let endpoint = endpoint?;
    if !endpoint.starts_with("http://") {
        reader.refuse(ENDPOINT, "expected http://HOST:PORT".to_owned());
    }
    Some(Tracing { endpoint, sampled })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, value: &str) -> Config {
        let vars = [
            ("POD_NAME", "w-1"),
            ("POD_NAMESPACE", "shop"),
            ("SERVICE_ACCOUNT", "w"),
            (name, value),
        ];
        let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Config::from_env(vars.into()).expect("a configuration")
    }

    #[test]
    fn there_are_exemplars_where_it_says_so() {
        for (set, shown) in [("", false), ("false", false), ("true", true)] {
            assert_eq!(config("AMBIT_EXEMPLARS", set).exemplars, shown, "{set:?}");
        }
        assert!(
            !config("AMBIT_CONNECTION_AGE", "").exemplars,
            "nobody says it"
        );
    }

    #[test]
    fn connections_are_of_age_after_ten_minutes_or_as_it_says() {
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        for (set, age) in [
            ("", minutes(10)),
            ("90m", minutes(90)),
            ("0", None),
            ("0s", None),
        ] {
            let config = config("AMBIT_CONNECTION_AGE", set);
            assert_eq!(config.hbone().connection_age, age, "{set:?}");
        }
    }
}
