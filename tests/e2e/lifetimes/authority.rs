//! The mesh's certificate authority in the lab, and another one that takes its place.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ambit_control::ca::material::Pems;
use ambit_lab::harness::Lab;
use serde_json::Value;
use x509_parser::pem::Pem;

/// Where the control plane has it.
const FOLDER: &str = "/run/ambit-lab/mesh/ca";

/// An authority, and where its files are for who asks with them.
pub(super) struct Authority {
    pub(super) pems: Pems,
    pub(super) folder: PathBuf,
}

impl Authority {
    /// The one that signs in a lab.
    pub(super) fn of(lab: &Lab, folder: PathBuf) -> Self {
        let read = |name: &str| {
            let path = format!("{FOLDER}/{name}");
            lab.exec("node/node-1", &["cat", &path]).success()
        };
        let pems = Pems {
            ca_cert: read("ca-cert.pem"),
            ca_key: read("ca-key.pem"),
            root_cert: read("root-cert.pem"),
            cert_chain: read("cert-chain.pem"),
            revoked: None,
        };
        write(&folder, &pems);
        Self { pems, folder }
    }

    pub(super) fn new(folder: PathBuf) -> Self {
        let pems = Pems::generate("cluster.local", SystemTime::now()).expect("made");
        write(&folder, &pems);
        Self { pems, folder }
    }
}

/// The steps from one authority to another: what they are, what the folder has, and who signs then.
pub(super) fn steps<'a>(old: &'a Pems, new: &'a Pems) -> [(&'static str, Pems, &'a Pems); 3] {
    let both = |signer: &Pems| Pems {
        root_cert: format!("{}{}", old.root_cert, new.root_cert),
        ..signer.clone()
    };
    [
        ("both roots are trusted", both(old), old),
        ("the new key signs", both(new), new),
        ("the old root goes", new.clone(), new),
    ]
}

/// Copies an authority's files to where the control plane has them, one by one.
pub(super) fn plug(lab: &Lab, pems: &Pems) {
    let draft = tempfile::tempdir().expect("a folder");
    write(draft.path(), pems);
    let from = |name: &str| draft.path().join(name).to_string_lossy().into_owned();
    let files = pems.files().map(|(name, _)| from(name));
    let mut argv = vec!["cp"];
    argv.extend(files.iter().map(String::as_str));
    argv.push(FOLDER);
    let _ = lab.exec("node/node-1", &argv).success();
}

fn write(folder: &Path, pems: &Pems) {
    fs::create_dir_all(folder).expect("a folder");
    for (name, text) in pems.files() {
        fs::write(folder.join(name), text).expect("written");
    }
}

/// Whether every certificate of both nodes is signed by `signer` and comes with the roots of `step`.
pub(super) fn everywhere(lab: &Lab, step: &Pems, signer: &Pems) -> bool {
    let [signer] = &certificates(&signer.ca_cert)[..] else {
        panic!("one certificate signs")
    };
    let wanted = set(certificates(&step.root_cert));
    let mut all = Vec::new();
    for node in ["node/node-1", "node/node-2"] {
        let url = "http://127.0.0.1:15000/config_dump";
        let dump = lab.load(node, &["get", "--fail", url]).json();
        all.extend(dump["certificates"].as_array().cloned().unwrap_or_default());
    }
    // Of eight pods.
    all.len() >= 8
        && all
            .iter()
            .all(|it| signed(it, signer) && set(roots(it)) == wanted)
}

fn signed(certificate: &Value, signer: &Pem) -> bool {
    let leaf = certificate["certChain"][0]["pem"].as_str();
    let leaf = leaf.map(certificates).unwrap_or_default();
    let [leaf] = &leaf[..] else { return false };
    let (leaf, signer) = (leaf.parse_x509(), signer.parse_x509());
    let (leaf, signer) = (leaf.expect("a leaf"), signer.expect("a signer"));
    leaf.verify_signature(Some(signer.public_key())).is_ok()
}

fn roots(certificate: &Value) -> Vec<Pem> {
    let all = certificate["rootCerts"].as_array().cloned();
    let texts = all.unwrap_or_default().into_iter();
    texts
        .flat_map(|it| certificates(it["pem"].as_str().expect("PEM")))
        .collect()
}

fn set(of: Vec<Pem>) -> HashSet<Vec<u8>> {
    of.into_iter().map(|pem| pem.contents).collect()
}

fn certificates(text: &str) -> Vec<Pem> {
    Pem::iter_from_buffer(text.as_bytes())
        .collect::<Result<_, _>>()
        .expect("PEM")
}
