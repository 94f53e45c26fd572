//! Logs of containers: what the lab keeps of them, which is a file of all runs without times.

use std::io::{self, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Pod;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;

use super::{Answer, text};
use crate::api::Key;
use crate::cluster::Cluster;

/// How often a log that is followed is looked at.
const PAUSE: Duration = Duration::from_millis(100);
const CHUNK: usize = 64 << 10;

/// What somebody wants of a log.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    follow: bool,
    /// Only this many lines, the last ones.
    tail: Option<u64>,
    /// At most so many bytes.
    limit: u64,
}

impl Wanted {
    /// As `PodLogOptions` are in a query.
    ///
    /// # Errors
    /// What the lab does not have.
    fn parse(query: &str) -> Result<Self, String> {
        let mut wanted = Self {
            follow: false,
            tail: None,
            limit: u64::MAX,
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        for (name, value) in pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
            let number = || {
                let number: Result<u64, _> = value.parse();
                number.map_err(|_| format!("{name}: {value:?} is no number"))
            };
            match (name, value) {
                ("follow", _) => wanted.follow = value == "true",
                ("tailLines", _) => wanted.tail = Some(number()?),
                ("limitBytes", _) => wanted.limit = number()?,
                ("stream", "All") | ("previous" | "timestamps", "false") => {}
                _ => {
                    return Err(format!(
                        "{name}: a log of the lab is of all runs and both streams, without times"
                    ));
                }
            }
        }
        Ok(wanted)
    }
}

/// Answers with the log of a container.
pub(super) async fn answer(
    cluster: &Arc<Cluster>,
    pod: &Pod,
    container: &str,
    query: &str,
) -> Result<Answer, Box<Answer>> {
    let bad = |said: &str| text(StatusCode::BAD_REQUEST, said);
    let wanted = Wanted::parse(query).map_err(|said| bad(&said))?;
    let key = Key::of(&pod.metadata);
    if !has(pod, container) {
        return Err(bad(&format!("pod {key} has no container {container}")));
    }
    let (file, from) = match open(&cluster.pod_log(&key, container), wanted.tail).await {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(bad(&format!(
                "container {container} of {key} has not started"
            )));
        }
        Err(error) => return Err(text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())),
    };
    let (chunks, read) = mpsc::channel(1);
    let (cluster, uid) = (Arc::clone(cluster), pod.metadata.uid.clone());
    tokio::spawn(async move {
        let stays = || {
            let same = |pod: &Pod| pod.metadata.uid == uid;
            cluster.read(|store| store.pods.get(&key).is_some_and(same))
        };
        copy(file, from, &wanted, stays, &chunks).await;
    });
    let mut answer = Response::new(StreamBody::new(ReceiverStream::new(read)).boxed_unsync());
    let kind = HeaderValue::from_static("text/plain");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(answer)
}

fn has(pod: &Pod, container: &str) -> bool {
    pod.spec.iter().any(|spec| {
        let init = spec.init_containers.iter().flatten();
        spec.containers
            .iter()
            .chain(init)
            .any(|it| it.name == container)
    })
}

type Chunk = io::Result<Frame<Bytes>>;

/// Sends a log from a place on until its end; when it is followed, until the pod is gone, or nobody reads.
async fn copy(
    mut file: File,
    from: u64,
    wanted: &Wanted,
    stays: impl Fn() -> bool,
    chunks: &mpsc::Sender<Chunk>,
) {
    if let Err(error) = file.seek(SeekFrom::Start(from)).await {
        let _ = chunks.send(Err(error)).await;
        return;
    }
    let mut left = wanted.limit;
    while left > 0 {
        // What a pod says last is written before it is gone.
        let last = !(wanted.follow && stays());
        let mut chunk = Vec::with_capacity(CHUNK);
        let most = left.min(CHUNK as u64);
        let read = (&mut file).take(most).read_to_end(&mut chunk).await;
        left -= chunk.len() as u64;
        match read {
            Ok(0) if last => return,
            Ok(0) => tokio::select! {
                () = sleep(PAUSE) => {}
                () = chunks.closed() => return,
            },
            Ok(_) => {
                if chunks.send(Ok(Frame::data(chunk.into()))).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let _ = chunks.send(Err(error)).await;
                return;
            }
        }
    }
}

