//! `ambit explain`: reads manifests and a question, prints the answer.

use std::path::{Path, PathBuf};

use ambit_core::addr::NamespacedName;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::explain::{Explanation, Question, explain};
use crate::index::Index;
use crate::source::files::Folder;
use crate::source::parse::{documents, parse};
use crate::source::{Event, Origin};
use crate::translate::Mesh;

const EXAMPLE: &str = "\
Example:
  kubectl get ns,pods,svc,gateways,httproutes,authorizationpolicies -A -o yaml > mesh.yaml
  ambit explain --from shop/checkout --to reviews.shop:9080 --method GET --path /reviews/1 -f mesh.yaml

What is decided is decided by the proxies' own code. Without pods and addresses in the files the steps
of node proxies are left out.";

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
    /// A file or folder of Kubernetes objects; may be given several times
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    pub files: Vec<PathBuf>,
    /// Trust domain of identities
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub trust_domain: String,
    /// Policies of this namespace hold in the whole mesh
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    pub root_namespace: String,
}

impl Flags {
    /// The answer, and what is wrong with the files.
    ///
    /// # Errors
    /// A flag or a file that cannot be read, or a question about nothing.
    pub fn run(self) -> Result<(Explanation, Vec<String>), String> {
        let question = self.question()?;
        let mut index = Index::new(Mesh {
            trust_domain: self.trust_domain.into(),
            root_namespace: self.root_namespace.into(),
            ..Mesh::default()
        });
        let mut problems = Vec::new();
        let mut events = Vec::new();
        for path in &self.files {
            read(path, &mut events, &mut problems)?;
        }
        index.apply(events);
        let found = index.problems().into_iter();
        problems.extend(found.map(|problem| format!("{}: {}", problem.object, problem.error)));
        Ok((explain(&index, &question)?, problems))
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

fn read(path: &Path, events: &mut Vec<Event>, problems: &mut Vec<String>) -> Result<(), String> {
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
