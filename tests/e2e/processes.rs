//! What the processes of a mesh hold and use.

use std::time::Duration;

use ambit_lab::harness::Lab;
use serde_json::Value;

/// What the lab says of a part of the mesh.
pub(crate) fn component(lab: &Lab, name: &str) -> Value {
    let status = lab.run(["status", "-o", "json"]).json();
    let all = status["components"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|it| it["name"] == name);
    found.expect("a component")
}

/// The process that the lab runs as `name`, as the lab counts processes.
pub(crate) fn process(lab: &Lab, name: &str) -> String {
    component(lab, name)["pid"].to_string()
}

/// CPU time of a process of a node so far, in clock ticks.
pub(crate) fn ticks(lab: &Lab, node: &str, pid: &str) -> u64 {
    let stat = lab.exec(
        &format!("node/{node}"),
        &["cat", &format!("/proc/{pid}/stat")],
    );
    let stat = stat.success();
    let after_name = stat.rsplit(')').next().expect("fields");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let number = |index: usize| fields[index].parse::<u64>().expect("ticks");
    number(11) + number(12)
}

/// The open descriptors of a node's proxy, and its memory in KiB.
pub(crate) fn holds(lab: &Lab, node: &str, pid: &str) -> [u64; 2] {
    let script = format!(
        "ls /proc/{pid}/fd | wc -l; sed -n 's/VmRSS:[[:space:]]*\\([0-9]*\\) kB/\\1/p' /proc/{pid}/status"
    );
    let said = lab
        .exec(&format!("node/{node}"), &["sh", "-c", &script])
        .success();
    let mut numbers = said
        .split_whitespace()
        .map(|it| it.parse().expect("a number"));
    [(); 2].map(|()| numbers.next().expect("two numbers"))
}

/// A process of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number in its pod and when it began, in ticks.
    pub(crate) id: (u64, u64),
    /// Its memory in bytes.
    pub(crate) resident: u64,
    /// What it has had of the processors, for itself and in the kernel.
    pub(crate) busy: Duration,
}

/// The one process of this name in a pod.
pub(crate) fn named(lab: &Lab, pod: &str, name: &str) -> Process {
    let script = format!(
        "for p in /proc/[0-9]*; do if [ \"$(cat $p/comm)\" = {name} ]; then \
         echo ${{p#/proc/}} $(cut -d' ' -f22,14,15 $p/stat) $(sed -n 's/VmRSS:[[:space:]]*\\([0-9]*\\) kB/\\1/p' $p/status); fi; done"
    );
    let said = lab.exec(pod, &["sh", "-c", &script]).success();
    let numbers: Vec<u64> = said
        .split_whitespace()
        .map(|it| it.parse().expect("a number"))
        .collect();
    let [pid, own, kernel, began, resident] = numbers[..] else {
        panic!("not one process: {said}")
    };
    Process {
        id: (pid, began),
        resident: resident * 1024,
        // In hundredths of a second (USER_HZ), whatever the kernel counts in.
        busy: Duration::from_millis(10 * (own + kernel)),
    }
}
