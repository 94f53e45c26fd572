//! The agent as a whole: the plugin asks it, a proxy answers, pods are namespaces. Only the source is a list in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambit_core::exclusions::Exclusions;
use ambit_net::netlink::route::Handle;
use ambit_net::netlink::testing::{isolated, namespace, within};
use ambit_net::sys::Netns;
use ambit_net::zds::{self, Client};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::cni::call;
use super::*;
use crate::capture::{Options, verify};

/// What a control plane would list.
#[derive(Debug, Clone, Default)]
struct Listed {
    pods: Arc<Mutex<Vec<Pod>>>,
    /// Namespaces that were put into the mesh besides `in`.
    labelled: Arc<Mutex<BTreeSet<&'static str>>>,
    /// No mark is taken.
    away: Arc<AtomicBool>,
    /// The marks that were taken, and whether the pod was captured then.
    marks: Arc<Mutex<Vec<(String, Mark, bool)>>>,
    /// What was complained of, and why.
    complaints: Arc<Mutex<Vec<(Complaint, String)>>>,
    /// Where the pods' namespaces are.
    folder: PathBuf,
}

impl Source for Listed {
    async fn pods(&self) -> Result<Vec<Pod>, SourceError> {
        Ok(self.pods.lock().clone())
    }

    async fn namespaces(&self) -> Result<BTreeMap<String, Labels>, SourceError> {
        let labelled = self.labelled.lock();
        let labels = |namespace: &str| {
            let ambient = ("istio.io/dataplane-mode".to_owned(), "ambient".to_owned());
            let is_in = namespace == "in" || labelled.contains(namespace);
            is_in.then_some(ambient).into_iter().collect()
        };
        let namespaces = ["in", "out"].map(|namespace| (namespace.to_owned(), labels(namespace)));
        Ok(namespaces.into())
    }

    async fn changed(&self) {
        std::future::pending().await
    }

    async fn mark(&self, pod: &Pod, mark: Mark) -> bool {
        if self.away.load(Ordering::Relaxed) {
            return false;
        }
        let netns = Netns::open(&self.folder.join(&pod.name)).expect("a namespace");
        let missing = verify(&netns, &Options::default()).expect("listed");
        let marked = (pod.name.clone(), mark, missing.is_empty());
        self.marks.lock().push(marked);
        let mut pods = self.pods.lock();
        for listed in pods.iter_mut().filter(|listed| listed.uid == pod.uid) {
            listed.mark = mark;
        }
        true
    }

    async fn complain(&self, _pod: &Pod, complaint: Complaint, why: &str) {
        self.complaints.lock().push((complaint, why.to_owned()));
    }
}

/// An agent that runs, and what outlives it.
struct Node {
    folder: TempDir,
    listed: Listed,
    enrolment: Option<Arc<Enrolment<Listed>>>,
    tasks: Vec<JoinHandle<()>>,
    /// Namespaces by pod name.
    pods: BTreeMap<&'static str, OwnedFd>,
    draining: Duration,
    /// How long a listing and a proxy are waited for.
    patience: Duration,
}

/// Longer than what is there takes.
const LONG: Duration = Duration::from_secs(10);
/// Long enough to be sure that nobody is there.
const SHORT: Duration = Duration::from_secs(2);

/// Compares the labels with the mesh once, and lets leave who has to. Whether all is well.
async fn pass(enrolment: &Enrolment<Listed>) -> bool {
    let mut failing = failing::Failing::default();
    let (well, leaving) = enrolment.compare(&BTreeSet::new(), &mut failing).await;
    well & enrolment.part(leaving, || true).await
}

