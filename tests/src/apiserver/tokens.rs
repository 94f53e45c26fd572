//! Tokens of service accounts, bound to the pod that asks.

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;

use super::ApiServer;

impl ApiServer {
    /// A token of `pod`'s account for `audience`; without one, for the API server itself.
    ///
    /// # Errors
    /// Why the API server gives none.
    pub(crate) async fn token(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        seconds: i64,
    ) -> Result<String, String> {
        let spec = pod.spec.as_ref();
        let account = spec.and_then(|spec| spec.service_account_name.as_deref());
        let account = account.unwrap_or("default");
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: audience.map(str::to_owned).into_iter().collect(),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                expiration_seconds: Some(seconds),
            },
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await;
        let answer = answer.map_err(|error| format!("serviceaccount {account:?}: {error}"))?;
        answer
            .status
            .map(|status| status.token)
            .ok_or_else(|| format!("serviceaccount {account:?}: no token in the answer"))
    }
}
