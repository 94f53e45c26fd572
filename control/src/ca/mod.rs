//! The certificate authority: its material, who may ask for what, and signing.

pub mod files;
pub mod material;
pub mod permission;
pub mod request;
pub mod secret;
pub mod service;

use std::sync::Arc;

use tokio::sync::watch;

pub use material::Authority;

/// The authority that signs now. Another one takes its place when its material changes.
pub type Signing = watch::Receiver<Arc<Authority>>;
