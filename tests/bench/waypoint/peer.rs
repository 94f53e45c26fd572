//! An Envoy as a waypoint: HBONE in, the same L7 work, HBONE out.
//!
//! A CONNECT ends at the listener `hbone`, its bytes go to the internal listener `requests`, each request to the
//! internal listener `tunnel`, and that one tunnels to the server's node proxy (as Istio configures it).

use serde_json::{Value, json};

const TYPE: &str = "type.googleapis.com/envoy.extensions";

/// What it has to know.
pub(super) struct Peer<'a> {
    /// The folder of its certificate.
    pub(super) certificate: &'a str,
    /// The server's pod.
    pub(super) server: &'a str,
    /// The server's identity.
    pub(super) identity: &'a str,
    pub(super) port: u16,
}

impl Peer<'_> {
    pub(super) fn config(&self) -> Value {
        let listeners = [self.hbone(), requests(), self.tunnel(), readiness()];
        let clusters = [
            internal_cluster("requests", "requests"),
            internal_cluster("server", "tunnel"),
            self.node_proxy(),
        ];
        let internal = json!({
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": {"@type": format!("{TYPE}.bootstrap.internal_listener.v3.InternalListener")},
        });
        json!({
            "bootstrap_extensions": [internal],
            "static_resources": {"listeners": listeners, "clusters": clusters},
        })
    }

    fn hbone(&self) -> Value {
        let action = json!({
            "cluster": "requests",
            "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        });
        let mut manager = manager(
            "hbone",
            json!({"match": {"connect_matcher": {}}, "route": action}),
        );
        let config = &mut manager["typed_config"];
        config["http2_protocol_options"] = json!({"allow_connect": true});
        config["upgrade_configs"] = json!([{"upgrade_type": "CONNECT"}]);
        let tls = json!({
            "@type": format!("{TYPE}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": self.tls(Value::Null),
        });
        json!({
            "name": "hbone",
            "address": listen(15008),
            "filter_chains": [{"filters": [manager], "transport_socket": {"name": "tls", "typed_config": tls}}],
        })
    }

    fn tunnel(&self) -> Value {
        let proxy = json!({
            "@type": format!("{TYPE}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "tunnel",
            "cluster": "node-proxy",
            "tunneling_config": {"hostname": format!("{}:{}", self.server, self.port)},
        });
        let filter = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy});
        json!({"name": "tunnel", "internal_listener": {}, "filter_chains": [{"filters": [filter]}]})
    }

    fn node_proxy(&self) -> Value {
        let san = json!([{"san_type": "URI", "matcher": {"exact": self.identity}}]);
        let tls = json!({
            "@type": format!("{TYPE}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "common_tls_context": self.tls(san),
        });
        json!({
            "name": "node-proxy",
            "type": "STATIC",
            "circuit_breakers": no_limits(),
            "load_assignment": endpoint("node-proxy", &socket(self.server, 15008)),
            "transport_socket": {"name": "tls", "typed_config": tls},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPE}.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {"http2_protocol_options": {"allow_connect": true}},
            }},
        })
    }

    fn tls(&self, names: Value) -> Value {
        let file = |name: &str| json!({"filename": format!("{}/{name}.pem", self.certificate)});
        let mut validation = json!({"trusted_ca": file("root")});
        if !names.is_null() {
            validation["match_typed_subject_alt_names"] = names;
        }
        json!({
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{"certificate_chain": file("chain"), "private_key": file("key")}],
            "validation_context": validation,
        })
    }
}

/// What a waypoint does with each request: canonical paths, a route, a line in the log.
fn requests() -> Value {
    let action = json!({"cluster": "server", "timeout": "0s"});
    let mut manager = manager(
        "requests",
        json!({"match": {"prefix": "/"}, "route": action}),
    );
    let config = &mut manager["typed_config"];
    config["normalize_path"] = true.into();
    config["merge_slashes"] = true.into();
    config["path_with_escaped_slashes_action"] = "REJECT_REQUEST".into();
    config["use_remote_address"] = true.into();
    config["access_log"] = json!([{
        "name": "envoy.access_loggers.stdout",
        "typed_config": {"@type": format!("{TYPE}.access_loggers.stream.v3.StdoutAccessLog")},
    }]);
    json!({"name": "requests", "internal_listener": {}, "filter_chains": [{"filters": [manager]}]})
}

/// What the lab asks before it sends traffic.
fn readiness() -> Value {
    let ready = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200}});
    json!({
        "name": "readiness",
        "address": listen(15021),
        "filter_chains": [{"filters": [manager("readiness", ready)]}],
    })
}

fn manager(name: &str, route: Value) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": format!("{TYPE}.filters.http.router.v3.Router")},
    });
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": name,
            "http_filters": [router],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        },
    })
}

fn internal_cluster(name: &str, listener: &str) -> Value {
    let address =
        json!({"envoy_internal_address": {"server_listener_name": listener, "endpoint_id": name}});
    let raw = json!({
        "name": "raw",
        "typed_config": {"@type": format!("{TYPE}.transport_sockets.raw_buffer.v3.RawBuffer")},
    });
    let internal = json!({
        "@type": format!("{TYPE}.transport_sockets.internal_upstream.v3.InternalUpstreamTransport"),
        "transport_socket": raw,
    });
    json!({
        "name": name,
        "type": "STATIC",
        "circuit_breakers": no_limits(),
        "load_assignment": endpoint(name, &address),
        "transport_socket": {"name": "internal", "typed_config": internal},
    })
}

/// Istio sets none, Envoy would have 1,024.
fn no_limits() -> Value {
    let most = u32::MAX;
    json!({"thresholds": [{
        "max_connections": most,
        "max_pending_requests": most,
        "max_requests": most,
        "max_retries": most,
    }]})
}

fn endpoint(cluster: &str, address: &Value) -> Value {
    json!({"cluster_name": cluster, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]})
}

/// IPv4 as well.
fn listen(port: u16) -> Value {
    json!({"socket_address": {"address": "::", "port_value": port, "ipv4_compat": true}})
}

fn socket(ip: &str, port: u16) -> Value {
    json!({"socket_address": {"address": ip, "port_value": port}})
}
