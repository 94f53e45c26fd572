//! What stands in `manifests/` is what the code is: types, environment, flags, ports, rights, programs, metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ambit_control::cli::Cli;
use ambit_control::cluster::access;
use ambit_control::install::{Settings, install};
use ambit_ztunnel::agent;
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Container, Namespace, PodSpec, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

fn parse(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n");
    documents
        .map(|text| serde_saphyr::from_str(text).expect("YAML"))
        .collect()
}

/// The objects of the base.
fn base() -> Vec<Value> {
    parse(&install(&Settings::default()))
}

fn one<T: DeserializeOwned>(kind: &str, name: &str) -> T {
    let is = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    let found = base().into_iter().find(is);
    let object = found.unwrap_or_else(|| panic!("no {kind} {name}"));
    serde_json::from_value(object).expect("an object of its kind")
}

/// Every YAML file below `folder` with its objects.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<Value>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("helm") {
            found.extend(files(&path));
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = std::fs::read_to_string(&path).expect("a file");
            found.push((path, parse(&text)));
        }
    }
    found
}

/// What of `written` is not in `read`: fields that a type does not have vanish when they are read.
fn vanished(written: &Value, read: &Value, path: &str, lost: &mut Vec<String>) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (field, value) in written {
                let path = format!("{path}.{field}");
                match read.get(field) {
                    Some(read) => vanished(value, read, &path, lost),
                    // Kubernetes does not tell nothing from an empty list.
                    None if value.as_array().is_some_and(Vec::is_empty) => {}
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(read)) if written.len() == read.len() => {
            for (at, (written, read)) in written.iter().zip(read).enumerate() {
                vanished(written, read, &format!("{path}[{at}]"), lost);
            }
        }
        (written, read) if written == read => {}
        // Numbers of a schema are floats in its type.
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        _ => lost.push(path.to_owned()),
    }
}

fn round<T: Serialize + DeserializeOwned>(object: &Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

#[test]
fn every_object_is_of_its_type_and_has_no_other_fields() {
    type Round = fn(&Value) -> Result<Value, String>;
    let types: BTreeMap<&str, Round> = [
        ("ClusterRole", round::<ClusterRole> as Round),
        ("ClusterRoleBinding", round::<ClusterRoleBinding>),
        (
            "CustomResourceDefinition",
            round::<CustomResourceDefinition>,
        ),
        ("DaemonSet", round::<DaemonSet>),
        ("Deployment", round::<Deployment>),
        ("Namespace", round::<Namespace>),
        ("NetworkPolicy", round::<NetworkPolicy>),
        ("PodDisruptionBudget", round::<PodDisruptionBudget>),
        (
            "ResourceQuota",
            round::<k8s_openapi::api::core::v1::ResourceQuota>,
        ),
        ("Role", round::<Role>),
        ("RoleBinding", round::<RoleBinding>),
        ("Service", round::<Service>),
        ("ServiceAccount", round::<ServiceAccount>),
    ]
    .into();
    // These are read by control's own types, or by tools.
    let others = ["Certificate", "Kustomization", "Component", "PodMonitor"];
    let mut seen = BTreeSet::new();
    for (path, objects) in files(&manifests()) {
        for object in objects {
            let kind = object["kind"].as_str().expect("a kind").to_owned();
            seen.insert(kind.clone());
            let place = format!("{}: {kind} {}", path.display(), object["metadata"]["name"]);
            if let Some(round) = types.get(kind.as_str()) {
                let read = round(&object).unwrap_or_else(|error| panic!("{place}: {error}"));
                let mut lost = Vec::new();
                vanished(&object, &read, "", &mut lost);
                assert_eq!(lost, [""; 0], "{place}");
            } else if !others.contains(&kind.as_str()) {
                let text = object.to_string();
                for document in ambit_control::source::parse::documents(&text) {
                    let read = ambit_control::source::parse::parse(&document);
                    assert_eq!(
                        (read.errors, read.objects.len()),
                        (Vec::new(), 1),
                        "{place}"
                    );
                }
            }
        }
    }
    for kind in types.keys() {
        assert!(seen.contains(*kind), "nothing is a {kind}");
    }
}

fn pods() -> BTreeMap<&'static str, PodSpec> {
    let set: DaemonSet = one("DaemonSet", "ztunnel");
    let deployment: Deployment = one("Deployment", "ambit-control");
    let node = set.spec.and_then(|spec| spec.template.spec);
    let control = deployment.spec.and_then(|spec| spec.template.spec);
    BTreeMap::from([
        ("ztunnel", node.expect("a pod")),
        ("ambit-control", control.expect("a pod")),
    ])
}

