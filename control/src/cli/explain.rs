//! `ambit explain`: reads manifests or a cluster, and a question; prints the answer.

use std::path::{Path, PathBuf};

use ambit_core::addr::NamespacedName;
use ambit_core::index::DEFAULT_ROOT_NAMESPACE;
use ambit_core::trust_domain::{Aliases, TrustDomain, TrustDomains};
use anyhow::{Context, anyhow};
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::cluster::{Cluster, Failure};
use crate::explain::{Explanation, Question, explain};
use crate::index::Index;
use crate::source::files::Folder;
use crate::source::kube::item::Item;
use crate::source::kube::resources::{FOLLOWED, collection};
use crate::source::parse::{Wire, documents, parse};
use crate::source::{Event, Kind, Origin};
use crate::translate::Mesh;

pub(super) mod names;

const EXAMPLE: &str = "\
Examples:
  ambit explain --from shop/checkout --to reviews.shop:9080 --method GET --path /reviews/1
  ambit explain --from shop/checkout --to reviews.shop:9080 -f mesh.yaml

Without files the objects are those of the API server, which is kubectl's, and the names of the trust domain
those that ambit-control is told, unless flags say them. With files the trust domain is cluster.local, unless
flags say another. What is decided is decided by the proxies' own code. Without pods and addresses in the files
node proxies cannot be asked.
Exit status: 0 for an answer, 2 for a question that makes no sense, 3 when a proxy could not be asked.";

/// Flags of `ambit explain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub struct Flags {
    /// Who calls: namespace and service account
    #[arg(long, value_name = "NAMESPACE/ACCOUNT")]
    pub from: String,
    /// What is called: a Service (of the caller's namespace unless it says another) and a port
    #[arg(long, value_name = "SERVICE[.NAMESPACE]:PORT")]
    pub to: String,
    /// The method
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// Path and query
    #[arg(long, default_value = "/")]
    pub path: String,
    /// A header; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub header: Vec<String>,
    /// A file or folder of Kubernetes objects instead of the cluster's; may be given several times
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Trust domain of identities
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<TrustDomain>,
    /// Its other names, separated by commas
    #[arg(long, value_name = "NAMES")]
    pub trust_domain_aliases: Option<Aliases>,
    /// Policies of this namespace hold in the whole mesh
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ROOT_NAMESPACE)]
    pub root_namespace: String,
}

impl Flags {
    /// The answer, and what is wrong with objects.
    ///
    /// # Errors
    /// A flag, a file or a cluster that cannot be read, or a question about nothing.
    pub async fn run(self) -> anyhow::Result<(Explanation, Vec<String>)> {
        let question = self.question().map_err(anyhow::Error::msg)?;
        let mut trust_domains = self.trust_domains();
        let mut problems = Vec::new();
        let mut events = Vec::new();
        for path in &self.files {
            read(path, &mut events, &mut problems).map_err(anyhow::Error::msg)?;
        }
        if self.files.is_empty() {
            let none = |error| anyhow!("there is no API server to ask, and no file: {error}");
            let (cluster, _) = Cluster::of_operator().await.map_err(none)?;
            if trust_domains.is_none() {
                trust_domains = Some(names::of_running(&cluster).await?);
            }
            collect(&cluster, &mut events, &mut problems).await?;
        }
        let mut index = Index::new(Mesh {
            trust_domains: trust_domains.unwrap_or_default(),
            root_namespace: self.root_namespace.into(),
            ..Mesh::default()
        });
        index.apply(events);
        let found = index.problems().into_iter();
        problems.extend(found.map(|problem| format!("{}: {}", problem.object, problem.error)));
        let answer = explain(&index, &question).map_err(anyhow::Error::msg)?;
        Ok((answer, problems))
    }

    /// The names that flags give, if any does.
    fn trust_domains(&self) -> Option<TrustDomains> {
        let (own, aliases) = (&self.trust_domain, &self.trust_domain_aliases);
        (own.is_some() || aliases.is_some()).then(|| {
            let (own, aliases) = (own.clone(), aliases.clone());
            TrustDomains::new(own.unwrap_or_default(), aliases.unwrap_or_default())
        })
    }

