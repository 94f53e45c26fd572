//! What the API server takes of this repository.

use std::path::{Path, PathBuf};

use crate::plane::ControlPlane;

fn manifests(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../manifests")
        .join(folder)
}

#[test]
fn our_own_kinds_are_established_and_validated() {
    let plane = ControlPlane::start();
    let folder = manifests("crds").to_string_lossy().into_owned();
    let applied = plane.kubectl(&["apply", "-k", &folder]).success();
    assert!(
        applied.contains("ratelimits.ambit.dev created"),
        "{applied}"
    );
    let _ = plane
        .kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=30s",
        ])
        .success();
    let refused = plane
        .kubectl_with_input(
            &["create", "-f", "-"],
            "apiVersion: ambit.dev/v1alpha1\nkind: RateLimit\nmetadata: {name: wrong}\nspec: 7\n",
        )
        .failure();
    assert!(refused.contains("spec"), "{refused}");
}