impl Node {
    async fn start(pods: &[(&'static str, &str)]) -> Self {
        Self::start_with(pods, LONG).await
    }

    async fn start_with(pods: &[(&'static str, &str)], patience: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = pods.iter().map(|(name, _)| (*name, namespace()));
        let mut node = Self {
            listed: Listed {
                folder: folder.path().to_owned(),
                ..Listed::default()
            },
            folder,
            enrolment: None,
            tasks: Vec::new(),
            pods: made.collect(),
            draining: Duration::ZERO,
            patience,
        };
        for (name, fd) in &node.pods {
            within(fd, || {
                let mut inside = Handle::open().expect("netlink opens");
                inside.set_up("lo").expect("up");
            });
            std::os::unix::fs::symlink(
                format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()),
                node.folder.path().join(name),
            )
            .expect("a path to the namespace");
        }
        for (name, namespace) in pods {
            node.listed.pods.lock().push(Pod {
                uid: format!("uid-{name}"),
                namespace: (*namespace).into(),
                name: (*name).into(),
                service_account: "app".into(),
                ips: vec![[10, 0, 0, 7].into()],
                ..Pod::default()
            });
        }
        node.run().await;
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> Config {
        Config {
            node_name: "node-1".into(),
            source_url: String::new(),
            socket: self.path("cni.sock"),
            zds_socket: self.path("zds.sock"),
            state_dir: None,
            proxy_state_dir: None,
            pod_namespace: "ambit-system".into(),
            host_proc: Some(self.path("proc")).filter(|proc| proc.exists()),
            install: false,
            cni_bin_dir: self.path("bin"),
            cni_conf_dir: self.path("conf"),
            exclude_namespaces: Vec::new(),
            address: ([127, 0, 0, 1], 0).into(),
            dns_capture: false,
            source_timeout: self.patience,
            proxy_timeout: self.patience,
            parting: Duration::ZERO,
            draining: self.draining,
        }
    }

    async fn run(&mut self) {
        let config = self.config();
        let patience = config.proxy_timeout;
        let proxies = zds::Server::bind(&config.zds_socket, patience).expect("bound");
        let requests = api::listen(&config.socket).expect("bound");
        let enrolment = Enrolment::open(&config, self.listed.clone(), proxies.clone());
        let enrolment = Arc::new(enrolment.expect("opened"));
        enrolment.recover().await.expect("recovered");
        pass(&enrolment).await;
        self.enrolment = Some(enrolment.clone());
        self.tasks = vec![
            tokio::spawn(async move { proxies.run().await }),
            tokio::spawn(api::serve(requests, enrolment)),
        ];
    }

    fn enrolment(&self) -> &Enrolment<Listed> {
        self.enrolment.as_deref().expect("it runs")
    }

    /// Compares the labels with the mesh until nothing is to be done; whether all is well.
    async fn pass(&self) -> bool {
        pass(self.enrolment()).await & pass(self.enrolment()).await
    }

    fn marked(&self) -> Vec<String> {
        let pods = self.listed.pods.lock();
        let marked = pods.iter().filter(|pod| pod.mark == Mark::Enabled);
        marked.map(|pod| pod.name.clone()).collect()
    }

    /// The marks since this was asked last.
    fn marks(&self) -> Vec<(String, Mark, bool)> {
        std::mem::take(&mut self.listed.marks.lock())
    }

    /// The agent is killed and another one starts.
    async fn restart(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
        self.run().await;
    }

    /// A proxy that agrees to all but pods named `bad`, and tells what it was asked.
    async fn proxy(&self) -> Proxy {
        let mut client = Client::connect(&self.path("zds.sock"))
            .await
            .expect("connected");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = asked.clone();
        let (told, mut ready) = tokio::sync::watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok(Some(request)) = client.receive().await {
                let (word, outcome) = match request {
                    zds::Request::Add { info, netns, .. } => {
                        let inode = Netns::from_fd(netns).expect("a namespace").inode();
                        let bad = info.name == "bad";
                        let word = format!("add {}/{} {inode}", info.namespace, info.name);
                        (word, if bad { Err("it is bad") } else { Ok(()) })
                    }
                    zds::Request::Del { uid } => (format!("del {uid}"), Ok(())),
                    zds::Request::Keep { uid } => (format!("keep {uid}"), Ok(())),
                    zds::Request::SnapshotSent => {
                        told.send_replace(true);
                        ("snapshot".into(), Ok(()))
                    }
                };
                heard.lock().push(word);
                client.acknowledge(outcome).await.expect("answered");
            }
        });
        ready.wait_for(|ready| *ready).await.expect("a snapshot");
        Proxy { asked, task }
    }

    /// Calls the plugin as a container runtime does.
    async fn cni(&self, command: &str, pod: &str, namespace: &str) -> Result<String, String> {
        self.cni_of(command, pod, namespace, "sandbox").await
    }

    async fn cni_of(
        &self,
        command: &str,
        pod: &str,
        namespace: &str,
        sandbox: &str,
    ) -> Result<String, String> {
        let variables = BTreeMap::from([
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", format!("{sandbox}-{pod}")),
            ("CNI_NETNS", self.path(pod).display().to_string()),
            (
                "CNI_ARGS",
                format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod};K8S_POD_UID=uid-{pod}"),
            ),
        ]);
        let conf = json!({"cniVersion": "1.0.0", "name": "n", "type": "ambit-cni",
            "agentSocket": self.path("cni.sock"),
            "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.7/24"}]}});
        let called = move || {
            let answer = call(|name| variables.get(name).cloned(), &conf.to_string());
            answer.map_err(|error| format!("{} {}: {}", error.code, error.msg, error.details))
        };
        tokio::task::spawn_blocking(called).await.expect("no panic")
    }

    fn missing(&self, pod: &str) -> Vec<String> {
        self.missing_of(pod, Exclusions::default())
    }

    /// What is missing of the redirection of a pod of which this is left alone.
    fn missing_of(&self, pod: &str, exclusions: Exclusions) -> Vec<String> {
        let netns = Netns::open(&self.path(pod)).expect("a namespace");
        let options = Options {
            exclusions,
            ..Options::default()
        };
        verify(&netns, &options).expect("listed")
    }

    /// Says something else of a pod, as its annotations would.
    fn annotate(&self, name: &str, exclusions: Exclusions, unread: Option<&str>) {
        let mut pods = self.listed.pods.lock();
        let pod = pods.iter_mut().find(|pod| pod.name == name);
        let pod = pod.expect("a pod");
        pod.exclusions = exclusions;
        pod.unread = unread.map(str::to_owned);
    }

    fn inode(&self, pod: &str) -> u64 {
        Netns::open(&self.path(pod)).expect("a namespace").inode()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

struct Proxy {
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs a test as root of namespaces of its own.
fn node<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    isolated(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(test());
    });
}

