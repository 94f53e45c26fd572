//! What follows from manifests, for tests of translation.

use ambit_http::model::{Resource, ResourceKey};
use serde_json::Value;

use super::Mesh;
use crate::index::Index;
use crate::source::parse::{documents, parse};
use crate::source::{Event, Origin};

/// Services that routes and policies of tests refer to.
pub(crate) const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.1], ports: [{name: http, port: 80}, {name: admin, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-v2, namespace: shop}
spec: {clusterIPs: [10.96.0.2], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other}
spec: {clusterIPs: [10.96.0.3], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns-only, namespace: shop}
spec: {type: ExternalName, externalName: example.com}
";

/// An index of these manifests.
pub(crate) fn index(text: &str) -> Index {
    let mut index = Index::new(Mesh::default());
    apply(&mut index, text);
    index
}

/// Applies more manifests, and takes services all the way from or to a waypoint.
pub(crate) fn apply(index: &mut Index, text: &str) {
    let mut events = Vec::new();
    for document in documents(text) {
        let parsed = parse(&document);
        assert_eq!(parsed.errors, [], "{text}");
        assert_eq!(parsed.unhandled, [""; 0], "{text}");
        let objects = parsed.objects.into_iter();
        events.extend(objects.map(|o| Event::Apply(o, Origin::default())));
    }
    index.apply(events);
    index.advance_all();
}

/// The resource of this name.
pub(crate) fn resource(index: &Index, name: &str) -> Option<Resource> {
    let mut all = index.for_waypoints();
    all.find(|resource| resource.key().to_string() == name)
        .cloned()
}

/// Names of all resources of waypoints.
pub(crate) fn names(index: &Index) -> Vec<String> {
    let keys = index.for_waypoints().map(Resource::key);
    keys.map(|key: ResourceKey| key.to_string()).collect()
}

/// What is wrong with an object, `Kind namespace/name`.
pub(crate) fn problems(index: &Index, object: &str) -> Vec<String> {
    let problems = index.problems().into_iter();
    problems
        .filter(|p| p.object == object)
        .map(|p| p.error)
        .collect()
}

/// What authors are told of an object, `Kind namespace/name`.
pub(crate) fn notices(index: &Index, object: &str) -> Vec<String> {
    let notices = index.notices().into_iter();
    notices
        .filter(|p| p.object == object)
        .map(|p| p.error)
        .collect()
}

/// The status of an object, `Kind namespace/name`.
pub(crate) fn status(index: &Index, object: &str) -> Option<Value> {
    let mut all = index.statuses();
    let found = all.find(|(key, _)| key.to_string() == object);
    found.map(|(_, status)| status.clone())
}

/// `TYPE=STATUS/REASON` of conditions.
pub(crate) fn conditions(conditions: &Value) -> Vec<String> {
    let text =
        |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    let all = conditions.as_array().map_or(&[][..], Vec::as_slice);
    all.iter()
        .map(|c| {
            format!(
                "{}={}/{}",
                text(c, "type"),
                text(c, "status"),
                text(c, "reason")
            )
        })
        .collect()
}
