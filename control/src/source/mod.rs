//! Where Kubernetes objects come from.
//!
//! Every source speaks the same few words: it sends a [`Batch`] of events and gets back the
//! generation at which they are in force. Nothing behind this seam knows which source is used.

pub mod ambit;
pub mod entry;
pub mod files;
pub mod gateway;
pub mod istio;
pub mod kube;
pub mod networking;
pub mod object;
pub mod parse;

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

pub use object::{Key, Kind, Object};

/// What happened to one object.
#[derive(Debug, Clone)]
pub enum Event {
    /// It exists and looks like this.
    Apply(Object, Origin),
    /// It is gone.
    Delete(Key),
}

/// Where an object was read, for people who look for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
pub struct Origin {
    /// The file, relative to the source's folder; empty for a source without files.
    pub file: Arc<str>,
    /// The document in that file, from 1.
    pub document: usize,
    /// The line of the file at which the document starts, or at which the error is; from 1.
    pub line: usize,
}

/// Something that a person has to look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where.
    #[serde(flatten)]
    pub origin: Origin,
    /// `Kind namespace/name`, as far as it is known.
    pub object: String,
    /// What is wrong and what to do.
    pub error: String,
}

/// Events that belong together, with everything that is wrong with the source right now.
#[derive(Debug, Default)]
pub struct Batch {
    /// In order.
    pub events: Vec<Event>,
    /// Replaces what the source reported before.
    pub problems: Vec<Problem>,
    /// Objects that are understood to be there but not acted upon yet; replaces the former list.
    pub unhandled: Vec<Problem>,
}

/// A batch on its way into the index; `applied` is answered with the generation it led to.
#[derive(Debug)]
pub struct Delivery {
    /// What changed.
    pub batch: Batch,
    /// Told once the batch is applied.
    pub applied: oneshot::Sender<u64>,
}

/// Into the index.
pub type Deliveries = mpsc::Sender<Delivery>;

/// Asks a source to look again now; answered with the generation that includes what it saw.
pub type Rescan = oneshot::Sender<Result<u64, String>>;
