//! What the API server takes of this repository: every manifest, and every object of README.md, as it stands there.

use std::path::{Path, PathBuf};

use ambit_lab::harness::eventually;

use crate::plane::{ControlPlane, PATIENCE};
use crate::readme::{blocks, repository};

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What kubectl said it has done with each object.
fn applied(plane: &ControlPlane, arguments: &[&str], input: &str) -> Vec<String> {
    let all: Vec<&str> = ["apply"].iter().chain(arguments).copied().collect();
    let ran = plane.kubectl_with_input(&all, input);
    assert!(!ran.stderr.contains("Warning"), "{ran}");
    let said = ran.success();
    said.lines().map(str::to_owned).collect()
}

#[test]
fn our_own_kinds_are_established_and_validated() {
    let plane = ControlPlane::start();
    let folder = text(&repository("manifests/crds"));
    let said = applied(&plane, &["-k", &folder], "").join("\n");
    assert!(said.contains("ratelimits.ambit.dev created"), "{said}");
    plane.established();
    let refused = plane
        .kubectl_with_input(
            &["create", "-f", "-"],
            "apiVersion: ambit.dev/v1alpha1\nkind: RateLimit\nmetadata: {name: wrong}\nspec: 7\n",
        )
        .failure();
    assert!(refused.contains("spec"), "{refused}");
}

#[test]
fn everything_is_applied_as_it_stands() {
    let plane = ControlPlane::start();
    plane.define();
    // What cannot be taken from here: kinds of the Prometheus operator and of cert-manager, and what is fetched from elsewhere, which the
    // definitions above are the same releases of.
    plane.define_kind("monitoring.coreos.com", "PodMonitor");
    plane.define_kind("cert-manager.io", "Certificate");
    plane.established();
    let _ = plane.kubectl(&["create", "ns", "istio-system"]).success();

    let base = text(&repository("manifests"));
    let said = applied(&plane, &["-k", &base], "");
    assert!(
        said.iter().all(|line| line.ends_with(" created")),
        "{said:?}"
    );
    let mut overlays: Vec<PathBuf> = std::fs::read_dir(repository("manifests/overlays"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    overlays.sort();
    assert!(overlays.len() >= 6, "{overlays:?}");
    for overlay in overlays {
        let said = applied(&plane, &["-k", &text(&overlay)], "");
        // They differ from the base.
        let changed = said.iter().filter(|line| !line.ends_with(" unchanged"));
        assert!(changed.count() > 0, "{}: {said:?}", overlay.display());
    }
    let samples = repository("manifests/samples");
    let namespace = text(&samples.join("namespace.yaml"));
    let _ = applied(&plane, &["-f", &namespace], "");
    let said = applied(&plane, &["-f", &text(&samples)], "");
    let made = said
        .iter()
        .filter(|line| line.ends_with(" created"))
        .count();
    assert!(made >= 8, "{said:?}");

    let blocks = blocks("yaml");
    assert!(blocks.len() >= 3, "{blocks:?}");
    for block in blocks {
        let said = applied(&plane, &["-f", "-"], &block);
        assert!(!said.is_empty(), "{block}");
    }
}

#[test]
fn what_is_installed_and_what_is_printed_are_the_same() {
    let plane = ControlPlane::start();
    plane.define();
    let base = text(&repository("manifests"));
    let installed = applied(&plane, &["-k", &base], "");
    let printed = plane.ambit(&["install"]).success();
    let said = applied(&plane, &["-f", "-"], &printed);
    let new = said.iter().filter(|line| line.ends_with(" created"));
    assert_eq!(new.count(), 0, "{said:?}");
    assert_eq!(said.len(), installed.len(), "{said:?}");
    let printed = plane.ambit(&["uninstall", "--crds"]).success();
    let arguments = ["delete", "--ignore-not-found", "--wait=false", "-f", "-"];
    let gone = plane.kubectl_with_input(&arguments, &printed).success();
    assert!(!gone.contains("not found"), "{gone}");
    for kind in ["clusterrole", "clusterrolebinding", "gatewayclass"] {
        eventually(&format!("no {kind} of ours"), PATIENCE, || {
            let left = plane.kubectl(&["get", kind, "-o", "name"]).success();
            (!left.contains("ambit")).then_some(())
        });
    }
    // Definitions go when the API server has looked for their objects, in its own time.
    let template = "{range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{\"\\n\"}{end}";
    let left = plane.kubectl(&["get", "crd", "-o", &format!("jsonpath={template}")]);
    for line in left.success().lines() {
        let (name, since) = line.split_once(' ').expect("a name and a time");
        assert!(
            !name.ends_with(".ambit.dev") || !since.is_empty(),
            "{name} stays"
        );
    }
}
