//! The certificate authority: its material, who may ask for what, and signing.

pub mod files;
pub mod material;
pub mod permission;
pub mod request;
pub mod service;

pub use material::Authority;
