use ambit_proto::xds::{DeltaDiscoveryRequest, Node};

use super::*;
use crate::push::ResourceType;
use crate::push::session::Session;
use crate::source::parse::{documents, parse};
use crate::source::{Batch, Event, Origin};
use crate::translate::Mesh;

const PACE: Pace = Pace {
    arrives: Duration::from_millis(100),
    leaves: Duration::from_secs(1),
};

fn batch(waypoint: &str) -> Batch {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop, labels: {{istio.io/use-waypoint: {waypoint}}}}}\nspec: {{clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}\n"
    );
    let objects = documents(&text).into_iter().flat_map(|d| parse(&d).objects);
    Batch {
        events: objects
            .map(|o| Event::Apply(o, Origin::default()))
            .collect(),
        ..Batch::default()
    }
}

/// A proxy that has asked for everything.
fn proxy(state: &State, open: &super::super::connections::Open) -> Session {
    let mut session = Session::default();
    for of in [ResourceType::Address, ResourceType::Authorization] {
        session.on_request(DeltaDiscoveryRequest {
            type_url: of.url().to_owned(),
            node: Some(Node::default()),
            ..DeltaDiscoveryRequest::default()
        });
    }
    open.named("ztunnel~10.0.0.1~z.mesh~mesh");
    answer(&mut session, state, open);
    session
}

fn answer(session: &mut Session, state: &State, open: &super::super::connections::Open) {
    while let Some(response) = session.poll(&state.shelves()).expect("not too far behind") {
        session.on_request(DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        });
    }
    open.moved(session);
}

#[tokio::test(start_paused = true)]
async fn a_step_waits_for_every_proxy_and_for_none_for_ever() {
    let state = State::new(Mesh::default());
    let connections = Arc::new(Connections::default());
    let open = connections.open(None, "".into());
    state.apply(batch("none"));
    let mut session = proxy(&state, &open);
    let mut steps = Steps::new(connections, PACE);
    let mut took = async |state: &State| {
        let started = Instant::now();
        let due = steps.due(state).await;
        assert_eq!(due.len(), 1);
        state.advance(&due);
        started.elapsed()
    };

    state.apply(batch("w"));
    // It has answered long before the time is over.
    answer(&mut session, &state, &open);
    assert_eq!(took(&state).await, PACE.arrives);
    // The next step it does not answer.
    assert_eq!(took(&state).await, PACE.leaves + PATIENCE);
    assert_eq!(state.index().steps().count(), 0);

    // It answers while it is waited for.
    answer(&mut session, &state, &open);
    state.apply(batch("none"));
    let (took, ()) = tokio::join!(took(&state), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        answer(&mut session, &state, &open);
    });
    assert_eq!(took, Duration::from_secs(2) + TOGETHER);
}

#[tokio::test(start_paused = true)]
async fn what_is_told_meanwhile_keeps_nobody_waiting() {
    let state = State::new(Mesh::default());
    state.apply(batch("none"));
    let mut steps = Steps::new(Arc::default(), PACE);
    state.apply(batch("w"));
    let started = Instant::now();
    // Whoever waits is asked again and again.
    for _ in 0..5 {
        let short = Duration::from_millis(15);
        let asked = tokio::time::timeout(short, steps.due(&state)).await;
        assert!(asked.is_err());
        state.apply(Batch::default());
    }
    steps.due(&state).await;
    assert_eq!(started.elapsed(), PACE.arrives);
}

#[tokio::test(start_paused = true)]
async fn without_a_step_nothing_is_waited_for() {
    let state = State::new(Mesh::default());
    state.apply(batch("none"));
    let mut steps = Steps::new(Arc::default(), PACE);
    let never = tokio::time::timeout(Duration::from_secs(60), steps.due(&state));
    assert!(never.await.is_err());
}
