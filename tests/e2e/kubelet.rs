//! What containers find, and what becomes of them.

use std::time::Duration;

use ambit_lab::harness::{Lab, Options, eventually};

use crate::fixtures::{addresses, namespace, plain, text};

const PATIENCE: Duration = Duration::from_secs(20);

const PODS: &str = r#"---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: work}
data: {greeting: hello, file.txt: "text of a file\n"}
---
apiVersion: v1
kind: Pod
metadata: {name: rich, namespace: work, labels: {tier: gold}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: first, command: [sh, -c, "echo one > /shared/order"], volumeMounts: &mounts [{name: shared, mountPath: /shared}]}
  - {name: second, command: [sh, -c, "echo two >> /shared/order"], volumeMounts: *mounts}
  containers:
  - name: main
    command: [sh, -c, "trap 'echo bye >> /shared/order; exit 0' TERM; echo $(POD) started; sleep infinity & wait"]
    workingDir: /tmp
    env:
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}
    - {name: BOTH, value: "$(GREETING) $(TIER) $(NONE)"}
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: settings, mountPath: /etc/lab-settings/deep, readOnly: true}
    - {name: token, mountPath: /var/run/secrets/tokens}
  - name: side
    command: [sh, -c, "id -u; id -g; sleep infinity"]
    securityContext: {runAsUser: 1234, runAsGroup: 1235}
    volumeMounts: *mounts
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
  - {name: token, projected: {sources: [{serviceAccountToken: {path: token, audience: istio-ca}}]}}
"#;

fn work() -> Lab {
    let manifests = namespace("work", "") + PODS;
    Lab::start(&Options {
        manifests,
        ..Options::default()
    })
}

#[test]
fn a_container_finds_what_its_pod_says() {
    let lab = work();
    let say = |script: &str| lab.exec("work/rich", &["sh", "-c", script]).success();
    assert_eq!(say("cat /shared/order"), "one\ntwo\n");
    assert_eq!(
        say("cat /etc/lab-settings/deep/file.txt"),
        "text of a file\n"
    );
    assert_eq!(
        say("echo $POD $TIER $HOSTNAME; pwd; hostname"),
        "rich gold rich\n/tmp\nrich\n"
    );
    assert_eq!(say("echo $BOTH"), "hello gold $(NONE)\n");
    assert_eq!(say("echo $IP").trim(), addresses(&lab, "work/rich")[0]);
    assert_eq!(
        say("cut -d. -f1 < /var/run/secrets/tokens/token | wc -l"),
        "1\n"
    );
    assert_ne!(
        lab.exec("work/rich", &["touch", "/etc/lab-settings/deep/x"])
            .code,
        0
    );
    assert!(
        !std::path::Path::new("/etc/lab-settings").exists(),
        "the machine's /etc was changed"
    );
    let side = lab.run([
        "exec",
        "-n",
        "work",
        "-c",
        "side",
        "rich",
        "--",
        "cat",
        "/shared/order",
    ]);
    assert_eq!(side.success(), "one\ntwo\n");
    let said = eventually("a first line", PATIENCE, || {
        Some(lab.logs("work/rich")).filter(|it| !it.is_empty())
    });
    assert_eq!(said, "rich started\n");
    let user = say("cat /proc/1/status | grep ^Uid; ls -ln /proc | head -1");
    assert!(user.starts_with("Uid:\t0"), "{user}");
}

#[test]
fn another_user_and_own_processes() {
    let lab = work();
    let script = "for p in /proc/[0-9]*; do grep -l ^sleep $p/comm 2>/dev/null; done | wc -l";
    let run = |container: &str, argv: &[&str]| {
        let mut arguments = vec!["exec", "-n", "work", "-c", container, "rich", "--"];
        arguments.extend(argv);
        lab.run(arguments).success()
    };
    // A pod runs once its containers have begun: what they do first may take them a moment.
    let seen = eventually("its own process", PATIENCE, || {
        Some(run("side", &["sh", "-c", script])).filter(|it| it != "0\n")
    });
    assert_eq!(seen, "1\n", "only its own processes are seen");
    eventually("the program's user and group", PATIENCE, || {
        let logs = ["logs", "-n", "work", "-c", "side", "rich"];
        (lab.run(logs).success() == "1234\n1235\n").then_some(())
    });
}

#[test]
fn exec_passes_input_output_and_status() {
    let lab = plain();
    let ran = lab.run_with_input(
        [
            "exec",
            "-n",
            "shop",
            "client-1",
            "--",
            "sh",
            "-c",
            "cat; echo oh >&2; exit 7",
        ],
        "through",
    );
    assert_eq!(
        (ran.code, &*ran.stdout, &*ran.stderr),
        (7, "through", "oh\n"),
        "{ran}"
    );
    assert_eq!(lab.exec("shop/client-1", &["no-such-program"]).code, 126);
    assert_eq!(
        lab.exec("shop/client-1", &["sh", "-c", "kill -9 $$"]).code,
        137
    );
    let said = lab.exec("shop/nobody", &["true"]).failure();
    assert!(said.contains("pod shop/nobody not found"), "{said}");
}

