//! The API server goes away and comes back.

use ambit_lab::harness::eventually;

use crate::plane::{ControlPlane, PATIENCE};

const SLEEPER: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleeper}
spec:
  replicas: 1
  selector: {matchLabels: {app: sleeper}}
  template:
    metadata: {labels: {app: sleeper}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: sleep, image: none, command: [sleep, infinity]}
";

#[test]
fn pods_run_on_and_what_happened_meanwhile_is_told() {
    let plane = ControlPlane::start();
    let lab = plane.lab(1);
    plane.apply(SLEEPER);
    plane.rolled_out("default", "deploy/sleeper");
    let before = plane.pods("app=sleeper").remove(0);
    let name = before["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();

    plane.stop();
    let target = format!("default/{name}");
    let _ = lab.exec(&target, &["true"]).success();
    let _ = lab.run(["kill", &name]).success();
    eventually("the container runs again", PATIENCE, || {
        (lab.exec(&target, &["true"]).code == 0).then_some(())
    });

    plane.go_on();
    eventually("its restart is known", PATIENCE, || {
        let pod = plane.object("pod", "default", &name)?;
        (pod["status"]["containerStatuses"][0]["restartCount"] == 1).then_some(())
    });
    let after = plane.object("pod", "default", &name).expect("the pod");
    assert_eq!(
        after["metadata"]["uid"], before["metadata"]["uid"],
        "the same pod"
    );
    let _ = plane.kubectl(&["delete", "deploy/sleeper"]).success();
    plane.no_pods("app=sleeper");
}
