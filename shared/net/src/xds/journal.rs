//! What the control plane has said, kept on disk for a process that starts while nobody can say it again.
//!
//! The file holds the pushes in their order, as they came, each with its length and checksum. Applying them again
//! leads to the same state, refusals included. What came later about the same resource makes
//! earlier records void; when most are, the file is written anew.
//!
//! An earlier state is replaced once the control plane has been heard on every type, so that it is not lost to
//! a process that hears only half. A file that cannot be written is removed: a state with gaps
//! is worse than none.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use ambit_proto::xds::{DeltaDiscoveryResponse, MORE_FOLLOWS, Resource};
use prost::Message;

use crate::keep;

/// The first bytes of a file: what it is, and its format.
const MAGIC: &[u8; 8] = b"ambitxd1";
/// Length and checksum of a record.
const HEAD: usize = 8;
/// A file below this is not written anew, in bytes.
const SMALL: u64 = 4 << 20;
/// Resources in one record of a file that was written anew.
const CHUNK: usize = 1_000;

/// A push, and the names in it that were refused.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(message, required, tag = "1")]
    pub(super) push: DeltaDiscoveryResponse,
    #[prost(string, repeated, tag = "2")]
    pub(super) rejected: Vec<String>,
}

/// The file, while the process runs.
pub(super) struct Journal {
    path: PathBuf,
    state: State,
    /// Bytes in the file.
    size: u64,
    /// Bytes at which it is written anew.
    limit: u64,
}

enum State {
    /// Nothing was written yet; an earlier process's file may be there.
    Idle,
    /// Beside an earlier process's file.
    Draft(File),
    /// In its place.
    Live(File),
    /// Given up.
    Off,
}

impl Journal {
    /// In a folder that is made when it is not there.
    pub(super) fn new(folder: &std::path::Path) -> Self {
        let mut journal = Self {
            path: folder.join("discovery"),
            state: State::Idle,
            size: 0,
            limit: SMALL,
        };
        if let Err(error) = keep::folder(folder) {
            journal.give_up(&error);
        }
        journal
    }

    /// What an earlier process has heard, and after that what this one has, and how long ago the earlier one last did.
    /// Nothing once this one has heard everything itself.
    pub(super) fn restore(&mut self) -> Option<(Vec<Record>, Duration)> {
        let own = match &self.state {
            State::Idle => Ok(Vec::new()),
            State::Draft(_) => self.drafted(),
            State::Live(_) | State::Off => return None,
        };
        match own.and_then(|own| self.reopen(own)) {
            Ok(restored) => Some(restored),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.give_up(&error);
                None
            }
        }
    }

    /// What was kept beside an earlier process's file.
    fn drafted(&self) -> io::Result<Vec<Record>> {
        Ok(read(&mut File::open(keep::draft(&self.path))?)?.0)
    }

    /// Goes on with an earlier process's file, to which `own` is added.
    fn reopen(&mut self, own: Vec<Record>) -> io::Result<(Vec<Record>, Duration)> {
        let mut file = File::options().read(true).append(true).open(&self.path)?;
        let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
        let (mut records, good) = read(&mut file)?;
        // A record that was being written when its process died.
        file.set_len(good)?;
        self.state = State::Live(file);
        self.size = good;
        self.limit = SMALL.max(good * 2);
        for record in &own {
            self.append(record);
        }
        records.extend(own);
        Ok((records, age))
    }

    /// Keeps a push.
    pub(super) fn append(&mut self, record: &Record) {
        if let Err(error) = self.write(record) {
            self.give_up(&error);
        }
    }

    /// All types have been heard: what an earlier process had heard is void.
    pub(super) fn complete(&mut self) {
        if let State::Draft(_) = self.state {
            match fs::rename(keep::draft(&self.path), &self.path) {
                Ok(()) => self.state = State::Live(self.take_file()),
                Err(error) => self.give_up(&error),
            }
        }
    }

    fn take_file(&mut self) -> File {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Draft(file) | State::Live(file) => file,
            State::Idle | State::Off => unreachable!("there is a file"),
        }
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        if let State::Idle = self.state {
            let mut file = keep::create(&keep::draft(&self.path))?;
            file.write_all(MAGIC)?;
            self.size = MAGIC.len() as u64;
            self.state = State::Draft(file);
        }
        let (State::Draft(file) | State::Live(file)) = &mut self.state else {
            return Ok(());
        };
        let bytes = encode(record);
        file.write_all(&bytes)?;
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            self.compact()?;
        }
        Ok(())
    }

    /// Writes the file anew, without what is void; unless another process, which will outlive this one, has put its
    /// own in the place.
    fn compact(&mut self) -> io::Result<()> {
        let State::Live(file) = &self.state else {
            return Ok(());
        };
        if file.metadata()?.ino() != fs::metadata(&self.path)?.ino() {
            self.state = State::Off;
            return Ok(());
        }
        let (records, _) = read(&mut File::open(&self.path)?)?;
        let mut content = MAGIC.to_vec();
        for record in fold(records) {
            content.extend(encode(&record));
        }
        let draft = keep::draft(&self.path);
        let mut file = keep::create(&draft)?;
        file.write_all(&content)?;
        fs::rename(draft, &self.path)?;
        self.state = State::Live(file);
        self.size = content.len() as u64;
        self.limit = SMALL.max(self.size * 2);
        Ok(())
    }

    fn give_up(&mut self, error: &io::Error) {
        self.state = State::Off;
        let path = self.path.display();
        tracing::warn!(%path, %error, "the state on disk is given up: a restart while the control plane is gone starts with nothing");
        // What cannot be removed is not there, or was warned of.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(keep::draft(&self.path));
    }
}