fn container(name: &str) -> Container {
    let pods = pods();
    let mut all = pods.values().flat_map(|pod| &pod.containers);
    let found = all.find(|container| container.name == name);
    found
        .unwrap_or_else(|| panic!("no container {name}"))
        .clone()
}

/// The environment with the values that stand there, and something for what the cluster fills in.
fn environment(container: &Container) -> BTreeMap<String, String> {
    let filled = |name: &str| match name {
        "INSTANCE_IP" => "10.0.0.1".to_owned(),
        _ => "something".to_owned(),
    };
    let variables = container.env.iter().flatten().map(|variable| {
        let value = variable.value.clone();
        let value = value.unwrap_or_else(|| filled(&variable.name));
        (variable.name.clone(), value)
    });
    variables.collect()
}

fn ports(container: &Container) -> BTreeMap<String, u16> {
    let ports = container.ports.iter().flatten().map(|port| {
        let name = port.name.clone().expect("ports have names");
        (name, u16::try_from(port.container_port).expect("a port"))
    });
    ports.collect()
}

#[test]
fn the_node_proxy_understands_its_environment() {
    let container = container("ztunnel");
    let variables = environment(&container);
    let known: BTreeSet<_> = ambit_ztunnel::config::Config::variables()
        .into_iter()
        .map(|known| known.name.to_owned())
        .collect();
    for name in variables.keys() {
        assert!(known.contains(name), "{name}");
    }
    let config = ambit_ztunnel::config::Config::from_env(variables).expect("it starts");
    assert_eq!(config.without_effect, [""; 0]);
    let listens = |listen: &ambit_proxy::config::Listen| listen.0[0].port();
    let servers = &config.servers;
    let expected = BTreeMap::from([
        ("metrics".to_owned(), listens(&servers.stats)),
        ("readiness".to_owned(), listens(&servers.readiness)),
    ]);
    assert_eq!(ports(&container), expected);
    let service: Service = one("Service", "ambit-control");
    let port = service.spec.and_then(|spec| spec.ports).expect("ports")[0].port;
    let address = format!("https://ambit-control.ambit-system.svc:{port}");
    let (xds, ca) = (
        &config.control_plane.xds_address,
        &config.control_plane.ca_address,
    );
    assert_eq!(
        [xds.to_string(), ca.to_string()],
        [address.clone(), address]
    );
}

#[test]
fn the_agent_understands_its_environment_and_flags() {
    let container = container("agent");
    let command = agent::Config::augment_args(clap::Command::new("ambit-cni"));
    let known: BTreeSet<_> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env())
        .map(|name| name.to_str().expect("a name").to_owned())
        // Which pod it is of is nothing to the agent; it is to whoever reads its log.
        .chain(["POD_NAME".to_owned()])
        .collect();
    for name in environment(&container).keys() {
        assert!(known.contains(name), "{name}");
    }
    let args = container.args.clone().expect("arguments");
    assert_eq!(args[0], "agent");
    let args = args.iter().map(String::as_str).chain(["--node-name=n"]);
    let matches = command.try_get_matches_from(args).expect("flags");
    let config = agent::Config::from_arg_matches(&matches).expect("settings");
    assert!(config.install);
    let expected = BTreeMap::from([("agent".to_owned(), config.address.port())]);
    assert_eq!(ports(&container), expected);
    // What it uses of the node is mounted.
    let mounts: BTreeSet<PathBuf> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| PathBuf::from(&mount.mount_path))
        .collect();
    let parent = |path: &Path| path.parent().expect("a folder").to_owned();
    let host_proc = PathBuf::from(&environment(&container)["HOST_PROC"]);
    for path in [
        config.cni_bin_dir.clone(),
        config.cni_conf_dir.clone(),
        parent(&config.socket),
        parent(&config.records()),
        parent(&config.zds_socket),
        host_proc,
    ] {
        assert!(mounts.contains(&path), "{}", path.display());
    }
}

#[test]
fn control_understands_its_flags() {
    let container = container("control");
    let args = container.args.clone().expect("arguments");
    let args = std::iter::once("ambit".to_owned()).chain(args.iter().cloned());
    Cli::try_parse_from(args).expect("flags");
    let control = Cli::command();
    let control = control.find_subcommand("control").expect("a command");
    let known: BTreeSet<_> = control
        .get_arguments()
        .filter_map(|argument| argument.get_env())
        .collect();
    for name in environment(&container).keys() {
        assert!(known.contains(std::ffi::OsStr::new(name)), "{name}");
    }
    let value = |flag: &str| {
        let prefix = format!("--{flag}=");
        let mut args = container.args.iter().flatten();
        let given = args.find_map(|argument| argument.strip_prefix(&prefix));
        let default = || {
            let mut arguments = control.get_arguments();
            let argument = arguments.find(|argument| argument.get_long() == Some(flag));
            let values = argument.expect("a flag").get_default_values();
            values[0].to_str().expect("text").to_owned()
        };
        given.map_or_else(default, str::to_owned)
    };
    let port = |flag: &str| -> u16 {
        let address: std::net::SocketAddr = value(flag).parse().expect("an address");
        address.port()
    };
    let expected = BTreeMap::from([
        ("grpc-xds".to_owned(), port("xds-address")),
        ("health".to_owned(), port("health-address")),
    ]);
    assert_eq!(ports(&container), expected);
}

