use prost_types::Any;
use tempfile::TempDir;

use super::*;

fn push(url: &str, resources: &[(&str, &str)], removed: &[&str]) -> DeltaDiscoveryResponse {
    let resource = |(name, version): &(&str, &str)| Resource {
        name: (*name).to_owned(),
        version: (*version).to_owned(),
        resource: Some(Any {
            type_url: url.to_owned(),
            value: version.as_bytes().to_vec(),
        }),
        ..Resource::default()
    };
    DeltaDiscoveryResponse {
        type_url: url.to_owned(),
        resources: resources.iter().map(resource).collect(),
        removed_resources: removed.iter().map(|&name| name.to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn record(url: &str, resources: &[(&str, &str)], removed: &[&str], rejected: &[&str]) -> Record {
    Record {
        push: push(url, resources, removed),
        rejected: rejected.iter().map(|&name| name.to_owned()).collect(),
    }
}

fn restored(folder: &TempDir) -> Option<Vec<Record>> {
    let restored = Journal::new(folder.path()).restore();
    restored.map(|(records, _)| records)
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("discovery")
}

#[test]
fn what_was_heard_is_there_for_the_next_process() {
    let folder = TempDir::new().expect("a folder");
    assert_eq!(restored(&folder), None);
    let heard = [
        record("A", &[("x", "1"), ("y", "1")], &[], &["y"]),
        record("B", &[("z", "1")], &[], &[]),
    ];
    let mut journal = Journal::new(folder.path());
    for record in &heard {
        journal.append(record);
    }
    assert_eq!(restored(&folder), None, "not everything was heard");
    journal.complete();
    assert!(journal.restore().is_none(), "it has heard itself");
    assert_eq!(restored(&folder).as_deref(), Some(&heard[..]));
    // The next one goes on where this one ended.
    let mut next = Journal::new(folder.path());
    assert!(next.restore().is_some());
    let more = record("A", &[], &["x"], &[]);
    next.append(&more);
    let all = [&heard[..], &[more]].concat();
    assert_eq!(restored(&folder), Some(all));
    // One that is heard anew replaces all that.
    let mut fresh = Journal::new(folder.path());
    fresh.append(&heard[1]);
    fresh.complete();
    assert_eq!(restored(&folder).as_deref(), Some(&heard[1..]));
}

#[test]
fn nobody_else_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().expect("a folder");
    let inner = folder.path().join("state");
    let mut journal = Journal::new(&inner);
    journal.append(&record("A", &[("x", "1")], &[], &[]));
    journal.complete();
    for (path, wanted) in [(inner.clone(), 0o700), (inner.join("discovery"), 0o600)] {
        let mode = fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, wanted);
    }
}

#[test]
fn what_is_not_whole_is_not_used() {
    let folder = TempDir::new().expect("a folder");
    let mut journal = Journal::new(folder.path());
    let first = record("A", &[("x", "1")], &[], &[]);
    journal.append(&first);
    let good = journal.size as usize;
    journal.append(&record("A", &[("y", "1")], &[], &[]));
    journal.complete();
    let whole = fs::read(file(&folder)).expect("a file");
    for length in good..whole.len() {
        fs::write(file(&folder), &whole[..length]).expect("written");
        assert_eq!(restored(&folder), Some(vec![first.clone()]), "{length}");
        assert_eq!(
            fs::metadata(file(&folder)).expect("there").len(),
            good as u64
        );
    }
    for at in good..whole.len() {
        let mut other = whole.clone();
        other[at] ^= 1;
        fs::write(file(&folder), other).expect("written");
        assert_eq!(restored(&folder), Some(vec![first.clone()]), "{at}");
    }
    fs::write(file(&folder), b"something else").expect("written");
    assert_eq!(restored(&folder), None);
    assert!(!file(&folder).exists());
}

/// A record after which more of its type follows.
fn piece(mut record: Record) -> Record {
    record.push.system_version_info = MORE_FOLLOWS.to_owned();
    record
}

#[test]
fn who_has_heard_only_pieces_falls_back_on_what_was_heard_before() {
    let folder = TempDir::new().expect("a folder");
    let before = record("A", &[("x", "1")], &[], &[]);
    let mut earlier = Journal::new(folder.path());
    earlier.append(&before);
    earlier.complete();
    let own = piece(record("A", &[("y", "2")], &[], &[]));
    let mut journal = Journal::new(folder.path());
    journal.append(&own);
    let (records, _) = journal.restore().expect("the earlier process's");
    let all = [before, own];
    assert_eq!(records, all);
    assert!(journal.restore().is_none(), "once");
    assert_eq!(restored(&folder).as_deref(), Some(&all[..]));
}

#[test]
fn what_is_void_is_left_out() {
    let heard = vec![
        record("B", &[("p", "1"), ("q", "1")], &[], &[]),
        record("A", &[("x", "1"), ("y", "1"), ("z", "1")], &[], &["z"]),
        record("A", &[("x", "2"), ("y", "2")], &[], &["y"]),
        record("B", &[("p", "2")], &["q", "p"], &["p"]),
        record("A", &[("x", "3")], &["z"], &[]),
        record("C", &[], &[], &[]),
        record("D", &[("x", "1")], &[], &[]),
        record("D", &[], &["x"], &[]),
    ];
    let newest = vec![
        // A refused removal leaves what was there.
        piece(record("B", &[("p", "1")], &[], &[])),
        record("B", &[("p", "2")], &[], &["p"]),
        piece(record("A", &[("x", "3"), ("y", "1")], &[], &[])),
        record("A", &[("y", "2")], &[], &["y"]),
        // That there is nothing was heard too.
        record("C", &[], &[], &[]),
        record("D", &[], &[], &[]),
    ];
    assert_eq!(fold(heard), newest);
    assert_eq!(fold(newest.clone()), newest);
}

#[test]
fn a_process_that_ends_leaves_the_file_of_its_successor_alone() {
    let folder = TempDir::new().expect("a folder");
    let heard = |journal: &mut Journal, version: &str| {
        journal.append(&record("A", &[("x", version)], &[], &[]));
        journal.complete();
    };
    let mut old = Journal::new(folder.path());
    heard(&mut old, "1");
    let mut new = Journal::new(folder.path());
    heard(&mut new, "2");
    let long = "v".repeat(SMALL as usize);
    heard(&mut old, &long);
    heard(&mut old, &long);
    heard(&mut new, "3");
    let newest = ["2", "3"].map(|version| record("A", &[("x", version)], &[], &[]));
    assert_eq!(restored(&folder).as_deref(), Some(&newest[..]));
}

#[test]
fn a_file_does_not_grow_with_time() {
    let folder = TempDir::new().expect("a folder");
    let mut journal = Journal::new(folder.path());
    journal.complete();
    let long = "v".repeat(100_000);
    for round in 0..200 {
        journal.append(&record("A", &[("x", &format!("{round}{long}"))], &[], &[]));
        journal.complete();
        assert!(journal.size < 2 * SMALL);
    }
    let newest = record("A", &[("x", &format!("199{long}"))], &[], &[]);
    let records = restored(&folder).expect("records");
    assert_eq!(records.last(), Some(&newest));
}