fn encode(record: &Record) -> Vec<u8> {
    let body = record.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// All records up to the first that is not whole, and where that begins.
fn read(file: &mut File) -> io::Result<(Vec<Record>, u64)> {
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    let mut rest = content.strip_prefix(MAGIC).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "it is no journal of this format",
        )
    })?;
    let mut records = Vec::new();
    while let Some((record, after)) = decode(rest) {
        records.push(record);
        rest = after;
    }
    let good = content.len() - rest.len();
    Ok((records, good as u64))
}

fn decode(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let (length, sum) = head.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let (body, rest) = rest.split_at_checked(length)?;
    if crc32fast::hash(body).to_le_bytes() != *sum {
        return None;
    }
    Some((Record::decode(body).ok()?, rest))
}

/// The newest of every resource that was taken, and of every one that was refused since.
#[derive(Default)]
struct Newest {
    taken: BTreeMap<String, Resource>,
    refused: BTreeMap<String, Resource>,
}

/// Fewer records that lead to the same state. Types stay in their order: the control plane sends policies before
/// what refers to them.
fn fold(records: Vec<Record>) -> Vec<Record> {
    let mut types: Vec<(String, Newest)> = Vec::new();
    for Record { push, rejected } in records {
        let at = types.iter().position(|(url, _)| *url == push.type_url);
        let at = at.unwrap_or_else(|| {
            types.push((push.type_url.clone(), Newest::default()));
            types.len() - 1
        });
        let newest = &mut types[at].1;
        let rejected: HashSet<String> = rejected.into_iter().collect();
        for name in push.removed_resources {
            if !rejected.contains(&name) {
                newest.taken.remove(&name);
                newest.refused.remove(&name);
            }
        }
        for resource in push.resources {
            let name = resource.name.clone();
            if rejected.contains(&name) {
                newest.refused.insert(name, resource);
            } else {
                newest.refused.remove(&name);
                newest.taken.insert(name, resource);
            }
        }
    }
    types.into_iter().flat_map(pieces).collect()
}

/// The records of a type: at least one, which says that it was heard, and none but the last is the whole.
fn pieces((url, newest): (String, Newest)) -> Vec<Record> {
    let taken = chunks(&url, newest.taken, false);
    let mut all = [taken, chunks(&url, newest.refused, true)].concat();
    if all.is_empty() {
        all.push(record(&url, &[], false));
    }
    if let Some((_, before)) = all.split_last_mut() {
        for record in before {
            record.push.system_version_info = MORE_FOLLOWS.to_owned();
        }
    }
    all
}

fn chunks(url: &str, resources: BTreeMap<String, Resource>, refused: bool) -> Vec<Record> {
    let resources: Vec<Resource> = resources.into_values().collect();
    let chunks = resources.chunks(CHUNK);
    chunks.map(|some| record(url, some, refused)).collect()
}

fn record(url: &str, resources: &[Resource], refused: bool) -> Record {
    Record {
        rejected: match refused {
            true => resources.iter().map(|it| it.name.clone()).collect(),
            false => Vec::new(),
        },
        push: DeltaDiscoveryResponse {
            type_url: url.to_owned(),
            resources: resources.to_vec(),
            ..DeltaDiscoveryResponse::default()
        },
    }
}