#[test]
fn probes_scrapes_and_services_name_ports_that_are_there() {
    for (name, pod) in pods() {
        let all: BTreeMap<String, u16> = pod.containers.iter().flat_map(ports).collect();
        for container in &pod.containers {
            let probe = container.readiness_probe.clone().expect("a probe");
            let http = probe.http_get.expect("over HTTP");
            let port = serde_json::to_value(http.port).expect("a port");
            let port = port.as_str().expect("by name").to_owned();
            assert!(ports(container).contains_key(&port), "{name}: {port}");
            assert_eq!(http.path.as_deref(), Some("/healthz/ready"));
        }
        let policy: NetworkPolicy = one("NetworkPolicy", name);
        let rules = policy.spec.and_then(|spec| spec.ingress).expect("rules");
        let opened: BTreeSet<String> = rules
            .iter()
            .flat_map(|rule| rule.ports.iter().flatten())
            .map(|port| serde_json::to_string(&port.port).expect("a port"))
            .collect();
        let there: BTreeSet<String> = all.values().map(u16::to_string).collect();
        assert_eq!(opened, there, "{name}");
    }
    let service: Service = one("Service", "ambit-control");
    for port in service.spec.and_then(|spec| spec.ports).expect("ports") {
        let target = serde_json::to_value(port.target_port).expect("a port");
        let target = target.as_str().expect("by name").to_owned();
        let number = i32::from(ports(&container("control"))[&target]);
        assert_eq!(number, port.port);
    }
    for (kind, name, path) in [
        ("DaemonSet", "ztunnel", "ztunnel"),
        ("Deployment", "ambit-control", "control"),
    ] {
        let object: Value = one(kind, name);
        let annotations = &object["spec"]["template"]["metadata"]["annotations"];
        let port = annotations["prometheus.io/port"].as_str().expect("a port");
        let all = ports(&container(path));
        assert!(
            all.values().any(|number| number.to_string() == port),
            "{kind}"
        );
    }
}

#[test]
fn selectors_find_their_pods() {
    for (kind, name) in [("DaemonSet", "ztunnel"), ("Deployment", "ambit-control")] {
        let object: Value = one(kind, name);
        let template = &object["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        let matches = |selector: &Value, who: &str| {
            let selector = selector.as_object().expect("labels");
            assert!(!selector.is_empty(), "{who}");
            for (label, value) in selector {
                assert_eq!(&labels[label], value, "{who}: {label}");
            }
        };
        matches(&object["spec"]["selector"]["matchLabels"], kind);
        let policy: Value = one("NetworkPolicy", name);
        matches(
            &policy["spec"]["podSelector"]["matchLabels"],
            "NetworkPolicy",
        );
        if kind == "Deployment" {
            let service: Value = one("Service", name);
            matches(&service["spec"]["selector"], "Service");
            let budget: Value = one("PodDisruptionBudget", name);
            matches(
                &budget["spec"]["selector"]["matchLabels"],
                "PodDisruptionBudget",
            );
            let spread = template["spec"]["topologySpreadConstraints"].as_array();
            for constraint in spread.expect("constraints") {
                matches(&constraint["labelSelector"]["matchLabels"], "spread");
            }
        }
        let account = template["spec"]["serviceAccountName"]
            .as_str()
            .expect("an account");
        let _: ServiceAccount = one("ServiceAccount", account);
    }
}

