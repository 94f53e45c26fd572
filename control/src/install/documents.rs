//! The files of `manifests/`, one document at a time.

use serde::Deserialize;

/// One object, with the comments above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    /// The file it is in, without folder.
    pub(super) file: &'static str,
    pub(super) kind: String,
    pub(super) name: String,
    /// Ends with a line break.
    pub(super) text: String,
}

macro_rules! files {
    ($folder:literal: $($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../manifests/", $folder, "/", $name)))),*]
    };
}

/// In the order of `manifests/base/kustomization.yaml`.
pub(super) const BASE: [(&str, &str); 7] = files!("base":
    "namespace.yaml", "control-access.yaml", "control.yaml", "ztunnel-access.yaml", "ztunnel.yaml",
    "network-policies.yaml", "gateway-classes.yaml",
);

/// In the order of `manifests/crds/kustomization.yaml`.
pub(super) const CRDS: [(&str, &str); 3] = files!("crds":
    "ambit.dev_externalauthorizers.yaml", "ambit.dev_faultinjections.yaml", "ambit.dev_ratelimits.yaml",
);

pub(super) fn base() -> impl Iterator<Item = Document> {
    BASE.into_iter().flat_map(|(file, text)| split(file, text))
}

pub(super) fn crds() -> impl Iterator<Item = Document> {
    CRDS.into_iter().flat_map(|(file, text)| split(file, text))
}

fn split(file: &'static str, text: &str) -> Vec<Document> {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
    }
    let documents = text.split("\n---\n").map(|text| {
        let head: Head = serde_saphyr::from_str(text).expect("manifests are objects with names");
        Document {
            file,
            kind: head.kind,
            name: head.metadata.name,
            text: text.trim_end().to_owned() + "\n",
        }
    });
    documents.collect()
}
