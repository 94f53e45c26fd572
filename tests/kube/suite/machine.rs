//! A machine outside the cluster joins its mesh by the commands of README.md and manifests/README.md, with the rights that these name.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ambit_lab::harness::{Ran, eventually, program};

use crate::installed::{Cluster, MANIFESTS, SYSTEM, tunnelled};
use crate::plane::PATIENCE;
use crate::pods::{CLIENT, STRICT, WEB};
use crate::readme::{block, follow, follow_as};
use crate::traces::SHOP;

/// The machine of the lab, and where it is.
const VM: &str = "machine/vm";
const ADDRESS: &str = "172.30.0.201";
/// The address that README.md gives to its machine.
const WRITTEN: &str = "192.0.2.7";
/// A name that does not resolve but by the machine's own file.
const CONTROL: &str = "mesh.example";
/// The service that the machine is behind.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: db}, ports: [{port: 80, targetPort: 8080}]}
";
/// Requests each way.
const REQUESTS: u32 = 5;

/// What runs on the machine, with its own names, until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The machine: files of its own, in a folder.
struct Machine<'a> {
    cluster: &'a Cluster,
    folder: &'a Path,
}

impl Machine<'_> {
    /// The command line of a program that sees the machine's own files.
    fn inside(&self, program: &Path) -> Vec<String> {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let script = format!(
            "mount --bind {} /etc/hosts && mount --bind {} /etc/resolv.conf && exec \"$@\"",
            at("hosts"),
            at("resolv.conf")
        );
        let argv = ["unshare", "--mount", "sh", "-c", &script, "sh"];
        let mut argv: Vec<String> = argv.map(str::to_owned).into();
        argv.push(program.display().to_string());
        argv
    }

    fn start(&self, name: &str, argv: &[String]) -> Running {
        let log = fs::File::create(self.log(name)).expect("a log");
        let mut lab = Command::new(program("lab"));
        lab.args(["--name", self.cluster.lab.name(), "exec", VM, "--"])
            .args(argv)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        Running(lab.spawn().expect("started"))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Starts the proxy from the files that `ambit machine` has written, in the place where they are.
    fn proxy(&self) -> Running {
        let files = self.folder.join("db-1");
        let written = fs::read_to_string(files.join("ztunnel.env")).expect("an environment");
        let here = written
            .replace("/etc/ambit", &files.display().to_string())
            .replace(
                "/var/lib/ambit",
                &self.folder.join("state").display().to_string(),
            );
        let mut argv = vec!["env".to_owned(), "-i".to_owned()];
        argv.extend(here.lines().map(str::to_owned));
        argv.extend(self.inside(&program("ztunnel")));
        // `env -i` takes the path along as well.
        argv.insert(2, "PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        self.start("ztunnel", &argv)
    }

    fn get(&self, url: &str) -> Ran {
        let mut argv = self.inside(&program("load"));
        argv.extend(["get", "--fail", "--timeout", "5s", url].map(str::to_owned));
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        self.cluster.lab.exec(VM, &argv)
    }

    /// Connections in mutual TLS with the machine, as its proxy counts them.
    fn tunnelled(&self, reporter: &str, ways: [&str; 2]) -> f64 {
        let page = self.get("http://127.0.0.1:15020/metrics").success();
        tunnelled(&page, reporter, ways, "tcp")
    }
}

/// The kubeconfig of somebody who has the rights of a group and no others.
fn member_of(cluster: &Cluster, group: &str) -> PathBuf {
    let all = fs::read_to_string(cluster.plane.kubeconfig()).expect("a kubeconfig");
    let as_whom = format!("  user:\n    as: somebody\n    as-groups: [{group}]\n");
    assert_eq!(all.matches("  user:\n").count(), 1, "{all}");
    let path = cluster.plane.folder().join("member.kubeconfig");
    fs::write(&path, all.replace("  user:\n", &as_whom)).expect("written");
    path
}

#[test]
fn a_machine_joins_as_the_readme_says_and_ends_with_its_entry() {
    let plane = crate::plane::ControlPlane::start();
    plane.define();
    let lab = plane.lab_with(1, &["--machine", "vm"]);
    let cluster = Cluster { lab, plane };
    cluster.kubectl(&["apply", "-k", MANIFESTS]);
    let policy = "AMBIT_OUTBOUND_TRAFFIC_POLICY=REGISTRY_ONLY";
    cluster.kubectl(&[
        "set",
        "env",
        "-n",
        SYSTEM,
        "ds/ztunnel",
        "-c",
        "ztunnel",
        policy,
    ]);
    cluster.await_mesh();
    let work = tempfile::tempdir().expect("a folder");
    let folder = work.path();
    let _ = follow(&cluster.plane, "--dns-name=mesh.example", folder).success();
    cluster.plane.apply(SHOP);
    for manifests in [WEB, CLIENT, SERVICE, STRICT] {
        cluster.apply("shop", manifests);
    }
    for workload in ["deploy/web", "ds/client"] {
        cluster.plane.rolled_out("shop", workload);
    }
    cluster.all_are("shop", true);

    let entry = block("yaml", "kind: WorkloadEntry\nmetadata: {name: db-1");
    assert!(entry.contains(WRITTEN), "{entry}");
    fs::write(folder.join("db-1.yaml"), entry.replace(WRITTEN, ADDRESS)).expect("written");
    let _ = follow(&cluster.plane, "apply -f db-1.yaml", folder).success();
    let member = member_of(&cluster, "machine-operators");
    let make = || follow_as(&cluster.plane, &member, "ambit machine shop/db-1", folder);
    let refused = make().failure();
    assert!(refused.contains("forbidden"), "{refused}");
    cluster
        .plane
        .apply(&block("yaml", "resources: [serviceaccounts/token]"));
    let said = eventually("the rights are in force", PATIENCE, || {
        let made = make();
        (made.code == 0).then_some(made.stdout)
    });
    assert!(said.contains("token (good until "), "{said}");
    let environment = fs::read_to_string(folder.join("db-1/ztunnel.env")).expect("written");
    assert!(environment.contains(policy), "{environment}");

    let control: Vec<IpAddr> = cluster
        .plane
        .pods_of(SYSTEM, "app.kubernetes.io/name=ambit-control")
        .iter()
        .filter(|pod| crate::installed::is_staying(pod))
        .filter_map(|pod| pod["status"]["podIP"].as_str()?.parse().ok())
        .collect();
    let hosts = control.iter().map(|ip| format!("{ip} {CONTROL}\n"));
    let hosts = hosts.collect::<String>() + "127.0.0.1 localhost\n";
    fs::write(folder.join("hosts"), hosts).expect("written");
    // The lab's end of the bridge, where nobody knows a name.
    fs::write(folder.join("resolv.conf"), "nameserver 172.30.0.1\n").expect("written");
    fs::create_dir(folder.join("state")).expect("a folder");
    let machine = Machine {
        cluster: &cluster,
        folder,
    };
    let mut echo = machine.inside(&program("echo"));
    echo.push("--port=8080".to_owned());
    let _echo = machine.start("echo", &echo);
    let proxy = machine.proxy();
    let ready = || (machine.get("http://127.0.0.1:15021/healthz/ready").code == 0).then_some(());
    eventually("the machine is in the mesh", PATIENCE, ready);

    let client = cluster.pod_on("shop", "app=client", "node-1");
    let inward = || cluster.get(&client, "http://db.shop/").code == 0;
    let outward = || machine.get("http://web.shop/").code == 0;
    eventually("the pods know of it", PATIENCE, || {
        (inward() && outward()).then_some(())
    });
    let ways = [
        ("destination", ["default", "db"]),
        ("source", ["db", "default"]),
    ];
    let count = || ways.map(|(reporter, who)| machine.tunnelled(reporter, who));
    let before = count();
    for _ in 0..REQUESTS {
        assert!(inward() && outward());
    }
    let after = count();
    eprintln!("connections in and out of the machine: {before:?}, then {after:?}");
    for (before, after) in before.into_iter().zip(after) {
        assert!(after - before >= f64::from(REQUESTS), "{before}, {after}");
    }

    cluster.kubectl(&["delete", "-n", "shop", "workloadentry/db-1"]);
    eventually("nobody reaches it, and it reaches nobody", PATIENCE, || {
        (!inward() && !outward()).then_some(())
    });
    // Neither its certificate nor its token is good for anything without the entry.
    drop(proxy);
    eventually("the first proxy is gone", PATIENCE, || {
        let asked = machine.get("http://127.0.0.1:15021/healthz/ready");
        asked.stderr.contains("refused").then_some(())
    });
    let _proxy = machine.proxy();
    eventually("control turns it away", PATIENCE, || {
        let log = fs::read_to_string(machine.log("ztunnel")).expect("a log");
        log.contains("there is no WorkloadEntry shop/db-1")
            .then_some(())
    });
    assert!(ready().is_none(), "it has nobody to be");
}
