//! Addresses of endpoints that discovery knows by the name of a host (a ServiceEntry with resolution DNS), from the resolver of this
//! process.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::is_elsewhere;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

/// How long addresses are used before they are asked for again. The system's resolver does not tell how long they are good.
const KEPT: Duration = Duration::from_secs(10);
/// How long a host is remembered of which nobody asks.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// What is known of hosts.
#[derive(Debug, Default)]
pub struct Hosts {
    known: Mutex<HashMap<Arc<str>, Arc<Host>>>,
}

/// One host. All who wait for it share the answer.
type Host = tokio::sync::Mutex<Option<Answer>>;

#[derive(Debug, Clone)]
struct Answer {
    at: Instant,
    addresses: Arc<[IpAddr]>,
}

impl Hosts {
    /// The addresses of a host; none when it never had any. While nobody answers, or the answer is that there is no such host
    /// (which the system's resolver does not tell apart), what it had last.
    pub async fn addresses(&self, host: &Arc<str>) -> Arc<[IpAddr]> {
        self.ask(host, |host| async move {
            let found = tokio::net::lookup_host((&*host, 0)).await?;
            let found = found.map(|found| found.ip().to_canonical());
            Ok(found.filter(|ip| is_elsewhere(*ip)).collect())
        })
        .await
    }

    async fn ask<F>(&self, host: &Arc<str>, ask: impl FnOnce(Arc<str>) -> F) -> Arc<[IpAddr]>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>>,
    {
        let known = self.of(host);
        let mut held = known.lock().await;
        if let Some(answer) = held.as_ref().filter(|answer| answer.at.elapsed() < KEPT) {
            return answer.addresses.clone();
        }
        let asked = timeout(PATIENCE, ask(host.clone())).await;
        let addresses = match asked.map_err(io::Error::from).and_then(|found| found) {
            Ok(mut found) => {
                found.sort();
                found.dedup();
                found.into()
            }
            Err(error) => {
                tracing::debug!(%host, %error, "a host's addresses are not known");
                let last = held.as_ref().map(|answer| answer.addresses.clone());
                last.unwrap_or_default()
            }
        };
        *held = Some(Answer {
            at: Instant::now(),
            addresses: Arc::clone(&addresses),
        });
        addresses
    }

    /// What is known of a host. A new one takes the place of those that nobody asks of any more.
    fn of(&self, host: &Arc<str>) -> Arc<Host> {
        let mut known = self.known.lock();
        if let Some(found) = known.get(host) {
            return found.clone();
        }
        known.retain(|_, host| host.try_lock().map_or(true, |held| !is_forgotten(&held)));
        known.entry(host.clone()).or_default().clone()
    }
}

fn is_forgotten(answer: &Option<Answer>) -> bool {
    let age = answer.as_ref().map(|answer| answer.at.elapsed());
    age.is_some_and(|age| age > REMEMBERED)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_and_outlive_a_resolver_that_fails() {
        let (hosts, name) = (Hosts::default(), Arc::from("db.example.com"));
        let one: IpAddr = [192, 0, 2, 1].into();
        let asked = Cell::new(0);
        let ask = async |found: io::Result<Vec<IpAddr>>| {
            let answer = |_| async {
                asked.set(asked.get() + 1);
                found
            };
            hosts.ask(&name, answer).await.to_vec()
        };
        let failure = || Err(io::ErrorKind::NotFound.into());
        assert!(ask(failure()).await.is_empty());
        assert!(ask(Ok(vec![one])).await.is_empty(), "it was asked just now");
        tokio::time::advance(KEPT).await;
        assert_eq!(ask(Ok(vec![one, one])).await, [one]);
        assert_eq!(ask(failure()).await, [one]);
        assert_eq!(asked.get(), 2);
        tokio::time::advance(KEPT).await;
        assert_eq!(ask(failure()).await, [one]);
        assert_eq!(asked.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_is_silent_is_not_waited_for() {
        let (hosts, name) = (Hosts::default(), Arc::from("db.example.com"));
        let start = Instant::now();
        let found = hosts.ask(&name, |_| std::future::pending()).await;
        assert!(found.is_empty());
        assert_eq!(start.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_nobody_asks_of_are_forgotten() {
        let hosts = Hosts::default();
        let ask = async |name: &str| {
            let answer = |_| async { Ok(vec![IpAddr::from([192, 0, 2, 1])]) };
            hosts.ask(&Arc::from(name), answer).await
        };
        ask("old.example.com").await;
        tokio::time::advance(REMEMBERED / 2).await;
        ask("young.example.com").await;
        tokio::time::advance(REMEMBERED / 2 + KEPT).await;
        ask("new.example.com").await;
        let mut known: Vec<_> = hosts.known.lock().keys().cloned().collect();
        known.sort();
        assert_eq!(
            known,
            ["new.example.com".into(), "young.example.com".into()]
        );
    }
}
