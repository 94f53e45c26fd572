//! A tiny cluster in network namespaces, and the sample programs that run in it.
//!
//! [`stage`] makes namespaces, [`daemon`] is the lab that runs in them: it keeps Kubernetes objects
//! ([`api`]), works towards them ([`controllers`]), runs pods ([`kubelet`]) on a network of its own
//! ([`net`], [`dns`]), and starts the mesh ([`mesh`]). Joined to a real API server ([`apiserver`]) it keeps
//! what that has, and leaves the work towards it to the cluster's controllers.

pub mod api;
pub mod apiserver;
pub mod capture;
pub mod cli;
pub mod cluster;
pub mod controllers;
pub mod daemon;
pub mod demo;
pub mod dns;
pub mod harness;
pub mod kubelet;
pub mod mesh;
pub mod metrics;
pub mod net;
pub mod programs;
pub mod protocol;
#[cfg(test)]
mod regressions;
pub mod stage;
pub mod state;
pub mod sys;
pub mod tokens;
