//! Drives a [`Watch`]: asks what it says, and passes on what comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::collection::Collection;
use super::lines::{End, Lines};
use super::watch::{Ask, Follows, Heard, Watch};
use super::{Cluster, Failure};
use crate::source::parse::Wire;

/// A watch is asked for anew after this long, and up to as long again.
const TIMEOUT: Duration = Duration::from_secs(240);
/// Bookmarks come every minute; without one for this long the connection is taken for dead.
const SILENCE: Duration = Duration::from_secs(90);
/// While objects of a list are streamed.
const LIST_SILENCE: Duration = Duration::from_secs(10);

/// What happens in a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News<T> {
    /// A list begins, asked for in this round: what is not in it is gone when it is complete.
    Begin(u64),
    /// An object as it is now.
    Set(T),
    /// An object that is gone, as it was last.
    Gone(T),
    /// The list that began last is complete.
    Complete,
    /// In this round the server does not know the resource: there are no objects of it.
    Absent(u64),
    /// The server does not tell, for this reason. What is known stays.
    Trouble(String),
    /// It tells again.
    Well,
}

/// What those who follow are told besides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hint {
    /// A larger number lists everything anew.
    pub round: u64,
    /// How often something was heard of the definition of a kind, by its name: one that was not there may be.
    pub defined: Arc<BTreeMap<String, u64>>,
}

/// Follows a collection until nobody listens. Its news carry `id`.
pub async fn follow<T: Send, K: Clone + Send>(
    cluster: Cluster,
    collection: Collection,
    decode: impl Fn(Wire<'_>) -> T + Send,
    hints: watch::Receiver<Hint>,
    (id, news): (K, mpsc::Sender<(K, News<T>)>),
) {
    let mut follower = Follower {
        watch: Watch::new(collection.versions.len()),
        cluster,
        collection,
        decode,
        hints,
        hint: Hint::default(),
        id,
        news,
        troubled: false,
    };
    // Whoever asked for news may go at any time.
    let _ = follower.run().await;
}

struct Follower<D, T, K> {
    watch: Watch,
    cluster: Cluster,
    collection: Collection,
    decode: D,
    hints: watch::Receiver<Hint>,
    hint: Hint,
    id: K,
    news: mpsc::Sender<(K, News<T>)>,
    troubled: bool,
}

/// Nobody listens any more.
struct Alone;

impl<D: Fn(Wire<'_>) -> T, T, K: Clone> Follower<D, T, K> {
    async fn run(&mut self) -> Result<(), Alone> {
        loop {
            self.look()?;
            let (ask, follows) = self.watch.next(Instant::now());
            self.follows(follows).await?;
            let version = self.watch.choice();
            match ask {
                Ask::Wait(until) => {
                    let mut hints = self.hints.clone();
                    tokio::select! {
                        () = tokio::time::sleep_until(until.into()) => {}
                        changed = hints.changed() => changed.map_err(|_| Alone)?,
                        () = self.news.closed() => return Err(Alone),
                    }
                }
                Ask::Page(from) => self.page(version, from.as_deref()).await?,
                Ask::Stream => {
                    let path = self.collection.stream(version, timeout());
                    self.stream(&path, LIST_SILENCE).await?;
                }
                Ask::Changes(since) => {
                    let path = self.collection.changes(version, &since, timeout());
                    self.stream(&path, SILENCE).await?;
                }
            }
        }
    }

    /// Heeds what it was told since the last question.
    fn look(&mut self) -> Result<(), Alone> {
        self.hints.has_changed().map_err(|_| Alone)?;
        let hint = self.hints.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.hint, hint);
        if self.hint.round != before.round {
            self.watch.again();
        }
        let name = self.collection.definition();
        if self.hint.defined.get(&name) != before.defined.get(&name) {
            self.watch.defined(Instant::now());
        }
        Ok(())
    }

    async fn page(&mut self, version: usize, from: Option<&str>) -> Result<(), Alone> {
        let path = self.collection.page(version, from);
        match self.cluster.read::<Page>(&path).await {
            Ok(page) => {
                self.well().await?;
                for item in &page.items {
                    let object = (self.decode)(Wire::Item(item));
                    self.tell(News::Set(object)).await?;
                }
                let heard = Heard::Page {
                    version: page.metadata.version,
                    next: page.metadata.next,
                };
                self.hear(heard).await
            }
            Err(failure) => self.failed(&failure).await,
        }
    }

    async fn stream(&mut self, path: &str, mut silence: Duration) -> Result<(), Alone> {
        let body = match self.cluster.stream(path).await {
            Ok(answer) => answer.into_body(),
            Err(failure) => return self.failed(&failure).await,
        };
        self.well().await?;
        self.hear(Heard::Open).await?;
        let mut lines = Lines::new(body);
        let mut hints = self.hints.clone();
        let round = self.hint.round;
        loop {
            let line = tokio::select! {
                line = lines.next(silence) => line,
                anew = hints.wait_for(|hint| hint.round != round) => {
                    return anew.map(drop).map_err(|_| Alone);
                }
                () = self.news.closed() => return Err(Alone),
            };
            let heard = match line {
                Ok(line) => self.line(&line).await?,
                Err(End::Closed) => Heard::Closed,
                Err(End::Silent(_)) => Heard::Silent,
                Err(end) => {
                    let failure = Failure::Unreachable(end.to_string());
                    return self.failed(&failure).await;
                }
            };
            match heard {
                Heard::Failed { .. } => return Ok(()),
                Heard::Closed | Heard::Silent => return self.hear(heard).await,
                Heard::Listed(_) => silence = SILENCE,
                _ => {}
            }
            self.hear(heard).await?;
        }
    }

    /// What a line says; its object is passed on. A failure has been heard already.
    async fn line(&mut self, line: &Bytes) -> Result<Heard, Alone> {
        let failed = Heard::Failed {
            status: None,
            after: None,
        };
        let event = match event(line) {
            Ok(event) => event,
            Err(error) => {
                let failure = Failure::Unreadable(format!("an event: {error}"));
                self.failed(&failure).await?;
                return Ok(failed);
            }
        };
        let version = event.object.metadata.version.as_str();
        let version = version.unwrap_or_default().to_owned();
        match event.r#type.as_str() {
            "ADDED" | "MODIFIED" => {
                let object = (self.decode)(Wire::Event(line));
                self.tell(News::Set(object)).await?;
            }
            "DELETED" => {
                let object = (self.decode)(Wire::Event(line));
                self.tell(News::Gone(object)).await?;
            }
            "BOOKMARK" if ends_list(line) => return Ok(Heard::Listed(version)),
            "BOOKMARK" => {}
            "ERROR" => {
                let failure = Failure::Refused {
                    status: event.object.code.unwrap_or(500),
                    reason: event.object.reason.unwrap_or_default(),
                    message: event.object.message.unwrap_or_default(),
                    after: None,
                };
                self.failed(&failure).await?;
                return Ok(failed);
            }
            other => tracing::debug!(other, "an unknown kind of event"),
        }
        if version.is_empty() {
            return Ok(Heard::Open);
        }
        Ok(Heard::Moved(version))
    }

    async fn failed(&mut self, failure: &Failure) -> Result<(), Alone> {
        let path = self.collection.path(self.watch.choice());
        match failure.status() {
            // Part of every watch's life.
            Some(404 | 410 | 422) => tracing::debug!(%path, %failure, "not followed"),
            _ if self.troubled => tracing::debug!(%path, %failure, "still not followed"),
            _ => {
                tracing::warn!(%path, %failure, "not followed for now");
                self.troubled = true;
                self.tell(News::Trouble(failure.to_string())).await?;
            }
        }
        self.hear(Heard::Failed {
            status: failure.status(),
            after: failure.after(),
        })
        .await
    }

    async fn well(&mut self) -> Result<(), Alone> {
        if std::mem::take(&mut self.troubled) {
            let path = self.collection.path(self.watch.choice());
            tracing::info!(%path, "followed again");
            self.tell(News::Well).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, heard: Heard) -> Result<(), Alone> {
        let jitter = rand::rng().random();
        let follows = self.watch.hear(heard, Instant::now(), jitter);
        self.follows(follows).await
    }

    async fn follows(&mut self, follows: Follows) -> Result<(), Alone> {
        let round = self.hint.round;
        match follows {
            Follows::Nothing => Ok(()),
            Follows::Begin => self.tell(News::Begin(round)).await,
            Follows::Complete => self.tell(News::Complete).await,
            Follows::Absent => self.tell(News::Absent(round)).await,
        }
    }

    async fn tell(&self, news: News<T>) -> Result<(), Alone> {
        let news = (self.id.clone(), news);
        self.news.send(news).await.map_err(|_| Alone)
    }
}

