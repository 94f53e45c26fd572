//! `ambit check`: asks the API server, and says what is missing.

use anyhow::anyhow;
use clap::Args;

use crate::check::{self, Answers, Finding};
use crate::cluster::{Cluster, Failure};

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
        let none = |error| anyhow!("there is no API server to ask: {error}");
        let (cluster, _) = Cluster::of_operator().await.map_err(none)?;
        let namespace = self.namespace.as_deref();
        let answers = ask(&cluster, namespace).await?;
        Ok(check::findings(&answers, namespace))
    }
}

async fn ask(cluster: &Cluster, namespace: Option<&str>) -> Result<Answers, Failure> {
    let mut answers = Answers::new();
    for path in check::questions(namespace) {
        let answer = match cluster.read(&path).await {
            Ok(value) => Ok(value),
            Err(failure) => Err(failure.status().ok_or(failure)?),
        };
        answers.insert(path, answer);
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn why_nobody_answers_is_said_once() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        // Nobody listens there any more.
        drop(listener);
        let server = format!("http://127.0.0.1:{port}")
            .parse()
            .expect("an address");
        let cluster = Cluster::new(kube::Config::new(server)).expect("a cluster");
        let failure = ask(&cluster, None).await.expect_err("nobody answers");
        // As the program prints it.
        let said = format!("{:#}", anyhow::Error::from(failure));
        for word in ["client error", "Connection refused"] {
            assert_eq!(said.matches(word).count(), 1, "{said}");
        }
    }
}
