//! The bearer token: a file that the kubelet rotates, read whenever it is shown.

use std::path::{Path, PathBuf};

use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

use super::Remote;

/// A token is a few kilobytes; anything larger is the wrong file.
const MAX_TOKEN: usize = 64 * 1024;

/// Why a call could not be authorized.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The file could not be read.
    #[error("cannot read the token file {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file holds no token.
    #[error("the token file {path} {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        what: &'static str,
    },
    /// A metadata entry that HTTP/2 can not carry.
    #[error("the metadata {name:?} has a name or value that gRPC does not allow")]
    Metadata {
        /// Name of the entry.
        name: String,
    },
}

/// The metadata of one call: token, unless a certificate was shown, cluster and what the operator added.
pub(super) async fn metadata(
    remote: &Remote,
    is_certified: bool,
) -> Result<MetadataMap, TokenError> {
    let mut map = MetadataMap::new();
    for (name, value) in &remote.headers {
        insert(&mut map, name, value)?;
    }
    insert(&mut map, "clusterid", &remote.cluster_id)?;
    if let Some(path) = remote.token.as_ref().filter(|_| !is_certified) {
        map.insert("authorization", bearer(path).await?);
    }
    Ok(map)
}

fn insert(map: &mut MetadataMap, name: &str, value: &str) -> Result<(), TokenError> {
    let bad = || TokenError::Metadata {
        name: name.to_owned(),
    };
    let key: AsciiMetadataKey = name.to_ascii_lowercase().parse().map_err(|_| bad())?;
    map.insert(key, value.parse().map_err(|_| bad())?);
    Ok(())
}

async fn bearer(path: &Path) -> Result<AsciiMetadataValue, TokenError> {
    let content = |what| TokenError::Content {
        path: path.to_owned(),
        what,
    };
    let bytes = tokio::fs::read(path)
        .await
        .map_err(|cause| TokenError::Read {
            path: path.to_owned(),
            cause,
        })?;
    if bytes.len() > MAX_TOKEN {
        return Err(content("is too large to be a token"));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| content("is not text"))?
        .trim();
    if text.is_empty() {
        return Err(content("is empty"));
    }
    let mut value: AsciiMetadataValue = format!("Bearer {text}")
        .parse()
        .map_err(|_| content("has characters that a token cannot have"))?;
    value.set_sensitive(true);
    Ok(value)
}