fn timeout() -> Duration {
    TIMEOUT.mul_f64(1.0 + rand::rng().random::<f64>())
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    #[serde(default, deserialize_with = "nullable")]
    items: Vec<Value>,
}

/// Go writes an empty list as `null` in places.
fn nullable<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Value>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(rename = "resourceVersion")]
    version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    object: About,
}

/// What is read of an event's object to go on, whatever else is wrong with it.
#[derive(Deserialize)]
struct About {
    #[serde(default)]
    metadata: AboutMetadata,
    code: Option<u16>,
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize, Default)]
struct AboutMetadata {
    #[serde(rename = "resourceVersion", default)]
    version: Value,
}

/// An event, as far as it can be read: an object that is all wrong must not hide those after it.
fn event(line: &[u8]) -> Result<Event, serde_json::Error> {
    serde_json::from_slice(line).or_else(|_| {
        let event: Value = serde_json::from_slice(line)?;
        let version = event["object"]["metadata"]["resourceVersion"].clone();
        Ok(Event {
            r#type: event["type"].as_str().unwrap_or_default().to_owned(),
            object: About {
                metadata: AboutMetadata { version },
                code: None,
                reason: None,
                message: None,
            },
        })
    })
}

/// Whether a bookmark says that all objects have been sent.
fn ends_list(line: &[u8]) -> bool {
    let event: Value = serde_json::from_slice(line).unwrap_or_default();
    event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
}
