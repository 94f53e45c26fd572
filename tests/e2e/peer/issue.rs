//! A certificate in files, for programs that are no part of the mesh's own.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Issue, forge};

/// Writes `chain.pem`, `key.pem` and `root.pem`.
pub(super) fn write(options: &Issue) -> anyhow::Result<()> {
    let made = forge::certificate(&options.certificate)?;
    let (chain, key) = made.context("an identity is needed")?;
    fs::create_dir_all(&options.folder)?;
    let [.., root] = &*chain else {
        anyhow::bail!("a chain ends in its root")
    };
    let chain: String = chain.iter().map(|it| pem("CERTIFICATE", it)).collect();
    let write = |name: &str, text: String| fs::write(Path::new(&options.folder).join(name), text);
    write("root.pem", pem("CERTIFICATE", root))?;
    write("chain.pem", chain)?;
    write("key.pem", pem("PRIVATE KEY", key.secret_der()))?;
    Ok(())
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
    }
    text + &format!("-----END {label}-----\n")
}
