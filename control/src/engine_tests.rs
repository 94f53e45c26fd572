//! From a changed object to the message that a waypoint gets.

use std::time::{Duration, Instant};

use ambit_proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::*;
use crate::push::ResourceType;
use crate::push::session::Session;
use crate::source::parse::{documents, parse};
use crate::source::{Event, Origin};

const ROUTES: usize = 10_000;
/// What a change may take until it is in force in every proxy.
const IN_FORCE: Duration = Duration::from_millis(100);

fn batch(text: &str) -> Batch {
    let objects = documents(text).into_iter().flat_map(|d| parse(&d).objects);
    Batch {
        events: objects
            .map(|o| Event::Apply(o, Origin::default()))
            .collect(),
        ..Batch::default()
    }
}

fn route(number: usize, path: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{number}, namespace: shop}}\nspec: {{parentRefs: [{{group: '', kind: Service, name: web}}], rules: [{{matches: [{{path: {{value: {path}{number}}}}}], backendRefs: [{{name: web, port: 80}}]}}]}}\n"
    )
}

fn poll(session: &mut Session, state: &State) -> Option<DeltaDiscoveryResponse> {
    let response = session
        .poll(&state.shelves())
        .expect("not too far behind")?;
    session.on_request(DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    });
    Some(response)
}

#[test]
fn one_route_of_ten_thousand_is_one_small_message_soon() {
    let state = State::new(Mesh::default());
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIPs: [10.96.0.1], ports: [{port: 80}]}\n";
    let all: String = (0..ROUTES).map(|number| route(number, "/a")).collect();
    let started = Instant::now();
    state.apply(batch(&format!("{service}{all}")));
    eprintln!(
        "{ROUTES} routes, read and translated: {:?}",
        started.elapsed()
    );
    let mut session = Session::default();
    session.on_request(DeltaDiscoveryRequest {
        type_url: ResourceType::Waypoint.url().to_owned(),
        ..DeltaDiscoveryRequest::default()
    });
    let mut known = 0;
    while let Some(response) = poll(&mut session, &state) {
        known += response.resources.len();
    }
    assert_eq!(known, ROUTES);

    // The shortest of a few: the others may have waited for a CPU.
    let took = (0..5).map(|number| {
        let change = batch(&route(number, "/b"));
        let started = Instant::now();
        state.apply(change);
        let response = poll(&mut session, &state).expect("a message");
        let took = started.elapsed();
        assert_eq!(response.resources.len(), 1);
        let name = format!("route/http/shop/r{number}/0");
        assert_eq!(response.resources[0].name, name);
        assert_eq!(poll(&mut session, &state), None);
        took
    });
    let took: Vec<Duration> = took.collect();
    eprintln!("one changed route, from apply to message: {took:?}");
    assert!(took.iter().any(|it| *it < IN_FORCE), "{took:?}");
}
