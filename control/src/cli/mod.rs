//! The command line of `ambit`.

pub mod check;
pub mod control;
mod environment;
pub mod explain;
pub mod install;
pub mod machine;
mod page;
pub mod proxy;
pub mod table;
pub mod top;
pub mod waypoint;

use clap::{CommandFactory, Parser, Subcommand};

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
    /// Says what a cluster, an installation or a namespace lacks, and how to get it.
    Check(check::Flags),
    /// Shows what a node proxy knows.
    Ztunnel(proxy::Flags),
    /// Deploys, lists and removes waypoints, and shows what one knows.
    Waypoint(waypoint::Flags),
    /// Shows who talks to whom: rates, success, latency, and what protects it.
    Top(top::Flags),
    /// Writes what a machine without a kubelet needs to join the mesh.
    Machine(Box<machine::Flags>),
    /// Prints the objects of an installation.
    Install(install::Flags),
    /// Prints the objects to delete.
    Uninstall(install::Uninstall),
    /// Prints what a shell needs to complete commands: source <(ambit completions bash).
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Prints the manual: ambit man | man -l -.
    Man,
}

/// What a shell needs to complete commands.
#[must_use]
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ambit", &mut text);
    text
}

/// The manual: one page of the command and each of its subcommands.
///
/// # Errors
/// It cannot be written.
pub fn manual() -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let command = Cli::command();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    pages(&command, "ambit", &mut text)?;
    Ok(text)
}

fn pages(command: &clap::Command, name: &str, text: &mut Vec<u8>) -> std::io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("{name}-{}", sub.get_name());
        let page = sub.clone().display_name(&name);
        clap_mangen::Man::new(page).render(text)?;
        pages(sub, &name, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shells_and_manuals_know_every_command() {
        let bash = String::from_utf8(completions(clap_complete::Shell::Bash)).expect("text");
        let manual = String::from_utf8(manual().expect("a manual")).expect("text");
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(bash.contains(&format!("ambit,{name})")), "{name}");
            assert!(manual.contains(&format!("ambit\\-{name}")), "{name}");
        }
        assert!(
            manual.contains("ambit\\-waypoint\\-apply"),
            "below a command"
        );
    }
}