#[test]
fn every_program_is_ours_and_runs_with_the_least_it_needs() {
    let mut commands = BTreeSet::new();
    for (name, pod) in pods() {
        let pod_security = pod.security_context.clone().expect("a security context");
        let profile = pod_security.seccomp_profile.expect("a profile").type_;
        assert_eq!(profile, "RuntimeDefault", "{name}");
        for container in pod.containers {
            let image = container.image.clone().expect("an image");
            assert_eq!(image, Settings::default().image);
            commands.extend(container.command.clone().expect("a command"));
            let security = container
                .security_context
                .clone()
                .expect("a security context");
            assert_eq!(security.read_only_root_filesystem, Some(true));
            assert_ne!(security.privileged, Some(true));
            let capabilities = security.capabilities.expect("capabilities");
            assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
            let expected: Option<&[&str]> = match container.name.as_str() {
                "agent" => Some(&["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"]),
                "ztunnel" => Some(&["NET_ADMIN", "SYS_ADMIN", "NET_RAW"]),
                _ => None,
            };
            let added = capabilities.add.map(|all| all.join(" "));
            assert_eq!(
                added,
                expected.map(|all| all.join(" ")),
                "{}",
                container.name
            );
            assert!(container.resources.and_then(|r| r.requests).is_some());
        }
    }
    assert_eq!(
        commands.into_iter().collect::<Vec<_>>(),
        ["/ambit", "/ambit-cni", "/ztunnel"]
    );
    let dockerfile = std::fs::read_to_string(manifests().join("../Dockerfile")).expect("a file");
    for program in ["/ambit", "/ambit-cni", "/ztunnel", "/waypoint"] {
        assert!(dockerfile.contains(&format!(" {program}\n")), "{program}");
    }
}

/// Every right, as `group/resource verb`, with the name it is limited to.
fn rights(rules: &[PolicyRule]) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        let of = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let name = of(&rule.resource_names).join(",");
        for group in of(&rule.api_groups) {
            for resource in of(&rule.resources) {
                for verb in &rule.verbs {
                    rights.insert(format!("{group}/{resource} {verb} {name}"));
                }
            }
        }
    }
    rights
}

#[test]
fn the_agent_may_do_what_it_does() {
    let of = |own: bool| -> BTreeSet<String> {
        let calls = agent::CALLS.iter().filter(|call| call.own.is_some() == own);
        let one = |call: &agent::Call| {
            let (group, resource) = (call.group, call.resource);
            let name = call.own.unwrap_or_default();
            let right = |verb: &&str| format!("{group}/{resource} {verb} {name}");
            call.verbs.iter().map(right).collect::<Vec<_>>()
        };
        calls.flat_map(one).collect()
    };
    let cluster: ClusterRole = one("ClusterRole", "ambit-ztunnel");
    assert_eq!(rights(&cluster.rules.expect("rules")), of(false));
    let own: Role = one("Role", "ztunnel");
    assert_eq!(rights(&own.rules.expect("rules")), of(true));
}

#[test]
fn control_may_do_what_it_does() {
    let of = |scope: access::Scope| -> BTreeSet<String> {
        let calls = access::CALLS.iter().filter(|call| call.scope == scope);
        let one = |call: &access::Call| {
            let (group, resource) = (call.group, call.resource);
            let right = |verb: &&str| format!("{group}/{resource} {verb} ");
            call.verbs.iter().map(right).collect::<Vec<_>>()
        };
        calls.flat_map(one).collect()
    };
    let cluster: ClusterRole = one("ClusterRole", "ambit-control");
    assert_eq!(
        rights(&cluster.rules.expect("rules")),
        of(access::Scope::Cluster)
    );
    let own: Role = one("Role", "ambit-control");
    assert_eq!(rights(&own.rules.expect("rules")), of(access::Scope::Own));
}

#[test]
fn dashboards_ask_for_metrics_that_there_are() {
    let root = manifests().join("..");
    let mut code = String::new();
    for folder in [
        "shared/telemetry/src",
        "shared/net/src",
        "ztunnel/src",
        "waypoint/src",
    ] {
        gather(&root.join(folder), &mut code);
    }
    let mut control = String::new();
    gather(&root.join("control/src/admin"), &mut control);
    for board in ["mesh", "node-proxy", "waypoint"] {
        let path = manifests().join(format!("dashboards/{board}.json"));
        let text = std::fs::read_to_string(path).expect("a dashboard");
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        let mut asked = BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().expect("targets") {
                metrics(target["expr"].as_str().expect("a query"), &mut asked);
            }
        }
        assert!(asked.len() > 3, "{board}: {asked:?}");
        for metric in asked {
            let family = metric.strip_suffix("_bucket").unwrap_or(&metric);
            let found = match family.strip_prefix("ambit_control_") {
                Some(own) => control.contains(&format!("\"{own}\"")),
                None => code.contains(&format!("\"{family}\"")),
            };
            assert!(found, "{board}: nothing counts {metric}");
        }
    }
}

/// Names of metrics in a query.
fn metrics(query: &str, into: &mut BTreeSet<String>) {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is = |word: &&str| word.starts_with("istio_") || word.starts_with("ambit_");
    into.extend(words.filter(is).map(str::to_owned));
}

fn gather(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            gather(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(&path).expect("a file"));
        }
    }
}
