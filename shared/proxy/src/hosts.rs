//! Addresses of endpoints that discovery knows by the name of a host (a ServiceEntry with resolution DNS), from the resolver of this
//! process, or from where it says.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::is_elsewhere;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

/// How long addresses are used before they are asked for again. The system's resolver does not tell how long they are good.
const KEPT: Duration = Duration::from_secs(10);
/// How long they are used while they are asked for again.
const USED: Duration = Duration::from_secs(60);
/// How long a host is remembered of which nobody asks.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// Asks for the addresses of a host.
pub type Lookup = Arc<dyn Fn(Arc<str>) -> Looking + Send + Sync>;
/// The answer that is under way.
pub type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// What is known of hosts.
pub struct Hosts {
    known: Mutex<HashMap<Arc<str>, Arc<Host>>>,
    lookup: Lookup,
}

impl Default for Hosts {
    /// Nothing yet; the system's resolver is asked.
    fn default() -> Self {
        Self::asking(Arc::new(|host| Box::pin(system(host))))
    }
}

async fn system(host: Arc<str>) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((&*host, 0)).await?;
    Ok(found.map(|found| found.ip()).collect())
}

/// One host.
#[derive(Debug, Default)]
struct Host {
    answer: Mutex<Option<Answer>>,
    /// Held by the one that asks. All others wait for its answer, if they have to.
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Clone)]
struct Answer {
    at: Instant,
    addresses: Arc<[IpAddr]>,
}

impl Hosts {
    /// Nothing yet; addresses are asked for in this way, and not of the system's resolver.
    #[must_use]
    pub fn asking(lookup: Lookup) -> Self {
        Self {
            known: Mutex::default(),
            lookup,
        }
    }

    /// The addresses of a host that somebody with addresses of these families can reach, beginning with a random one, so that
    /// no address has all connections; none when it never had any. While nobody answers, or the answer is that there is no such
    /// host (which the system's resolver does not tell apart), what it had last.
    pub async fn addresses(&self, host: &Arc<str>, own: &[IpAddr]) -> Vec<IpAddr> {
        let lookup = self.lookup.clone();
        let found = self.ask(host, |host| async move {
            let found = lookup(host).await?;
            let found = found.iter().map(IpAddr::to_canonical);
            Ok(found.filter(|ip| is_elsewhere(*ip)).collect())
        });
        let found = found.await;
        let reaches = |ip: &IpAddr| own.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
        let fits = |ip: &&IpAddr| own.is_empty() || reaches(ip);
        let mut addresses: Vec<IpAddr> = found.iter().filter(fits).copied().collect();
        if !addresses.is_empty() {
            let first = rand::random_range(0..addresses.len());
            addresses.rotate_left(first);
        }
        addresses
    }

