//! Installing into folders, and keeping what was installed.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use super::*;

const LIST: &str = r#"{"cniVersion": "1.0.0", "name": "k8s", "plugins": [{"type": "ptp"}]}"#;
const SINGLE: &str = r#"{"cniVersion": "1.0.0", "name": "k8s", "type": "ptp"}"#;

struct Host {
    folder: TempDir,
    installation: Installation,
}

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |name: &str| folder.path().join(name);
        for name in ["bin", "conf"] {
            fs::create_dir(of(name)).expect("a folder");
        }
        fs::write(of("program"), "version 1").expect("written");
        let installation = Installation {
            program: of("program"),
            bin: of("bin"),
            conf: of("conf"),
            plugin: json!({"type": "ambit-cni"}),
            over: Arc::default(),
        };
        let host = Self {
            folder,
            installation,
        };
        for (name, text) in files {
            host.write(name, text);
        }
        host
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.installation.conf.join(name), text).expect("written");
    }

    /// Types of the plugins of a configuration.
    fn plugins(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.installation.conf.join(name)).expect("a file");
        let list: Value = serde_json::from_str(&text).expect("JSON");
        let plugins = list["plugins"].as_array().expect("a list").iter();
        let types = plugins.map(|plugin| plugin["type"].as_str().expect("a type").to_owned());
        types.collect()
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join(folder)).expect("a folder");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }
}

#[test]
fn the_plugin_is_installed_once_and_removed_without_a_trace() {
    let host = Host::new(&[
        ("10-a.conflist", LIST),
        ("20-b.conflist", LIST),
        ("note", ""),
    ]);
    assert_eq!(host.installation.install(), Ok(true));
    assert_eq!(host.installation.install(), Ok(false));
    assert_eq!(host.plugins("10-a.conflist"), ["ptp", "ambit-cni"]);
    assert_eq!(host.plugins("20-b.conflist"), ["ptp"]);
    assert_eq!(host.names("bin"), ["ambit-cni"]);
    assert_eq!(
        host.names("conf"),
        ["10-a.conflist", "20-b.conflist", "note"]
    );

    fs::write(host.folder.path().join("program"), "version 2").expect("written");
    assert_eq!(host.installation.install(), Ok(true));
    let binary = fs::read_to_string(host.installation.bin.join("ambit-cni"));
    assert_eq!(binary.expect("a binary"), "version 2");

    for _ in 0..2 {
        assert_eq!(host.installation.remove(), Ok(()));
        assert_eq!(host.plugins("10-a.conflist"), ["ptp"]);
        assert_eq!(host.names("bin"), [""; 0]);
        assert_eq!(
            host.names("conf"),
            ["10-a.conflist", "20-b.conflist", "note"]
        );
    }
}

#[test]
fn a_single_configuration_becomes_a_list_and_comes_back() {
    let host = Host::new(&[("10-a.conf", SINGLE)]);
    for _ in 0..2 {
        assert_eq!(host.installation.install(), Ok(true));
        assert_eq!(host.plugins("10-a.conflist"), ["ptp", "ambit-cni"]);
        assert_eq!(
            host.names("conf"),
            ["10-a.conf.before-ambit", "10-a.conflist"]
        );
        // Its owner writes it again.
        host.write("10-a.conf", SINGLE);
    }
    assert_eq!(host.installation.install(), Ok(true));
    assert_eq!(host.installation.remove(), Ok(()));
    assert_eq!(host.names("conf"), ["10-a.conf"]);
    let back = fs::read_to_string(host.installation.conf.join("10-a.conf"));
    assert_eq!(back.expect("a file"), SINGLE);
}

/// Whoever keeps it installed sees the file change as it is removed.
#[test]
fn what_was_removed_is_not_installed_again() {
    let host = Host::new(&[("10-a.conflist", LIST)]);
    let kept = host.installation.clone();
    assert_eq!(kept.install(), Ok(true));
    assert_eq!(host.installation.remove(), Ok(()));
    assert_eq!(kept.install(), Ok(false));
    assert_eq!(host.plugins("10-a.conflist"), ["ptp"]);
    assert_eq!(host.names("bin"), [""; 0]);
}

#[test]
fn what_is_malformed_is_named_and_left_alone() {
    let cases = [
        (vec![], "conf: no network configuration is there yet"),
        (
            vec![("10-a.conflist", "{"), ("20-b.conflist", LIST)],
            "conf/10-a.conflist: EOF while parsing an object at line 1 column 1",
        ),
    ];
    for (files, reason) in cases {
        let host = Host::new(&files);
        let trouble = host.installation.install().expect_err("malformed");
        let place = format!("{}/", host.folder.path().display());
        assert_eq!(trouble.to_string().replace(&place, ""), reason);
        for (name, text) in files {
            let now = fs::read_to_string(host.installation.conf.join(name));
            assert_eq!(now.expect("a file"), text);
        }
    }
}

#[tokio::test]
async fn the_plugin_stays_installed_whoever_writes_the_file() {
    let host = Host::new(&[("10-a.conflist", "{")]);
    let readiness = Readiness::default();
    let ours = Arc::new(AtomicBool::new(true));
    let (kept, ready) = (host.installation.clone(), readiness.clone());
    let still = ours.clone();
    let keeper = tokio::spawn(async move {
        keep(kept, &ready, || still.load(Ordering::Relaxed)).await;
    });
    let installed = async |name: &str| {
        let path = host.installation.conf.join(name);
        let there = async {
            while !fs::read_to_string(&path).is_ok_and(|text| text.contains("ambit-cni")) {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, there).await.expect("installed");
    };
    let becomes = async |is_ready: bool| {
        let there = async {
            while readiness.is_ready() != is_ready {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, there)
            .await
            .expect("readiness changes");
    };
    becomes(false).await;
    assert_eq!(readiness.pending(), [TASK]);
    host.write("10-a.conflist", LIST);
    installed("10-a.conflist").await;
    becomes(true).await;
    host.write("10-a.conflist", LIST);
    installed("10-a.conflist").await;
    host.write("05-z.conflist", LIST);
    installed("05-z.conflist").await;
    host.write("05-z.conflist", "");
    becomes(false).await;

    // Another agent has taken over: what it does is not undone.
    ours.store(false, Ordering::Relaxed);
    host.write("05-z.conflist", LIST);
    let ended = tokio::time::timeout(Duration::from_secs(20), keeper).await;
    ended.expect("it ends").expect("no panic");
    assert_eq!(host.plugins("05-z.conflist"), ["ptp"]);
}