#[test]
fn a_pod_of_the_mesh_starts_protected_and_leaves() {
    node(|| async {
        let node = Node::start(&[("web", "in"), ("other", "out")]).await;
        let proxy = node.proxy().await;
        let answer = node.cni("ADD", "web", "in").await.expect("started");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["ips"][0]["address"], "10.0.0.7/24");
        let added = format!("add in/web {}", node.inode("web"));
        assert_eq!(proxy.asked(), ["snapshot".to_owned(), added]);
        assert_eq!(node.missing("web"), Vec::<String>::new());
        node.cni("CHECK", "web", "in")
            .await
            .expect("as it should be");

        node.cni("ADD", "other", "out")
            .await
            .expect("not our business");
        node.cni("CHECK", "other", "out")
            .await
            .expect("not our business");
        assert_eq!(proxy.asked(), Vec::<String>::new());
        assert_eq!(node.missing("other")[0], "table inet ambit is missing");

        for _ in 0..2 {
            node.cni("DEL", "web", "in").await.expect("left");
        }
        assert_eq!(proxy.asked(), ["del uid-web"]);
        let check = node.cni("CHECK", "web", "in").await.expect_err("left");
        assert!(
            check.ends_with("it should be in the mesh and is not"),
            "{check}"
        );
    });
}

#[test]
fn whatever_fails_fails_the_start_with_its_reason() {
    node(|| async {
        let pods = [("web", "in"), ("bad", "in"), ("lost", "nowhere")];
        let node = Node::start_with(&pods, SHORT).await;
        let refused = async |pod, namespace| {
            let refused = node.cni("ADD", pod, namespace).await;
            refused.expect_err("not started")
        };
        let alone = refused("web", "in").await;
        assert!(
            alone.starts_with("11 pod in/web cannot join the mesh: no node proxy is connected to "),
            "{alone}"
        );
        // Captured it stays: it must not talk past the mesh if the runtime should start it anyway.
        assert_eq!(node.missing("web"), Vec::<String>::new());

        let proxy = node.proxy().await;
        let bad = refused("bad", "in").await;
        assert_eq!(
            bad,
            "100 pod in/bad cannot join the mesh: the node proxy refused pod uid-bad: it is bad"
        );
        let unknown = refused("unknown", "in").await;
        assert!(
            unknown.ends_with("it is not listed on this node (3 others)"),
            "{unknown}"
        );
        let lost = refused("lost", "nowhere").await;
        assert!(
            lost.ends_with("its namespace nowhere is not listed"),
            "{lost}"
        );
        std::fs::remove_file(node.path("web")).expect("removed");
        let gone = refused("web", "in").await;
        assert!(
            gone.contains("network namespace ") && gone.contains("No such file"),
            "{gone}"
        );
        std::os::unix::fs::symlink("/proc/self/ns/net", node.path("web")).expect("a path");
        let own = refused("web", "in").await;
        assert!(
            own.ends_with("its network namespace is the node's own"),
            "{own}"
        );
        drop(proxy);
    });
}

