//! README.md and manifests/README.md, as a reader follows them.

use std::path::{Path, PathBuf};
use std::process::Command;

use ambit_lab::harness::{Ran, program, run};

use crate::plane::ControlPlane;

/// A path of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Where README.md's reader has the image; a lab runs what it finds there with [`IMAGE`].
pub(crate) const REGISTRY: &str = "registry.test";
/// The pattern of that image.
pub(crate) const IMAGE: &str = "registry.test/ambit";

/// The blocks of a language in both.
pub(crate) fn blocks(language: &str) -> Vec<String> {
    let text = ["README.md", "manifests/README.md"].map(|path| {
        let text = std::fs::read_to_string(repository(path));
        text.unwrap_or_else(|error| panic!("{path}: {error}"))
    });
    let text = text.concat();
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    let mut inside = None;
    let mut margin = 0;
    for line in text.lines() {
        // Those of a list are indented.
        let bare = line.trim_start();
        match (bare.strip_prefix("```"), inside) {
            (Some(name), None) => {
                inside = Some(name == language);
                margin = line.len() - bare.len();
                if name == language {
                    blocks.push(Vec::new());
                }
            }
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => {
                let line = line.get(margin..).unwrap_or_default();
                blocks.last_mut().expect("one has begun").push(line);
            }
            (None, _) => {}
        }
    }
    blocks.iter().map(|lines| lines.join("\n") + "\n").collect()
}

/// The one block of a language (of commands: none) with these words.
pub(crate) fn block(language: &str, words: &str) -> String {
    let mut found = blocks(language)
        .into_iter()
        .filter(|block| block.contains(words));
    let block = found.next();
    assert!(found.next().is_none(), "two blocks have {words:?}");
    block.unwrap_or_else(|| panic!("no block of a README.md has {words:?}"))
}

/// Gives the commands of the block with these words, in order, until one fails, from a folder.
pub(crate) fn follow(plane: &ControlPlane, words: &str, folder: &Path) -> Ran {
    follow_as(plane, &plane.kubeconfig(), words, folder)
}

/// The same as whom a kubeconfig is of.
pub(crate) fn follow_as(
    plane: &ControlPlane,
    kubeconfig: &Path,
    words: &str,
    folder: &Path,
) -> Ran {
    give(plane, kubeconfig, &block("", words), folder)
}

/// Gives one command of a block, after those of the block with these words, which it needs.
pub(crate) fn follow_line(plane: &ControlPlane, words: &str, line: &str, folder: &Path) -> Ran {
    let there = block("", line).lines().any(|it| it == line);
    assert!(there, "{line:?} is no line of a README.md");
    let commands = format!("{}{line}\n", block("", words));
    give(plane, &plane.kubeconfig(), &commands, folder)
}

fn give(plane: &ControlPlane, kubeconfig: &Path, commands: &str, folder: &Path) -> Ran {
    let variable = |name: &str| {
        let found = std::env::var_os(name);
        PathBuf::from(
            found.unwrap_or_else(|| panic!("{name} is not set: run `tests/kube/run tests`")),
        )
    };
    // kubectl is beside the control plane's program.
    let [kube, helm] = ["AMBIT_KUBE", "AMBIT_KUBE_HELM"].map(variable);
    let programs = [kube, helm, program("ambit")];
    let folders = programs.iter().filter_map(|program| program.parent());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = folders
        .map(Path::to_owned)
        .chain(std::env::split_paths(&path));
    let mut shell = Command::new("bash");
    shell
        .args(["-e", "-u", "-o", "pipefail", "-c"])
        .arg(commands.replace("REGISTRY", REGISTRY))
        .current_dir(folder)
        .env("PATH", std::env::join_paths(path).expect("paths"))
        .env("KUBECONFIG", kubeconfig)
        // What Helm keeps of its own.
        .env("HOME", plane.folder());
    run(shell, "")
}
