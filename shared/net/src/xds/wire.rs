//! Between the wire's messages and the words of the subscription.

use ambit_core::subscription::Request;
use ambit_proto::xds::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse, MORE_FOLLOWS};
use bytes::Bytes;

use super::{Push, Rejection, Resource};

/// `google.rpc.Code.INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;

/// A request as it is sent; who asks is added to the first ones on a stream.
pub(super) fn request(request: Request) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: request.type_url.to_string(),
        initial_resource_versions: request.initial_versions.into_iter().collect(),
        response_nonce: request.nonce,
        error_detail: request.error.map(|message| xds::Status {
            code: INVALID_ARGUMENT,
            message,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A push as the handler takes it, and what is rejected without asking it: a resource that has
/// no name, no body, or a body of another type than the push.
pub(super) fn push(response: DeltaDiscoveryResponse) -> (Push, Vec<Rejection>) {
    let mut resources = Vec::with_capacity(response.resources.len());
    let mut rejections = Vec::new();
    for resource in response.resources {
        match body(&response.type_url, &resource.name, resource.resource) {
            Ok(body) => resources.push(Resource {
                name: resource.name,
                version: resource.version,
                body,
            }),
            Err(reason) => rejections.push(Rejection {
                name: resource.name,
                reason,
            }),
        }
    }
    let push = Push {
        type_url: response.type_url.into(),
        resources,
        removed: response.removed_resources,
        complete: response.system_version_info != MORE_FOLLOWS,
    };
    (push, rejections)
}

fn body(type_url: &str, name: &str, any: Option<prost_types::Any>) -> Result<Bytes, String> {
    if name.is_empty() {
        return Err("it has no name".to_owned());
    }
    match any {
        None => Err("it has no body".to_owned()),
        Some(any) if any.type_url != type_url => {
            Err(format!("it is a {}, pushed as a {type_url}", any.type_url))
        }
        Some(any) => Ok(any.value.into()),
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Any;

    use super::*;

    const T: &str = "type.example/T";

    fn resource(name: &str, any: Option<Any>) -> xds::Resource {
        xds::Resource {
            name: name.to_owned(),
            version: "1".to_owned(),
            resource: any,
            ..Default::default()
        }
    }

    #[test]
    fn malformed_resources_are_rejected_by_name_and_the_rest_stays() {
        let any = |type_url: &str| {
            Some(Any {
                type_url: type_url.to_owned(),
                value: vec![7],
            })
        };
        let (push, rejections) = push(DeltaDiscoveryResponse {
            type_url: T.to_owned(),
            resources: vec![
                resource("good", any(T)),
                resource("", any(T)),
                resource("hollow", None),
                resource("other", any("type.example/U")),
            ],
            removed_resources: vec!["gone".to_owned()],
            ..Default::default()
        });
        let names: Vec<_> = push.resources.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(
            (names, &push.removed),
            (vec!["good"], &vec!["gone".to_owned()])
        );
        assert_eq!(push.resources[0].body, Bytes::from_static(&[7]));
        let reasons: Vec<_> = rejections
            .iter()
            .map(|r| (r.name.as_str(), r.reason.as_str()))
            .collect();
        assert_eq!(
            reasons,
            [
                ("", "it has no name"),
                ("hollow", "it has no body"),
                (
                    "other",
                    "it is a type.example/U, pushed as a type.example/T"
                ),
            ]
        );
    }
}