#[test]
fn a_pod_that_is_not_listed_yet_is_waited_for() {
    node(|| async {
        let node = Node::start(&[("web", "in")]).await;
        let _proxy = node.proxy().await;
        let pod = node.listed.pods.lock().pop();
        let listed = node.listed.clone();
        let add = node.cni("ADD", "web", "in");
        let later = async move {
            tokio::task::yield_now().await;
            listed.pods.lock().extend(pod);
        };
        let (added, ()) = tokio::join!(add, later);
        added.expect("started");
    });
}

#[test]
fn an_agent_that_starts_again_knows_its_pods() {
    node(|| async {
        let mut node = Node::start(&[("web", "in"), ("gone", "in"), ("ended", "in")]).await;
        let proxy = node.proxy().await;
        for pod in ["web", "gone", "ended"] {
            node.cni("ADD", pod, "in").await.expect("started");
        }
        drop(proxy);
        // One namespace is no more, one pod is no more, and somebody broke the rules of the third.
        std::fs::remove_file(node.path("gone")).expect("removed");
        node.listed.pods.lock().retain(|pod| pod.name != "ended");
        let netns = Netns::open(&node.path("web")).expect("a namespace");
        crate::capture::remove(&netns).expect("removed");
        node.restart().await;
        let proxy = node.proxy().await;
        let added = format!("add in/web {}", node.inode("web"));
        assert_eq!(proxy.asked(), [added, "snapshot".to_owned()]);
        assert_eq!(node.missing("web"), Vec::<String>::new());
        node.cni("CHECK", "web", "in")
            .await
            .expect("as it should be");
        node.cni("DEL", "web", "in").await.expect("left");
        assert_eq!(proxy.asked(), ["del uid-web"]);
        node.restart().await;
        assert_eq!(node.proxy().await.asked(), ["snapshot"]);
    });
}

#[test]
fn a_late_end_of_an_earlier_sandbox_is_not_about_the_pod() {
    node(|| async {
        let node = Node::start(&[("web", "in")]).await;
        let proxy = node.proxy().await;
        for sandbox in ["first", "second"] {
            let added = node.cni_of("ADD", "web", "in", sandbox).await;
            added.expect("started");
        }
        proxy.asked();
        let late = node.cni_of("DEL", "web", "in", "first").await;
        late.expect("nothing to do");
        assert_eq!(proxy.asked(), Vec::<String>::new());
        let end = node.cni_of("DEL", "web", "in", "second").await;
        end.expect("left");
        assert_eq!(proxy.asked(), ["del uid-web"]);
    });
}

