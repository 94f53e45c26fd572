//! A Kubernetes API server as a source.
//!
//! Every kind that is read is followed by a task of its own; their news are collected and given to the
//! index in batches. An object that cannot be read is reported, and what it was before stays.

pub mod collect;
pub mod item;
pub mod resources;
mod trim;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::cluster::Cluster;
use crate::cluster::collection::Collection;
use crate::cluster::follow::{Hint, News, follow};
use crate::source::{Deliveries, Delivery, Key, Kind, Rescan};
use collect::{Collected, Followed};
use item::Item;

/// Events are given on when none has come for this long ...
const QUIET: Duration = Duration::from_millis(10);
/// ... and this long after the first in any case ...
const LONGEST: Duration = Duration::from_millis(100);
/// ... and when there are as many.
const MANY: usize = 5000;
/// News on their way; their readers wait when there are more.
const NEWS: usize = 1024;
/// While nothing can be given: how often the log says what is missing.
const REMIND: Duration = Duration::from_secs(10);

/// Follows the API server until the index or those who ask are gone.
///
/// # Errors
/// None; it has the form of other sources.
pub async fn run(
    cluster: Cluster,
    deliveries: Deliveries,
    requests: mpsc::Receiver<Rescan>,
) -> Result<(), String> {
    Source::new(cluster, deliveries, resources::FOLLOWED)
        .run(requests)
        .await;
    Ok(())
}

type Told = (Followed, News<Item>);

struct Source {
    cluster: Cluster,
    deliveries: Deliveries,
    collected: Collected,
    news: mpsc::Receiver<Told>,
    /// Definitions of kinds, by name.
    definitions: mpsc::Receiver<((), News<Option<String>>)>,
    teller: mpsc::Sender<Told>,
    singles: BTreeMap<Key, AbortHandle>,
    hints: watch::Sender<Hint>,
    asked: Vec<(u64, Rescan)>,
    /// When what is collected is given on, and when the first of it came.
    due: Option<Instant>,
    first: Option<Instant>,
    /// Something was given, and this is what it led to.
    given: bool,
    generation: u64,
}

impl Drop for Source {
    fn drop(&mut self) {
        for task in self.singles.values() {
            task.abort();
        }
    }
}

impl Source {
    fn new(cluster: Cluster, deliveries: Deliveries, kinds: &[Kind]) -> Self {
        let (teller, news) = mpsc::channel(NEWS);
        let (define, definitions) = mpsc::channel(NEWS);
        let hints = watch::channel(Hint::default()).0;
        tokio::spawn(follow(
            cluster.clone(),
            resources::definitions(),
            item::name,
            hints.subscribe(),
            ((), define),
        ));
        let source = Self {
            cluster,
            deliveries,
            collected: Collected::new(kinds),
            news,
            definitions,
            teller,
            singles: BTreeMap::new(),
            hints,
            asked: Vec::new(),
            due: None,
            first: None,
            given: false,
            generation: 0,
        };
        for kind in kinds {
            source.start(*kind, resources::collection(*kind), Followed::Kind(*kind));
        }
        source
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Rescan>) {
        let mut remind = tokio::time::interval(REMIND);
        remind.reset();
        loop {
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(request) => self.look_again(request),
                    None => return,
                },
                () = sleep_until(self.due.unwrap_or_else(Instant::now)), if self.due.is_some() => {
                    if self.give().await.is_none() {
                        return;
                    }
                }
                Some((of, news)) = self.news.recv() => self.take(&of, news),
                Some((_, news)) = self.definitions.recv() => self.hear(news),
                _ = remind.tick(), if !self.given => self.remind(),
            }
        }
    }

    fn start(&self, kind: Kind, collection: Collection, of: Followed) -> AbortHandle {
        let task = follow(
            self.cluster.clone(),
            collection,
            move |wire| Item::read(kind, wire),
            self.hints.subscribe(),
            (of, self.teller.clone()),
        );
        tokio::spawn(task).abort_handle()
    }

    /// A kind that is not there is looked for when something is heard of its definition.
    fn hear(&self, news: News<Option<String>>) {
        if let News::Set(Some(name)) = news {
            self.hints.send_modify(|last| {
                *Arc::make_mut(&mut last.defined).entry(name).or_default() += 1;
            });
        }
    }

    fn take(&mut self, of: &Followed, news: News<Item>) {
        let refer = matches!(of, Followed::Kind(Kind::BackendTLSPolicy | Kind::Gateway));
        self.collected.take(of, news);
        if refer {
            self.refer(&self.collected.wanted());
        }
        let now = Instant::now();
        let first = *self.first.get_or_insert(now);
        self.due = Some(if self.collected.waiting() >= MANY {
            now
        } else {
            (now + QUIET).min(first + LONGEST)
        });
    }

    /// Follows the single objects that are referred to, and no others.
    fn refer(&mut self, wanted: &BTreeSet<Key>) {
        if wanted.iter().eq(self.singles.keys()) {
            return;
        }
        self.singles.retain(|key, task| {
            let stays = wanted.contains(key);
            if !stays {
                task.abort();
            }
            stays
        });
        self.collected.follow(wanted);
        for key in wanted {
            if !self.singles.contains_key(key) {
                let all = resources::collection(key.kind);
                let one = all.one(&key.namespace, &key.name);
                let task = self.start(key.kind, one, Followed::One(key.clone()));
                self.singles.insert(key.clone(), task);
            }
        }
    }

    fn look_again(&mut self, request: Rescan) {
        let mut round = 0;
        self.hints.send_modify(|last| {
            last.round += 1;
            round = last.round;
        });
        self.asked.push((round, request));
        // What cannot be listed may have been known before.
        self.due = Some(Instant::now() + QUIET);
    }

    /// Gives on what is collected, and answers those whose round is over. `None` when the index is gone.
    async fn give(&mut self) -> Option<()> {
        (self.due, self.first) = (None, None);
        if let Some(batch) = self.collected.batch() {
            self.given = true;
            let (applied, generation) = oneshot::channel();
            let delivery = Delivery { batch, applied };
            self.deliveries.send(delivery).await.ok()?;
            self.generation = generation.await.ok()?;
        }
        for (request, result) in self.answerable() {
            // Whoever asked may have given up.
            let _ = request.send(result.map(|()| self.generation));
        }
        Some(())
    }

    fn answerable(&mut self) -> Vec<(Rescan, Result<(), String>)> {
        let mut over = Vec::new();
        for (round, request) in std::mem::take(&mut self.asked) {
            match self.collected.listed_in(round) {
                Ok(false) => self.asked.push((round, request)),
                Ok(true) => over.push((request, Ok(()))),
                Err(why) => over.push((request, Err(why))),
            }
        }
        over
    }

    fn remind(&self) {
        for (of, why) in self.collected.missing() {
            let why = why.unwrap_or("it was not listed yet");
            tracing::info!(missing = %of, why, "proxies have to wait");
        }
    }
}

#[cfg(test)]
mod tests;
