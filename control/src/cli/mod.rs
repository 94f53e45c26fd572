//! The command line of `ambit`.

pub mod control;
pub mod explain;
pub mod install;

use clap::{Parser, Subcommand};

/// Ambit, an ambient service mesh: the control plane and the operator's command.
#[derive(Debug, Parser)]
#[command(name = "ambit", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the control plane: reads Kubernetes objects, configures proxies, signs certificates.
    Control(Box<control::Flags>),
    /// Says what would happen to a request, and which object decides.
    Explain(Box<explain::Flags>),
    /// Prints the objects of an installation.
    Install(install::Flags),
    /// Prints the objects to delete.
    Uninstall(install::Uninstall),
}