    async fn ask<F>(
        &self,
        host: &Arc<str>,
        ask: impl FnOnce(Arc<str>) -> F + Send + 'static,
    ) -> Arc<[IpAddr]>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        let known = self.of(host);
        if let Some((addresses, age)) = known.last(USED) {
            if age >= KEPT
                && let Ok(alone) = known.asking.clone().try_lock_owned()
            {
                let host = host.clone();
                tokio::spawn(async move {
                    known.renew(&host, ask).await;
                    drop(alone);
                });
            }
            return addresses;
        }
        let _alone = known.asking.lock().await;
        match known.last(KEPT) {
            Some((addresses, _)) => addresses,
            None => known.renew(host, ask).await,
        }
    }

    /// What is known of a host. A new one takes the place of those that nobody asks of any more.
    fn of(&self, host: &Arc<str>) -> Arc<Host> {
        let mut known = self.known.lock();
        if let Some(found) = known.get(host) {
            return found.clone();
        }
        known.retain(|_, host| Arc::strong_count(host) > 1 || host.last(REMEMBERED).is_some());
        known.entry(host.clone()).or_default().clone()
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosts")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// The last answer if it is younger than this, and its age.
    fn last(&self, limit: Duration) -> Option<(Arc<[IpAddr]>, Duration)> {
        let answer = self.answer.lock();
        let (addresses, age) = answer.as_ref().map(|it| (&it.addresses, it.at.elapsed()))?;
        (age < limit).then(|| (addresses.clone(), age))
    }

    async fn renew<F>(&self, host: &Arc<str>, ask: impl FnOnce(Arc<str>) -> F) -> Arc<[IpAddr]>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>>,
    {
        let asked = timeout(PATIENCE, ask(host.clone())).await;
        let addresses = match asked.map_err(io::Error::from).and_then(|found| found) {
            Ok(mut found) => {
                found.sort();
                found.dedup();
                found.into()
            }
            Err(error) => {
                tracing::debug!(%host, %error, "a host's addresses are not known");
                let last = self.last(Duration::MAX);
                last.map_or_else(|| [].into(), |(addresses, _)| addresses)
            }
        };
        *self.answer.lock() = Some(Answer {
            at: Instant::now(),
            addresses: Arc::clone(&addresses),
        });
        addresses
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_and_outlive_a_resolver_that_fails() {
        let (hosts, name) = (Hosts::default(), Arc::from("db.example.com"));
        let asked: Arc<AtomicUsize> = Arc::default();
        let ask = async |found: io::Result<Vec<IpAddr>>| {
            let asked = asked.clone();
            let answer = move |_| async move {
                asked.fetch_add(1, Ordering::Relaxed);
                found
            };
            let found = hosts.ask(&name, answer).await.to_vec();
            // What is asked beside it is answered.
            tokio::task::yield_now().await;
            found
        };
        let failure = || Err(io::ErrorKind::NotFound.into());
        assert!(ask(failure()).await.is_empty());
        assert!(
            ask(Ok(vec![ip(1)])).await.is_empty(),
            "it was asked just now"
        );
        tokio::time::advance(USED).await;
        assert_eq!(ask(Ok(vec![ip(1), ip(1)])).await, [ip(1)]);
        assert_eq!(ask(failure()).await, [ip(1)]);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        tokio::time::advance(KEPT).await;
        assert_eq!(
            ask(Ok(vec![ip(2)])).await,
            [ip(1)],
            "nobody waits for the new one"
        );
        assert_eq!(ask(failure()).await, [ip(2)]);
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        tokio::time::advance(USED).await;
        assert_eq!(ask(failure()).await, [ip(2)]);
        assert_eq!(asked.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_is_silent_is_not_waited_for() {
        let (hosts, name) = (Hosts::default(), Arc::from("db.example.com"));
        let start = Instant::now();
        let found = hosts.ask(&name, |_| std::future::pending()).await;
        assert!(found.is_empty());
        assert_eq!(start.elapsed(), PATIENCE);
        tokio::time::advance(KEPT).await;
        let found = hosts.ask(&name, |_| std::future::pending()).await;
        assert!(found.is_empty());
        assert_eq!(start.elapsed(), PATIENCE + KEPT);
    }

    #[tokio::test]
    async fn addresses_are_of_families_that_one_has() {
        let (hosts, name) = (Hosts::default(), Arc::from("db.example.com"));
        let v6 = "2001:db8::1".parse().expect("an address");
        let both = move |_| async move { Ok(vec![ip(1), v6]) };
        let _ = hosts.ask(&name, both).await;
        let cases: [(&[IpAddr], &[IpAddr]); 4] = [
            (&[], &[ip(1), v6]),
            (&[ip(9)], &[ip(1)]),
            (&[v6], &[v6]),
            (&[v6, ip(9)], &[ip(1), v6]),
        ];
        for (own, expected) in cases {
            let mut found = hosts.addresses(&name, own).await;
            found.sort();
            assert_eq!(found, expected, "{own:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_nobody_asks_of_are_forgotten() {
        let hosts = Hosts::default();
        let ask = async |name: &str| {
            let answer = |_| async { Ok(vec![ip(1)]) };
            hosts.ask(&Arc::from(name), answer).await
        };
        ask("old.example.com").await;
        tokio::time::advance(REMEMBERED / 2).await;
        ask("young.example.com").await;
        tokio::time::advance(REMEMBERED / 2 + KEPT).await;
        // Whose first question was given up is not remembered either.
        let name = Arc::from("given-up.example.com");
        let given_up = hosts.ask(&name, |_| std::future::pending());
        assert!(timeout(PATIENCE / 2, given_up).await.is_err());
        ask("new.example.com").await;
        let mut known: Vec<_> = hosts.known.lock().keys().cloned().collect();
        known.sort();
        assert_eq!(
            known,
            ["new.example.com".into(), "young.example.com".into()]
        );
    }
}
