//! Who called a waypoint: believed from the waypoint of what is asked for, and from nobody else.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_core::hbone::CALLER;
use ambit_core::index::Change;
use ambit_core::model::{Action, Destination, GatewayAddress, Workload};
use ambit_net::hbone::{Error, Pool, Stage, Stream, Target};
use ambit_net::sys::Sockets;
use http::{HeaderMap, HeaderValue, header};

use super::{CLIENT, SERVER, echo, endpoint, line, run};
use crate::testing::{Served, World, addr, policy_for, service, service_key, workload};

/// Where tunnels come from, which the kernel chooses: the address of `gw`, whose certificate counts there alone.
const DIALLER: &str = "127.0.0.1";

/// A mesh in which the server's application is `web`, bound to waypoint `gw`.
struct Mesh {
    world: World,
    bound: SocketAddr,
    free: SocketAddr,
    _server: Served,
}

impl Mesh {
    async fn new() -> Self {
        let world = World::new();
        let server = world.serve(&endpoint("server", SERVER, "web")).await;
        let (bound, _) = echo(SERVER).await;
        let (free, _) = echo(SERVER).await;
        let mut web = service("web", "127.61.1.1", bound.port());
        web.waypoint = Some(GatewayAddress {
            destination: Destination::Hostname(service_key("gw")),
            hbone_port: 15008,
        });
        let gateways = [("gw", DIALLER), ("gw2", "127.61.0.13")];
        let gateways = gateways.into_iter().flat_map(|(name, ip)| {
            let own = Change::Service(Arc::new(service(name, "127.61.1.9", 15008)));
            [own, Change::Workload(Arc::new(endpoint(name, ip, name)))]
        });
        world.change(gateways);
        world.change([
            Change::Service(Arc::new(web)),
            Change::Workload(Arc::new(workload("client", CLIENT))),
        ]);
        Self {
            world,
            bound,
            free,
            _server: server,
        }
    }

    /// A tunnel to `authority`, asked for as `peer`, who says that `caller` called from the client's
    /// address.
    async fn ask(&self, peer: &str, authority: SocketAddr, caller: &str) -> Result<Stream, Error> {
        let identity = workload(peer, CLIENT).identity;
        let wanted = self.world.certificates.want(&identity);
        let certified = wanted.get().await.expect("a certificate");
        let target = Target {
            address: addr(&format!("{SERVER}:15008")),
            identities: [workload("server", SERVER).identity].as_slice().into(),
        };
        let mut headers = HeaderMap::new();
        let caller = workload(caller, CLIENT).identity.to_string();
        headers.insert(CALLER, HeaderValue::try_from(caller).expect("text"));
        let forwarded = format!("for=\"{CLIENT}:50000\"");
        headers.insert(
            header::FORWARDED,
            HeaderValue::try_from(forwarded).expect("text"),
        );
        let pool = Pool::new(Sockets::default(), ambit_net::hbone::Settings::default());
        let authority = authority.to_string();
        let opening = pool.open(&target, &certified, &authority, headers).await?;
        Ok(opening.established().await?.0)
    }

    async fn refused(&self, peer: &str, authority: SocketAddr, caller: &str, why: &str) {
        let before = self.world.log().len();
        let asked = self.ask(peer, authority, caller).await;
        let error = asked.err().unwrap_or_else(|| panic!("{peer} was let in"));
        assert_eq!(error.stage(), Stage::Refused(401), "{error}");
        let log = self.world.logged(before + 1).await;
        let error = log[before]["error"].as_str().expect("an error");
        assert!(error.contains(why), "{error}");
    }
}

fn principal(name: &str) -> String {
    workload(name, CLIENT).identity.principal()
}

fn named(of: &Workload) -> String {
    of.identity.to_string()
}

#[test]
fn the_caller_is_judged_and_shown_as_well_as_its_waypoint() {
    run(async || {
        let mesh = Mesh::new().await;
        mesh.world
            .change([policy_for(Action::Allow, &principal("client"))]);
        let stream = mesh.ask("gw", mesh.bound, "client").await;
        drop(stream.expect("its waypoint is let in for the client"));
        let log = mesh.world.logged(1).await;
        let inbound = line(&log, "inbound");
        assert_eq!(inbound["src.identity"], named(&workload("client", CLIENT)));
        assert_eq!(inbound["src.waypoint"], named(&workload("gw", CLIENT)));
        assert_eq!(inbound["src.workload"], "client");
        assert_eq!(inbound["src.addr"], format!("{CLIENT}:50000"));
        let metrics = mesh.world.metrics.render();
        let opened = metrics.lines().find(|line| {
            line.starts_with("istio_tcp_connections_opened_total{")
                && line.contains(r#"source_principal="spiffe://cluster.local/ns/ns/sa/client""#)
        });
        let label = r#"source_waypoint="spiffe://cluster.local/ns/ns/sa/gw""#;
        assert!(opened.is_some_and(|line| line.contains(label)), "{metrics}");
    });
}

#[test]
fn a_caller_that_is_denied_is_refused_by_name_also_behind_its_waypoint() {
    run(async || {
        let mesh = Mesh::new().await;
        mesh.world
            .change([policy_for(Action::Deny, &principal("client"))]);
        mesh.refused("gw", mesh.bound, "client", "ns/policy").await;
        let log = mesh.world.logged(1).await;
        assert_eq!(log[0]["src.identity"], named(&workload("client", CLIENT)));
        assert_eq!(log[0]["src.waypoint"], named(&workload("gw", CLIENT)));
        mesh.ask("gw", mesh.bound, "other")
            .await
            .expect("not denied");
    });
}

#[test]
fn a_policy_change_closes_what_a_caller_has_behind_its_waypoint() {
    run(async || {
        let mesh = Mesh::new().await;
        let (stream, other) = (
            mesh.ask("gw", mesh.bound, "client").await.expect("let in"),
            mesh.ask("gw", mesh.bound, "other").await.expect("let in"),
        );
        mesh.world
            .change([policy_for(Action::Deny, &principal("client"))]);
        let log = mesh.world.logged(1).await;
        let error = log[0]["error"].as_str().expect("an error");
        assert!(error.starts_with("closed: "), "{error}");
        assert_eq!(
            mesh.world.shared.connections().len(),
            1,
            "the other one goes on"
        );
        drop((stream, other));
    });
}

#[test]
fn nobody_else_is_believed() {
    run(async || {
        let mesh = Mesh::new().await;
        mesh.world
            .change([policy_for(Action::Allow, &principal("admin"))]);
        let none_allows = "no rule of the ALLOW policy ns/policy matches";
        mesh.refused("client", mesh.free, "admin", none_allows)
            .await;
        mesh.refused("gw2", mesh.free, "admin", none_allows).await;
        mesh.refused("gw", mesh.free, "admin", none_allows).await;
        let not_that = "is not that waypoint";
        mesh.refused("client", mesh.bound, "admin", not_that).await;
        mesh.refused("gw2", mesh.bound, "admin", not_that).await;
        for line in mesh.world.logged(5).await {
            assert!(line.get("src.waypoint").is_none(), "{line}");
            let shown = line["src.identity"].as_str().expect("an identity");
            assert!(!shown.ends_with("/admin"), "{line}");
        }
        mesh.ask("gw", mesh.bound, "admin").await.expect("believed");
    });
}
