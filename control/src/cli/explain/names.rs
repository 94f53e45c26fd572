//! What a running mesh is called: what its control plane is told.

use std::fmt::Display;
use std::str::FromStr;

use ambit_core::trust_domain::TrustDomains;
use anyhow::{Context, anyhow};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;

use crate::check::CONTROL;
use crate::cli::environment;
use crate::cluster::Cluster;

/// The control plane's container in its Deployment.
const CONTAINER: &str = "control";

/// The names of the trust domain in this cluster; those of a mesh that was given none where nothing is installed.
///
/// # Errors
/// The control plane's Deployment cannot be read, or says what control would not take: a guess could turn an answer over.
pub(in crate::cli) async fn of_running(cluster: &Cluster) -> anyhow::Result<TrustDomains> {
    let said = "the trust domain is not known, --trust-domain can say it";
    match cluster.read::<Deployment>(CONTROL).await {
        Ok(control) => told(&control)
            .map_err(|error| anyhow!("Deployment ambit-control: {error}"))
            .context(said),
        Err(failure) if failure.status() == Some(404) => Ok(TrustDomains::default()),
        Err(failure) => Err(failure).context(said),
    }
}

/// The names that control is told by its environment.
fn told(control: &Deployment) -> Result<TrustDomains, String> {
    let template = control.spec.as_ref().map(|it| &it.template);
    let container = environment::container(template, CONTAINER)?;
    Ok(TrustDomains::new(
        variable(container, "TRUST_DOMAIN")?,
        variable(container, "AMBIT_TRUST_DOMAIN_ALIASES")?,
    ))
}

fn variable<T>(container: &Container, name: &str) -> Result<T, String>
where
    T: FromStr<Err: Display> + Default,
{
    let Some(value) = environment::variable(container, name)? else {
        return Ok(T::default());
    };
    value.parse().map_err(|error| format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::fake::Fake;

    fn deployment(env: &Value) -> Value {
        environment::of_part("Deployment", "ambit-control", CONTAINER, env)
    }

    fn names(env: &Value) -> Result<TrustDomains, String> {
        told(&serde_json::from_value(deployment(env)).expect("a Deployment"))
    }

    fn called(own: &str, aliases: &str) -> TrustDomains {
        TrustDomains::new(
            own.parse().expect("a name"),
            aliases.parse().expect("names"),
        )
    }

    #[test]
    fn names_are_those_that_control_is_told() {
        let own = json!({"name": "TRUST_DOMAIN", "value": "new.example"});
        let aliases =
            json!({"name": "AMBIT_TRUST_DOMAIN_ALIASES", "value": "old.example,new.example"});
        let empty = json!({"name": "AMBIT_TRUST_DOMAIN_ALIASES"});
        let renamed = called("new.example", "old.example");
        assert_eq!(names(&json!([own, aliases])), Ok(renamed));
        let alone = called("new.example", "");
        assert_eq!(names(&json!([own, aliases, empty])), Ok(alone));
        assert_eq!(names(&json!([])), Ok(called("cluster.local", "")));

        let bad = names(&json!([{"name": "TRUST_DOMAIN", "value": "a/b"}]));
        let bad = bad.expect_err("no name");
        assert!(bad.starts_with("TRUST_DOMAIN: "), "{bad}");
        let elsewhere = json!({"name": "TRUST_DOMAIN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}});
        let elsewhere = names(&json!([elsewhere])).expect_err("no value");
        assert!(elsewhere.contains("valueFrom"), "{elsewhere}");
    }

    #[tokio::test]
    async fn without_an_installation_they_are_the_default() {
        let fake = Fake::start().await;
        let cluster = fake.cluster();
        let found = of_running(&cluster).await.expect("names");
        assert_eq!(found, TrustDomains::default());
        let own = json!([{"name": "TRUST_DOMAIN", "value": "new.example"}]);
        fake.set("apps/deployments", deployment(&own));
        let found = of_running(&cluster).await.expect("names");
        assert_eq!(found, called("new.example", ""));
        let other = environment::of_part("Deployment", "ambit-control", "main", &own);
        fake.set("apps/deployments", other);
        let unknown = of_running(&cluster).await.expect_err("whose is not known");
        let unknown = format!("{unknown:#}");
        assert!(
            unknown.contains("--trust-domain") && unknown.ends_with("it has no container control"),
            "{unknown}"
        );
        fake.fail("GET", 403, None);
        let refused = of_running(&cluster).await.expect_err("no right");
        assert!(
            format!("{refused:#}").contains("--trust-domain"),
            "{refused:#}"
        );
    }
}
