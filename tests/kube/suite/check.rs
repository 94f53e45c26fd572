//! `ambit check` against a real API server: before an installation, after it, and for a namespace.

use ambit_lab::harness::Ran;

use crate::installed::Cluster;
use crate::plane::ControlPlane;

/// The line of a failed check and the one below it, which names its fix.
fn failed(what: &str, reason: &str, fix: &str) -> String {
    format!("failed  {what}: {reason}\n        fix: {fix}\n")
}

/// Asserts that exactly these checks failed.
fn fails(ran: &Ran, failures: &[String]) {
    assert_eq!(ran.code, 1, "{ran}");
    for failure in failures {
        assert!(ran.stdout.contains(failure), "no {failure:?} in {ran}");
    }
    assert_eq!(
        ran.stdout.matches("failed  ").count(),
        failures.len(),
        "{ran}"
    );
}

#[test]
fn checks_say_what_is_missing_and_how_to_get_it() {
    let plane = ControlPlane::start();
    let lab = plane.lab(1);
    let cluster = Cluster { lab, plane };
    let check = |arguments: &[&str]| cluster.plane.ambit(&[&["check"], arguments].concat());

    let absent = |what, fix| failed(what, "it is not there", fix);
    let definitions = "kubectl apply --server-side -k manifests/external-crds";
    let installed = absent("Ambit is installed", "ambit install | kubectl apply -f -");
    let nothing = [
        absent("the Gateway API is installed", definitions),
        absent("Istio's policies are known", definitions),
        installed.clone(),
    ];
    fails(&check(&[]), &nothing);
    cluster.plane.define();
    fails(&check(&[]), &[installed]);

    cluster.install();
    let said = check(&[]).success();
    for what in ["the control plane is ready", "every node has its proxy"] {
        assert!(said.contains(&format!("ok      {what}\n")), "{said}");
    }

    let outside = failed(
        "namespace shop is in the mesh",
        "its label istio.io/dataplane-mode is \"\"",
        "kubectl label namespace shop istio.io/dataplane-mode=ambient",
    );
    let shop = || check(&["--namespace", "shop"]);
    let missing = absent(
        "namespace shop is in the mesh",
        "kubectl create namespace shop",
    );
    fails(&shop(), &[missing]);
    cluster.kubectl(&["create", "ns", "shop"]);
    fails(&shop(), &[outside]);
    cluster.kubectl(&["label", "ns", "shop", "istio.io/dataplane-mode=ambient"]);
    let _ = shop().success();
}