    fn question(&self) -> Result<Question, String> {
        let from: NamespacedName = self
            .from
            .parse()
            .map_err(|error| format!("--from: {error}"))?;
        let form = || format!("--to: {:?} is not SERVICE[.NAMESPACE]:PORT", self.to);
        let (name, port) = self.to.rsplit_once(':').ok_or_else(form)?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(form)?;
        let mut labels = name.split('.');
        let service = labels
            .next()
            .filter(|name| !name.is_empty())
            .ok_or_else(form)?;
        let namespace = labels.next().unwrap_or(&from.namespace).to_owned();
        let mut headers = HeaderMap::new();
        for header in &self.header {
            let wrong = || format!("--header: {header:?} is not NAME=VALUE");
            let (name, value) = header.split_once('=').ok_or_else(wrong)?;
            let name: HeaderName = name.parse().map_err(|_| wrong())?;
            headers.append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
        }
        Ok(Question {
            to: NamespacedName::new(namespace, service),
            from,
            port,
            method: Method::from_bytes(self.method.as_bytes())
                .map_err(|_| format!("--method: {:?} is not a method", self.method))?,
            path: self.path.clone(),
            headers,
        })
    }
}

/// Reads the objects of a file or a folder.
pub(super) fn read(
    path: &Path,
    events: &mut Vec<Event>,
    problems: &mut Vec<String>,
) -> Result<(), String> {
    let shown = path.display();
    if path.is_dir() {
        let batch = Folder::new(path.to_owned())
            .scan()
            .map_err(|error| format!("{shown}: {error}"))?;
        let found = batch.problems.into_iter();
        problems.extend(found.map(|p| format!("{shown}/{}: {}", p.origin.file, p.error)));
        events.extend(batch.events);
        return Ok(());
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    for document in documents(&text) {
        let parsed = parse(&document);
        let errors = parsed.errors.into_iter();
        problems.extend(errors.map(|error| format!("{shown}:{}: {}", error.line, error.error)));
        let objects = parsed.objects.into_iter();
        events.extend(objects.map(|object| Event::Apply(object, Origin::default())));
    }
    Ok(())
}

/// Everything that the control plane looks at, as the API server has it.
async fn collect(
    cluster: &Cluster,
    events: &mut Vec<Event>,
    problems: &mut Vec<String>,
) -> anyhow::Result<()> {
    for kind in FOLLOWED {
        for object in list(cluster, *kind)
            .await
            .with_context(|| kind.to_string())?
        {
            let item = Item::read(*kind, Wire::Item(&object));
            match item.object {
                Ok(object) => events.push(Event::Apply(object, Origin::default())),
                Err(error) => {
                    let key = item
                        .key
                        .map_or_else(|| kind.to_string(), |key| key.to_string());
                    problems.push(format!("{key}: {error}"));
                }
            }
        }
    }
    Ok(())
}

/// The objects of a kind; none when the cluster does not know it.
async fn list(cluster: &Cluster, kind: Kind) -> Result<Vec<serde_json::Value>, Failure> {
    let all = collection(kind);
    for version in 0..all.versions.len() {
        match cluster.list(&all.path(version)).await {
            Err(failure) if failure.status() == Some(404) => {}
            found => return found,
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::fake::Fake;

    #[tokio::test]
    async fn a_cluster_is_read_as_far_as_it_can_be() {
        let fake = Fake::start().await;
        for name in ["a", "b", "c"] {
            fake.set("/namespaces", json!({"metadata": {"name": name}}));
        }
        let bad = json!({"metadata": {"name": "bad", "namespace": "a"}, "spec": {"rules": 7}});
        fake.set("gateway.networking.k8s.io/httproutes", bad);
        fake.absent("ratelimits", true);
        let (mut events, mut problems) = (Vec::new(), Vec::new());
        let read = collect(&fake.cluster(), &mut events, &mut problems).await;
        read.expect("read");
        assert_eq!(events.len(), 3, "more than a page");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("HTTPRoute a/bad: "), "{problems:?}");
        fake.fail("/nodes", 403, None);
        let refused = collect(&fake.cluster(), &mut events, &mut problems).await;
        let refused = format!("{:#}", refused.expect_err("no nodes"));
        assert!(refused.starts_with("Node: "), "{refused}");
    }
}
