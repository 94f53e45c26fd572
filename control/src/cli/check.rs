//! `ambit check`: asks the API server, and says what is missing.

use anyhow::anyhow;
use clap::Args;
use kube::Client;
use serde_json::Value;

use crate::check::{self, Answers, Finding};

const EXAMPLES: &str = "\
Examples:
  ambit check
  ambit check --namespace shop

Before an installation it says what the cluster lacks, after it what the installation does, and with a
namespace why its pods are not in the mesh. The API server is kubectl's. The exit status is 1 when
anything failed.";

/// Flags of `ambit check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// Looks at a namespace too
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
}

impl Flags {
    /// What is found.
    ///
    /// # Errors
    /// The API server cannot be reached.
    pub async fn run(&self) -> anyhow::Result<Vec<Finding>> {
        // Its causes repeat what it says.
        let none = |error| anyhow!("there is no API server to ask: {error}");
        let client = Client::try_default().await.map_err(none)?;
        let namespace = self.namespace.as_deref();
        let mut answers = Answers::new();
        for path in check::questions(namespace) {
            let request = http::Request::get(&path).body(Vec::new())?;
            let answer = match client.request::<Value>(request).await {
                Ok(value) => Ok(value),
                Err(kube::Error::Api(status)) => Err(status.code),
                Err(error) => return Err(error.into()),
            };
            answers.insert(path, answer);
        }
        Ok(check::findings(&answers, namespace))
    }
}
