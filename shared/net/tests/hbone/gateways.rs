//! Double HBONE: connections inside the tunnels of a gateway.

use ambit_core::identity::Identity;
use tokio::sync::{mpsc, watch};

use super::*;

const GATEWAY: &str = "spiffe://cluster.local/ns/shop/sa/gateway";

/// A peer behind a gateway, an application behind the peer, and a client.
struct Scene {
    ca: Ca,
    pool: Arc<Pool>,
    client: Arc<Certified>,
    gateway: Target,
    target: Target,
    app: SocketAddr,
    /// The tunnels that the gateway was asked for: their ends, and by whom.
    asked: mpsc::UnboundedReceiver<(String, Identity, watch::Receiver<bool>)>,
    drain: watch::Sender<bool>,
}

impl Scene {
    async fn new() -> Self {
        let (ca, app, settings) = (Ca::new(), doubling_app().await, Settings::default());
        let target = target(&ca, &settings).await;
        let (drain, drained) = watch::channel(false);
        let (seen, asked) = mpsc::unbounded_channel();
        let on_connect = move |connect: server::Connect, peer: Identity| {
            let authority = connect.authority().to_owned();
            let _ = seen.send((authority, peer.clone(), connect.ending()));
            forward(connect, peer);
        };
        let address = serve(ca.certified(GATEWAY), settings, drained, on_connect).await;
        Self {
            pool: Pool::new(Sockets::default(), Settings::default()),
            client: ca.certified(CLIENT),
            gateway: Target {
                address,
                identities: ids(&[GATEWAY]),
            },
            target,
            app,
            asked,
            drain,
            ca,
        }
    }

    async fn open(&self) -> Result<Opening, ambit_net::hbone::Error> {
        let (gateway, target) = (self.gateway.clone(), self.target.clone());
        self.open_by(&gateway, &target).await
    }

    async fn open_by(
        &self,
        gateway: &Target,
        target: &Target,
    ) -> Result<Opening, ambit_net::hbone::Error> {
        let authority = self.app.to_string();
        let opening =
            self.pool
                .open_through(gateway, target, &self.client, &authority, HeaderMap::new());
        opening.await
    }

    /// How many tunnels the gateway was asked for since the last time.
    fn tunnels(&mut self) -> usize {
        std::iter::from_fn(|| self.asked.try_recv().ok()).count()
    }
}

async fn doubled(opening: Opening) {
    let (mut near, relay) = through(opening).await;
    near.write_all(b"ab").await.expect("room");
    near.shutdown().await.expect("half-close");
    let mut all = Vec::new();
    near.read_to_end(&mut all).await.expect("data");
    assert_eq!(all, b"abab");
    relay.await.expect("no panic").expect("both ends closed");
}

#[tokio::test]
async fn streams_share_the_connections_behind_a_gateway() {
    let mut scene = Scene::new().await;
    for _ in 0..10 {
        doubled(scene.open().await.expect("a tunnel")).await;
    }
    let (authority, peer, _) = scene.asked.recv().await.expect("a tunnel");
    assert_eq!(authority, scene.target.address.to_string());
    assert_eq!(peer.to_string(), CLIENT);
    assert_eq!(scene.tunnels(), 0, "one after the other");
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(scene.open().await.expect("a tunnel"));
    }
    // Another one, since the first is in use; it is opened beside what goes on.
    assert_eq!(Settings::default().spread, 2);
    scene.asked.recv().await.expect("a tunnel");
    assert_eq!(scene.tunnels(), 0, "two for 50 at once");
    // The same peer behind another gateway is reached by that.
    let other = Target {
        identities: ids(&[GATEWAY, SERVER]),
        ..scene.gateway.clone()
    };
    let target = scene.target.clone();
    doubled(scene.open_by(&other, &target).await.expect("a tunnel")).await;
    scene.asked.recv().await.expect("a tunnel");
    assert_eq!(scene.tunnels(), 0);
    assert_eq!(scene.pool.streams(&target), 0, "none of them is direct");
}

#[tokio::test]
async fn each_end_must_be_who_it_is_meant_to_be() {
    let scene = Scene::new().await;
    let wrong = |target: &Target| Target {
        identities: ids(&[CLIENT]),
        ..target.clone()
    };
    let at_peer = scene.open_by(&scene.gateway, &wrong(&scene.target)).await;
    let at_peer = at_peer.err().expect("refused");
    assert_eq!((at_peer.stage(), at_peer.gateway()), (Stage::Tls, None));
    let at_gateway = scene.open_by(&wrong(&scene.gateway), &scene.target).await;
    let at_gateway = at_gateway.err().expect("refused");
    let blamed = Some(scene.gateway.address);
    assert_eq!(at_gateway.stage(), Stage::Tls);
    assert_eq!(at_gateway.gateway(), blamed);
    assert!(at_gateway.is_gateways_own());
    assert!(!at_peer.is_gateways_own());
    assert!(at_gateway.nothing_sent());
}

#[tokio::test]
async fn a_gateway_that_refuses_is_named() {
    let scene = Scene::new().await;
    let refuse = |connect: server::Connect, _| connect.refuse(StatusCode::NOT_FOUND);
    let certified = scene.ca.certified(GATEWAY);
    let address = serve(certified, Settings::default(), never_drain(), refuse).await;
    let refusing = Target {
        address,
        ..scene.gateway.clone()
    };
    let error = scene.open_by(&refusing, &scene.target).await;
    let error = error.err().expect("refused");
    assert_eq!(error.stage(), Stage::Refused(404));
    assert_eq!(error.gateway(), Some(address));
    assert!(!error.is_gateways_own(), "it speaks of the peer");
    assert!(error.nothing_sent(), "the peer behind it has seen nothing");
    assert_eq!(
        error.to_string(),
        format!("gateway {address}: the peer answered 404")
    );
}

#[tokio::test]
async fn nothing_new_goes_through_a_gateway_that_drains() {
    let mut scene = Scene::new().await;
    // One connection is enough for all, unless it takes nothing new.
    let settings = Settings {
        spread: 1,
        ..Settings::default()
    };
    scene.pool = Pool::new(Sockets::default(), settings);
    let (mut held, relay) = through(scene.open().await.expect("a tunnel")).await;
    let (_, _, mut ending) = scene.asked.recv().await.expect("a tunnel");
    scene.drain.send_replace(true);
    ending.wait_for(|ending| *ending).await.expect("it ends");
    scene.drain.send_replace(false);
    // Until the client has heard of it, the connection that it has is as good as any.
    let moved = async {
        while scene.tunnels() == 0 {
            doubled(scene.open().await.expect("a tunnel")).await;
        }
    };
    let moved = tokio::time::timeout(Duration::from_secs(20), moved).await;
    moved.expect("another connection of the gateway");
    held.write_all(b"x").await.expect("room");
    held.shutdown().await.expect("half-close");
    let mut all = Vec::new();
    held.read_to_end(&mut all).await.expect("what ran goes on");
    assert_eq!(all, b"xx");
    relay.await.expect("no panic").expect("both ends closed");
}