#[test]
fn what_crashes_is_started_again_and_counted() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: weak, namespace: work}\n\
        spec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: c\n    \
        command: [sh, -c, 'echo up; sleep infinity']\n    \
        readinessProbe: {exec: {command: [\"true\"]}, periodSeconds: 1}\n";
    let lab = Lab::start(&Options {
        manifests: namespace("work", "") + pod,
        ..Options::default()
    });
    let restarts = || {
        let pod = lab.object("pod", "work/weak");
        let status = &pod["status"]["containerStatuses"][0];
        status["restartCount"]
            .as_i64()
            .filter(|_| status["ready"] == true)
    };
    assert_eq!(restarts(), Some(0));
    let _ = lab.run(["kill", "-n", "work", "weak"]).success();
    eventually("a restart after a kill", PATIENCE, || {
        restarts().filter(|count| *count == 1)
    });
    let _ = lab.run(["restart", "-n", "work", "weak"]).success();
    assert_eq!(restarts(), Some(2));
    assert_eq!(lab.logs("work/weak"), "up\nup\nup\n");
    let last = lab.object("pod", "work/weak");
    let last = &last["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"];
    assert!(last.as_i64().is_some_and(|code| code != 0), "{last}");
}

#[test]
fn readiness_decides_who_gets_requests() {
    let manifests = namespace("work", "")
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: work}\n\
           spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n\
           ---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: work, labels: {app: web}}\n\
           spec:\n  terminationGracePeriodSeconds: 1\n  volumes: [{name: v, emptyDir: {}}]\n  containers:\n  \
           - name: c\n    image: ambit/echo\n    volumeMounts: [{name: v, mountPath: /v}]\n    \
           lifecycle: {preStop: {exec: {command: [\"true\"]}}}\n    \
           readinessProbe: {exec: {command: [test, '!', -e, /v/sick]}, periodSeconds: 1, failureThreshold: 1}\n";
    let lab = Lab::start(&Options {
        manifests,
        ..Options::default()
    });
    let ready = || {
        let slices = lab.objects("endpointslices", "work");
        slices[0]["endpoints"][0]["conditions"]["ready"].as_bool()
    };
    eventually("a ready endpoint", PATIENCE, || {
        ready().filter(|ready| *ready)
    });
    let _ = lab.exec("work/web", &["touch", "/v/sick"]).success();
    eventually("an endpoint that is not ready", PATIENCE, || {
        ready().filter(|ready| !ready)
    });
    eventually("a refusal", PATIENCE, || {
        let said = lab.load(
            "node/node-1",
            &["get", &format!("http://{}/", service_ip(&lab))],
        );
        (said.code != 0).then_some(())
    });
    let _ = lab.exec("work/web", &["rm", "/v/sick"]).success();
    eventually("a ready endpoint", PATIENCE, || {
        ready().filter(|ready| *ready)
    });
}

fn service_ip(lab: &Lab) -> String {
    text(&lab.object("service", "work/web")["spec"]["clusterIP"])
}

#[test]
fn a_changed_deployment_is_rolled_out_without_a_gap() {
    let deployment = |version: &str| {
        namespace("work", "")
            + &format!(
                "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: work}}\n\
                 spec:\n  replicas: 2\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    \
                 metadata: {{labels: {{app: web}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      \
                 containers:\n      - name: c\n        image: ambit/echo\n        \
                 env: [{{name: VERSION_LABEL, value: {version}}}]\n        \
                 readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}\n"
            )
    };
    let lab = Lab::start(&Options {
        manifests: deployment("v1"),
        ..Options::default()
    });
    let names = || -> Vec<String> {
        lab.objects("pods", "work")
            .iter()
            .map(|pod| text(&pod["metadata"]["name"]))
            .collect()
    };
    let before = names();
    assert_eq!(before.len(), 2);
    lab.apply(&deployment("v2"));
    let after = names();
    assert_eq!(after.len(), 2, "{after:?}");
    assert!(
        after.iter().all(|name| !before.contains(name)),
        "{before:?} {after:?}"
    );
    let env = lab
        .exec("work/deploy/web", &["sh", "-c", "echo $VERSION_LABEL"])
        .success();
    assert_eq!(env, "v2\n");
    let _ = lab.run(["delete", "-n", "work", "deploy", "web"]).success();
    assert!(names().is_empty());
}
