//! The command line of the node proxy.

use std::fmt::Write;

use crate::config::Config;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Serve the pods of this node.
    Run,
    /// Show the configuration that would be in force.
    PrintConfig,
    /// Take away the redirection that a proxy which was killed has left of its machine.
    Release,
    /// Explain.
    Help,
    /// Say which version this is.
    Version,
}

/// Reads the arguments behind the program's name. The words `proxy ztunnel`, which manifests of
/// istio/ztunnel pass, mean nothing here.
///
/// # Errors
/// The argument that is not understood.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut command = Command::Run;
    for arg in args {
        command = match arg.as_str() {
            "proxy" | "ztunnel" => continue,
            "--print-config" => Command::PrintConfig,
            "release" => Command::Release,
            "--help" | "-h" => Command::Help,
            "--version" | "-V" | "version" => Command::Version,
            other => return Err(format!("unknown argument {other:?}; see ztunnel --help")),
        };
    }
    Ok(command)
}

/// The text of `--version`.
#[must_use]
pub fn version() -> String {
    format!("ztunnel (ambit) {}\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = "\
The node proxy of the Ambit service mesh. It is configured by environment variables.

Usage: ztunnel [release | --print-config | --help | --version]

  release         take away the redirection of this machine's traffic, which a proxy in mode dedicated
                  that was killed has left: what is not captured goes past the mesh
  --print-config  show the configuration as JSON and end
  --help          show this text and end
  --version       show the version and end

Environment:
"
    .to_owned();
    for known in Config::variables() {
        let _ = write!(
            text,
            "  {}\n      {}: {}",
            known.name, known.about, known.accepts
        );
        let _ = match known.default.as_str() {
            "" => writeln!(text),
            default => writeln!(text, " [default: {default}]"),
        };
    }
    text.push_str(
        "  ISTIO_META_*\n      told to the control plane about this proxy\n  \
         XDS_HEADER_*, CA_HEADER_*\n      sent with every request to discovery and to the \
         certificate authority\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let cases: [(&[&str], Result<Command, &str>); 7] = [
            (&["release"], Ok(Command::Release)),
            (&[], Ok(Command::Run)),
            (&["proxy", "ztunnel"], Ok(Command::Run)),
            (&["--print-config"], Ok(Command::PrintConfig)),
            (&["-h"], Ok(Command::Help)),
            (&["version"], Ok(Command::Version)),
            (&["--verbose"], Err("--verbose")),
        ];
        for (args, expected) in cases {
            let got = parse(args.iter().map(|arg| (*arg).to_owned()));
            match expected {
                Ok(command) => assert_eq!(got, Ok(command), "{args:?}"),
                Err(word) => assert!(got.expect_err("refused").contains(word), "{args:?}"),
            }
        }
    }

    #[test]
    fn help_names_every_variable() {
        let help = help();
        for name in [
            "XDS_ADDRESS",
            "AMBIT_NODE_LOCAL",
            "ZTUNNEL_WORKER_THREADS",
            "ISTIO_META_",
        ] {
            assert!(help.contains(name), "{name}");
        }
    }
}