#[test]
fn a_pod_that_is_deleted_while_it_is_added_leaves_nothing() {
    for answers in [true, false] {
        node(|| async move {
            let node = Node::start_with(&[("web", "in")], SHORT).await;
            let mut client = Client::connect(&node.path("zds.sock"))
                .await
                .expect("connected");
            let asked: Arc<Mutex<Vec<&str>>> = Arc::default();
            let (heard, may_answer) = (asked.clone(), Arc::new(Notify::new()));
            let (pending, mut is_pending) = tokio::sync::watch::channel(false);
            let told = may_answer.clone();
            let proxy = tokio::spawn(async move {
                while let Ok(Some(request)) = client.receive().await {
                    let word = match request {
                        zds::Request::Add { .. } => {
                            pending.send_replace(true);
                            told.notified().await;
                            "add"
                        }
                        zds::Request::Del { .. } => "del",
                        zds::Request::Keep { .. } => "keep",
                        zds::Request::SnapshotSent => "snapshot",
                    };
                    heard.lock().push(word);
                    client.acknowledge(Ok(())).await.expect("answered");
                }
            });
            let answered_late = async {
                let held = is_pending.wait_for(|pending| *pending).await;
                held.expect("it is asked");
                let deleted = node.cni("DEL", "web", "in");
                let both_there = async {
                    while node.enrolment().locks.at("in/web") < 2 {
                        tokio::task::yield_now().await;
                    }
                    if answers {
                        may_answer.notify_one();
                    }
                };
                tokio::join!(deleted, both_there).0
            };
            let added = node.cni("ADD", "web", "in");
            let both = async { tokio::join!(added, answered_late) };
            let both = tokio::time::timeout(3 * LONG, both).await;
            let (added, deleted) = both.expect("both come to an end");
            deleted.expect("it has left");
            assert_eq!(added.is_ok(), answers, "{added:?}");
            if answers {
                assert_eq!(*asked.lock(), ["snapshot", "add", "del"]);
            }
            proxy.abort();
            assert_eq!(node.enrolment().counts().0, 0);
            let forgotten = async {
                while !node.enrolment().proxies.pods().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            let forgotten = tokio::time::timeout(LONG, forgotten).await;
            forgotten.expect("proxies are not told of it");
            // Whoever comes next hears nothing of it.
            assert_eq!(node.proxy().await.asked(), ["snapshot"]);
        });
    }
}

#[test]
fn a_broken_redirection_is_told() {
    node(|| async {
        let node = Node::start(&[("web", "in")]).await;
        let _proxy = node.proxy().await;
        node.cni("ADD", "web", "in").await.expect("started");
        let netns = Netns::open(&node.path("web")).expect("a namespace");
        crate::capture::remove(&netns).expect("removed");
        let told = node.cni("CHECK", "web", "in").await.expect_err("broken");
        assert!(
            told.contains("table inet ambit is missing; rule "),
            "{told}"
        );
    });
}

#[test]
fn a_firewall_that_is_loaded_again_does_not_take_the_probes() {
    node(|| async {
        let node = Node::start(&[("web", "in")]).await;
        let _proxy = node.proxy().await;
        node.cni("ADD", "web", "in").await.expect("started");
        let probes = node.enrolment().probes.clone();
        assert_eq!(probes.restore().await.expect("looked"), [""; 0]);
        crate::capture::remove_host().expect("removed");
        let missing = probes.restore().await.expect("restored");
        assert_eq!(missing, ["table inet ambit-host is missing"]);
        assert_eq!(probes.restore().await.expect("looked"), [""; 0]);
        node.enrolment().leave_node().await.expect("left");
        assert_eq!(probes.restore().await.expect("nothing to do"), [""; 0]);
        let left = crate::capture::verify_host().expect("looked");
        assert_eq!(left, missing, "nobody has it back");
    });
}

#[test]
fn pods_join_and_leave_while_they_run() {
    node(|| async {
        let node = Node::start_with(&[("web", "out"), ("bad", "out")], SHORT).await;
        for pod in ["web", "bad"] {
            node.cni("ADD", pod, "out").await.expect("not our business");
        }
        node.listed.labelled.lock().insert("out");
        // Without a proxy there is no way for its traffic: it goes on as before.
        assert!(!node.pass().await);
        assert_eq!(node.missing("web")[0], "table inet ambit is missing");

        let proxy = node.proxy().await;
        let snapshot = proxy.asked();
        assert_eq!(snapshot, ["snapshot"]);
        assert!(!node.pass().await, "one is refused");
        let added = format!("add out/web {}", node.inode("web"));
        assert!(proxy.asked().contains(&added));
        assert_eq!(node.missing("web"), Vec::<String>::new());
        assert_eq!(node.missing("bad")[0], "table inet ambit is missing");
        assert_eq!(node.marked(), ["web"]);
        node.cni("CHECK", "web", "out")
            .await
            .expect("as it should be");

        node.listed.labelled.lock().clear();
        assert!(node.pass().await);
        assert!(proxy.asked().contains(&"del uid-web".to_owned()));
        assert_eq!(node.missing("web")[0], "table inet ambit is missing");
        assert_eq!(node.marked(), [""; 0]);

        node.listed.pods.lock().retain(|pod| pod.name == "web");
        node.listed.labelled.lock().insert("out");
        assert!(node.pass().await);
        assert_eq!(proxy.asked(), [added]);
        node.listed.pods.lock()[0].ended = true;
        assert!(node.pass().await);
        assert_eq!(proxy.asked(), ["del uid-web"]);
    });
}

fn leaving_alone(port: u16) -> Exclusions {
    Exclusions {
        inbound_ports: [port].into(),
        ..Exclusions::default()
    }
}

#[test]
fn what_is_left_alone_is_what_the_pod_says_now() {
    node(|| async {
        let mut node = Node::start(&[("web", "in"), ("late", "out")]).await;
        let proxy = node.proxy().await;
        for pod in ["web", "late"] {
            node.annotate(pod, leaving_alone(80), None);
        }
        node.cni("ADD", "web", "in").await.expect("started");
        node.cni("ADD", "late", "out").await.expect("not ours");
        assert_eq!(node.missing_of("web", leaving_alone(80)), [""; 0]);
        // Others, while it runs and when the agent has started again.
        for port in [81, 82] {
            node.annotate("web", leaving_alone(port), None);
            match port {
                81 => assert!(node.pass().await),
                _ => node.restart().await,
            }
            assert_eq!(node.missing_of("web", leaving_alone(port)), [""; 0]);
            node.cni("CHECK", "web", "in").await.expect("as it is");
        }
        // One that joins while it runs.
        let proxy = {
            drop(proxy);
            node.proxy().await
        };
        node.listed.labelled.lock().insert("out");
        assert!(node.pass().await);
        assert_eq!(node.missing_of("late", leaving_alone(80)), [""; 0]);
        let told: Vec<String> = proxy.asked();
        let late = format!("add out/late {}", node.inode("late"));
        assert_eq!(told.last(), Some(&late), "proxies are not told of the rest");
        node.annotate("web", Exclusions::default(), None);
        assert!(node.pass().await);
        assert_eq!(node.missing("web"), [""; 0]);
        assert_eq!(*node.listed.complaints.lock(), []);
    });
}

#[test]
fn a_pod_whose_annotations_do_not_read_is_captured_and_told_of() {
    node(|| async {
        let node = Node::start(&[("web", "in"), ("other", "out")]).await;
        let _proxy = node.proxy().await;
        node.annotate("other", Exclusions::default(), Some("it is bad"));
        node.annotate("web", leaving_alone(80), None);
        node.cni("ADD", "web", "in").await.expect("started");
        assert!(node.pass().await);
        assert_eq!(
            *node.listed.complaints.lock(),
            [],
            "who is out is not captured"
        );
        node.annotate("web", Exclusions::default(), Some("it is bad"));
        let mut failing = failing::Failing::default();
        for _ in 0..2 {
            let nobody = BTreeSet::new();
            let (well, _) = node.enrolment().compare(&nobody, &mut failing).await;
            assert!(well);
        }
        assert_eq!(node.missing("web"), [""; 0]);
        let said = (Complaint::InvalidAnnotation, "it is bad".to_owned());
        assert_eq!(*node.listed.complaints.lock(), [said]);
    });
}

#[test]
fn callers_hear_of_a_pod_after_it_joined_and_before_it_leaves() {
    node(|| async {
        let node = Node::start(&[("web", "in"), ("late", "out")]).await;
        let _proxy = node.proxy().await;
        let mark = |name: &str, mark, captured| (name.to_owned(), mark, captured);
        node.cni("ADD", "web", "in").await.expect("started");
        assert_eq!(node.marks(), [mark("web", Mark::Enabled, true)]);
        node.cni("ADD", "late", "out").await.expect("not ours");
        assert_eq!(node.marks(), []);

        node.listed.labelled.lock().insert("out");
        assert!(node.pass().await);
        assert_eq!(node.marks(), [mark("late", Mark::Enabled, true)]);
        node.listed.labelled.lock().clear();
        assert!(node.pass().await);
        let parted = [
            mark("late", Mark::Pending, true),
            mark("late", Mark::None, false),
        ];
        assert_eq!(node.marks(), parted);
    });
}

#[test]
fn who_leaves_keeps_nobody_from_joining() {
    node(|| async {
        let mut node = Node::start(&[("web", "in"), ("late", "out")]).await;
        node.draining = Duration::from_secs(3600);
        node.restart().await;
        let _proxy = node.proxy().await;
        node.cni("ADD", "web", "in").await.expect("started");
        node.cni("ADD", "late", "out").await.expect("not ours");
        let (readiness, following) = (Readiness::default(), node.enrolment.clone());
        let following = following.expect("it runs");
        let listing = readiness.task("listing");
        node.tasks.push(tokio::spawn(async move {
            following.follow(listing, || true).await;
        }));
        let marked = async |name: &str, mark| {
            node.enrolment().changed.notify_one();
            let deadline = tokio::time::Instant::now() + LONG;
            let is_it = |it: &(String, Mark, bool)| it.0 == name && it.1 == mark;
            while !node.listed.marks.lock().iter().any(is_it) {
                assert!(tokio::time::Instant::now() < deadline, "{name} {mark:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let out = ("istio.io/dataplane-mode".to_owned(), "none".to_owned());
        node.listed.pods.lock()[0].labels.extend([out]);
        marked("web", Mark::Pending).await;
        node.listed.labelled.lock().insert("out");
        marked("late", Mark::Enabled).await;
        assert!(!node.marks().iter().any(|it| it.1 == Mark::None));
    });
}

#[test]
fn a_mark_that_cannot_be_made_is_made_later() {
    node(|| async {
        let node = Node::start(&[("web", "in"), ("late", "out")]).await;
        let _proxy = node.proxy().await;
        node.cni("ADD", "late", "out").await.expect("not ours");
        node.listed.away.store(true, Ordering::Relaxed);
        node.cni("ADD", "web", "in").await.expect("started");
        assert_eq!(node.missing("web"), Vec::<String>::new());
        node.listed.labelled.lock().insert("out");
        assert!(!node.pass().await);
        assert_eq!(node.missing("late"), Vec::<String>::new());
        node.listed.away.store(false, Ordering::Relaxed);
        assert!(node.pass().await);
        assert_eq!(node.marked(), ["web", "late"]);

        // Who is not told goes on calling through tunnels.
        node.listed.away.store(true, Ordering::Relaxed);
        node.listed.labelled.lock().clear();
        assert!(!node.pass().await);
        assert_eq!(node.missing("late"), Vec::<String>::new());
        node.listed.away.store(false, Ordering::Relaxed);
        assert!(node.pass().await);
        assert_eq!(node.missing("late")[0], "table inet ambit is missing");
        assert_eq!(node.marked(), ["web"]);
    });
}

#[test]
fn a_pod_that_no_plugin_told_of_is_found_by_its_processes() {
    node(|| async {
        let mut node = Node::start(&[("web", "in")]).await;
        let proc = node.path("proc");
        let make = |process: &str, netns: PathBuf, group: &str| {
            let folder = proc.join(process);
            std::fs::create_dir_all(folder.join("ns")).expect("made");
            std::os::unix::fs::symlink(netns, folder.join("ns/net")).expect("a link");
            std::fs::write(folder.join("cgroup"), group).expect("written");
            let stat = format!("{process} (a) S {}5", "0 ".repeat(18));
            std::fs::write(folder.join("stat"), stat).expect("written");
        };
        make("1", "/proc/self/ns/net".into(), "0::/");
        node.restart().await;
        let proxy = node.proxy().await;
        assert!(!node.pass().await, "it is not found");
        make("77", node.path("web"), "0::/kubepods/poduid-web/c");
        assert!(node.pass().await);
        let added = format!("add in/web {}", node.inode("web"));
        assert_eq!(proxy.asked(), ["snapshot".to_owned(), added]);
        assert_eq!(node.missing("web"), Vec::<String>::new());
        assert_eq!(node.marked(), ["web"]);
    });
}

#[test]
fn a_node_that_is_left_is_as_it_was() {
    node(|| async {
        let node = Node::start(&[("web", "in")]).await;
        let proxy = node.proxy().await;
        node.cni("ADD", "web", "in").await.expect("started");
        assert!(node.pass().await);
        assert_eq!(node.marked(), ["web"]);
        node.enrolment().leave_node().await.expect("left");
        assert_eq!(
            proxy.asked().last().map(String::as_str),
            Some("del uid-web")
        );
        assert_eq!(node.missing("web")[0], "table inet ambit is missing");
        assert_eq!(node.marked(), [""; 0]);
        assert!(!node.config().records().exists());
    });
}

#[tokio::test]
async fn a_newer_agent_takes_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cni.sock");
    let _older = api::listen(&path).expect("bound");
    let ours = api::owner(&path).expect("a socket");
    assert!(ours());
    let _newer = api::listen(&path).expect("bound");
    assert!(!ours());
    std::fs::remove_file(&path).expect("removed");
    assert!(ours(), "nobody else is there");
}
