//! A folder of manifests as a source.
//!
//! A document that cannot be read is reported, and the objects its file gave before stay; a policy that was never read
//! denies. An object that is written twice counts once: the first file in order of their paths, the first document.

pub mod watch;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::parse::{documents, parse};
use super::{Batch, Event, Key, Object, Origin, Problem};

/// A file that was changed so shortly before it was read may have been changed again within the same tick of the file
/// system's clock: it is read again.
const SETTLED: Duration = Duration::from_secs(2);

/// The folder and what it held when it was last scanned.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    files: BTreeMap<Arc<str>, File>,
    live: HashMap<Key, (Object, Origin)>,
}

#[derive(Debug, Default)]
struct File {
    content: u64,
    /// What the file system said of what was read; none while that may not tell it from what comes next.
    stamp: Option<Stamp>,
    objects: Vec<(Object, Origin)>,
    /// For policies that cannot be read and are not among the objects.
    instead: Vec<(Object, Origin)>,
    problems: Vec<Problem>,
    unhandled: Vec<Problem>,
}

/// What the file system says of a file, which differs after every change of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// This, if it was made long enough before `now` to differ after the next change.
    fn settled(self, now: SystemTime) -> Option<Self> {
        let seconds = u64::try_from(self.changed.0).ok()?;
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds + 1);
        let since = now.duration_since(changed).ok()?;
        (since >= SETTLED).then_some(self)
    }
}

impl Folder {
    /// A folder that has not been scanned.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            files: BTreeMap::new(),
            live: HashMap::new(),
        }
    }

    /// The folder's path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads every `*.yaml`, `*.yml` and `*.json` below the folder and tells what changed since
    /// the last scan. Names that start with a dot are passed over.
    ///
    /// # Errors
    /// The folder itself cannot be read; nothing has changed then.
    pub fn scan(&mut self) -> io::Result<Batch> {
        self.scan_at(SystemTime::now())
    }

    fn scan_at(&mut self, now: SystemTime) -> io::Result<Batch> {
        let mut paths = BTreeMap::new();
        walk(&self.root, "", &mut paths)?;
        self.files.retain(|name, _| paths.contains_key(name));
        for (name, (path, stamp)) in paths {
            let known = self.files.get(&name);
            if known.is_some_and(|known| known.stamp == Some(stamp)) {
                continue;
            }
            match read_stamped(&path) {
                Ok((bytes, stamp)) => {
                    self.read(&name, &bytes);
                    if let Some(file) = self.files.get_mut(&name) {
                        file.stamp = stamp.settled(now);
                    }
                }
                // Removed between the walk and now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.files.remove(&name);
                }
                Err(error) => {
                    let file = self.files.entry(name.clone()).or_default();
                    (file.content, file.stamp) = (0, None);
                    file.problems = vec![whole(&name, format!("cannot be read: {error}"))];
                }
            }
        }
        Ok(self.compare())
    }

    fn read(&mut self, name: &Arc<str>, bytes: &[u8]) {
        let content = hash(bytes);
        let file = self.files.entry(name.clone()).or_default();
        if file.content == content {
            return;
        }
        let former = std::mem::take(file);
        file.content = content;
        let Ok(text) = std::str::from_utf8(bytes) else {
            file.problems = vec![whole(name, "is not UTF-8 text".to_owned())];
            file.objects = former.objects;
            return;
        };
        for document in documents(text) {
            let origin = |line| Origin {
                file: name.clone(),
                document: document.number,
                line,
            };
            let parsed = parse(&document);
            let at = origin(document.line);
            file.objects
                .extend(parsed.objects.into_iter().map(|o| (o, at.clone())));
            file.instead
                .extend(parsed.instead.into_iter().map(|o| (o, at.clone())));
            file.unhandled
                .extend(parsed.unhandled.into_iter().map(|object| Problem {
                    origin: at.clone(),
                    object,
                    error: "not handled yet".to_owned(),
                }));
            file.problems
                .extend(parsed.errors.into_iter().map(|e| Problem {
                    origin: origin(e.line),
                    object: e.object,
                    error: e.error,
                }));
        }
        if !file.problems.is_empty() {
            keep_former(file, former.objects);
            let File {
                objects, instead, ..
            } = file;
            instead.retain(|(one, _)| !objects.iter().any(|(it, _)| it.key() == one.key()));
            for problem in &mut file.problems {
                if file
                    .instead
                    .iter()
                    .any(|(it, _)| it.key().to_string() == problem.object)
                {
                    problem.error += "; until it can be read, it denies what it selects";
                }
            }
        }
    }

    /// Events since the last comparison.
    fn compare(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut now: HashMap<Key, (Object, Origin)> = HashMap::new();
        for file in self.files.values() {
            batch.problems.extend(file.problems.iter().cloned());
            batch.unhandled.extend(file.unhandled.iter().cloned());
            for (object, origin) in file.objects.iter().chain(&file.instead) {
                let key = object.key();
                if let Some((_, first)) = now.get(&key) {
                    batch.problems.push(Problem {
                        origin: origin.clone(),
                        object: key.to_string(),
                        error: format!(
                            "is also in {} document {}, which is the one that counts; remove one",
                            first.file, first.document
                        ),
                    });
                    continue;
                }
                now.insert(key, (object.clone(), origin.clone()));
            }
        }
        for key in self.live.keys() {
            if !now.contains_key(key) {
                batch.events.push(Event::Delete(key.clone()));
            }
        }
        for (key, (object, origin)) in &now {
            let same = self
                .live
                .get(key)
                .is_some_and(|(old, at)| old.same(object) && at == origin);
            if !same {
                batch
                    .events
                    .push(Event::Apply(object.clone(), origin.clone()));
            }
        }
        self.live = now;
        batch
    }
}

/// Objects of the former file that its broken successor does not define again.
fn keep_former(file: &mut File, former: Vec<(Object, Origin)>) {
    let defined: Vec<Key> = file.objects.iter().map(|(o, _)| o.key()).collect();
    file.objects.extend(
        former
            .into_iter()
            .filter(|(object, _)| !defined.contains(&object.key())),
    );
}

fn whole(file: &Arc<str>, error: String) -> Problem {
    Problem {
        origin: Origin {
            file: file.clone(),
            document: 0,
            line: 0,
        },
        object: String::new(),
        error,
    }
}

/// Never 0, which stands for content that was not read.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish().max(1)
}

/// What is in a file, and the stamp of the very file that it was in.
fn read_stamped(path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
    let mut file = fs::File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((bytes, stamp))
}

fn walk(
    folder: &Path,
    prefix: &str,
    found: &mut BTreeMap<Arc<str>, (PathBuf, Stamp)>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let path = entry.path();
        // Follows symbolic links: a mounted ConfigMap consists of them.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        let relative = format!("{prefix}{name}");
        if metadata.is_dir() {
            match walk(&path, &format!("{relative}/"), found) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        } else if [".yaml", ".yml", ".json"]
            .iter()
            .any(|extension| name.ends_with(extension))
        {
            found.insert(relative.into(), (path, Stamp::of(&metadata)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