/// The file, and where its last lines begin.
async fn open(path: &Path, lines: Option<u64>) -> io::Result<(File, u64)> {
    let mut file = File::open(path).await?;
    let from = match lines {
        Some(lines) => tail(&mut file, lines).await?,
        None => 0,
    };
    Ok((file, from))
}

/// Where the last `lines` lines begin, of which the very last may not have ended yet.
async fn tail(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut found = 0;
    let mut block = Vec::with_capacity(CHUNK);
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        file.seek(SeekFrom::Start(start)).await?;
        block.clear();
        let part = AsyncReadExt::take(&mut *file, end - start);
        let read = { part }.read_to_end(&mut block).await?;
        for (index, byte) in block[..read].iter().enumerate().rev() {
            let after = start + index as u64 + 1;
            // What ends the last line begins none.
            if *byte == b'\n' && after < length {
                found += 1;
                if found >= lines {
                    return Ok(after);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_the_lab_has_is_understood() {
        let wanted = |follow, tail, limit| Wanted {
            follow,
            tail,
            limit,
        };
        for (query, expected) in [
            ("", wanted(false, None, u64::MAX)),
            ("follow=true&tailLines=3", wanted(true, Some(3), u64::MAX)),
            ("limitBytes=5&stream=All", wanted(false, None, 5)),
        ] {
            assert_eq!(Wanted::parse(query), Ok(expected), "{query}");
        }
        for query in [
            "previous=true",
            "sinceSeconds=1",
            "tailLines=-1",
            "stream=Stderr",
        ] {
            assert!(Wanted::parse(query).is_err(), "{query}");
        }
    }

    #[tokio::test]
    async fn last_lines_are_found() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let long = "x".repeat(CHUNK);
        let said = format!("one\n{long}\nthree\nfour");
        file.write_all(said.as_bytes()).expect("written");
        for (lines, expected) in [
            (0, String::new()),
            (1, "four".to_owned()),
            (2, "three\nfour".to_owned()),
            (3, format!("{long}\nthree\nfour")),
            (9, said.clone()),
        ] {
            let (_, from) = open(file.path(), Some(lines)).await.expect("it is there");
            assert_eq!(
                said[usize::try_from(from).expect("small")..],
                expected,
                "{lines}"
            );
        }
        file.write_all(b"\n").expect("written");
        let (_, from) = open(file.path(), Some(1)).await.expect("it is there");
        assert_eq!(said[usize::try_from(from).expect("small")..], *"four");
    }

    #[tokio::test]
    async fn a_log_that_is_followed_ends_with_its_pod() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"one\n").expect("written");
        let (opened, from) = open(file.path(), None).await.expect("it is there");
        let wanted = Wanted::parse("follow=true&limitBytes=7").expect("a query");
        let (chunks, mut read) = mpsc::channel(1);
        let (gone, pod) = tokio::sync::watch::channel(true);
        let copied = tokio::spawn(async move {
            copy(opened, from, &wanted, || *pod.borrow(), &chunks).await;
        });
        let mut next = async || {
            let chunk: Option<Chunk> = read.recv().await;
            chunk.map(|it| it.expect("read").into_data().expect("data"))
        };
        assert_eq!(next().await.as_deref(), Some(&b"one\n"[..]));
        file.write_all(b"two\n").expect("written");
        assert_eq!(next().await.as_deref(), Some(&b"two"[..]), "the limit");
        assert_eq!(next().await, None);
        copied.await.expect("it ends");

        let (opened, from) = open(file.path(), Some(1)).await.expect("it is there");
        let wanted = Wanted::parse("follow=true").expect("a query");
        let (chunks, mut read) = mpsc::channel(1);
        let pod = gone.subscribe();
        let copied = tokio::spawn(async move {
            copy(opened, from, &wanted, || *pod.borrow(), &chunks).await;
        });
        assert!(read.recv().await.is_some());
        gone.send_replace(false);
        assert!(read.recv().await.is_none(), "the pod is gone");
        copied.await.expect("it ends");
    }
}
