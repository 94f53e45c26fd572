//! What is printed is what stands in `manifests/`, and the committed chart is the one that is made of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

fn objects(text: &str) -> Vec<Value> {
    let parse = |text| serde_saphyr::from_str(text).expect("YAML");
    text.split("---\n").map(parse).collect()
}

#[test]
fn kustomizations_name_the_files_that_are_printed() {
    for (folder, files) in [
        ("base", documents::BASE.to_vec()),
        ("crds", documents::CRDS.to_vec()),
    ] {
        let file = manifests().join(folder).join("kustomization.yaml");
        let text = std::fs::read_to_string(file).expect("a kustomization");
        let kustomization: Value = serde_saphyr::from_str(&text).expect("YAML");
        let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        assert_eq!(kustomization["resources"], Value::from(names), "{folder}");
    }
}

#[test]
fn settings_have_their_places() {
    let all: String = base().map(|document| document.text).collect();
    for place in &places::PLACES {
        let found = all.matches(place.stands).count();
        assert_eq!(found, place.times, "{:?}", place.stands);
    }
}

#[test]
fn what_is_printed_is_what_stands_there() {
    let stands = crds().chain(base()).map(|document| document.text);
    let stands: String = join(stands);
    assert_eq!(objects(&install(&Settings::default())), objects(&stands));
}

#[test]
fn settings_change_what_they_say() {
    let settings = Settings {
        image: "registry.example:5000/a b\"/ambit@sha256:0".to_owned(),
        replicas: 1,
        trust_domain: "new.example".parse().expect("a name"),
        trust_domain_aliases: "old.example,older.example".parse().expect("aliases"),
        outbound_traffic_policy: OutboundTrafficPolicy::RegistryOnly,
        cni_bin_dir: "/bin: x".to_owned(),
        cni_conf_dir: "/conf".to_owned(),
        gateway_classes: false,
        network_policies: false,
    };
    let objects = objects(&install(&settings));
    let of = |kind: &str| objects.iter().filter(|o| o["kind"] == kind).count();
    let kinds = ["GatewayClass", "NetworkPolicy", "PodDisruptionBudget"];
    assert_eq!(kinds.map(of), [0, 0, 0]);
    let one = |kind: &str| objects.iter().find(|o| o["kind"] == kind).expect(kind);
    assert_eq!(one("Deployment")["spec"]["replicas"], 1);
    let pod = &one("DaemonSet")["spec"]["template"]["spec"];
    for container in pod["containers"].as_array().expect("containers") {
        assert_eq!(container["image"], *settings.image);
    }
    let names = [
        ("TRUST_DOMAIN", "new.example"),
        ("AMBIT_TRUST_DOMAIN_ALIASES", "old.example,older.example"),
    ];
    let only = [("AMBIT_OUTBOUND_TRAFFIC_POLICY", "REGISTRY_ONLY")];
    for (workload, container, others) in [
        ("Deployment", "control", &[][..]),
        ("DaemonSet", "ztunnel", &only),
    ] {
        let containers = &one(workload)["spec"]["template"]["spec"]["containers"];
        let mut all = containers.as_array().into_iter().flatten();
        let found = all.find(|it| it["name"] == container).expect(container);
        for (name, value) in names.iter().chain(others) {
            let told = serde_json::json!({"name": name, "value": value});
            let env = found["env"].as_array().expect("variables");
            assert!(env.contains(&told), "{container}: {env:?}");
        }
    }
    let paths: BTreeSet<_> = pod["volumes"]
        .as_array()
        .expect("volumes")
        .iter()
        .filter_map(|volume| volume["hostPath"]["path"].as_str())
        .collect();
    assert!(
        paths.contains("/bin: x") && paths.contains("/conf"),
        "{paths:?}"
    );
}

#[test]
fn what_was_installed_is_uninstalled_agents_first() {
    let names = |text: &str| -> Vec<String> {
        let name = |o: &Value| format!("{} {}", o["kind"], o["metadata"]["name"]).replace('"', "");
        objects(text).iter().map(name).collect()
    };
    let installed: BTreeSet<_> = names(&install(&Settings::default())).into_iter().collect();
    let whole = names(&uninstall(true));
    assert_eq!(whole.iter().cloned().collect::<BTreeSet<_>>(), installed);
    let place = |name: &str| whole.iter().position(|other| other == name).expect(name);
    assert!(place("DaemonSet ztunnel") < place("ClusterRoleBinding ambit-ztunnel"));
    assert_eq!(
        whole.last().map(String::as_str),
        Some("Namespace ambit-system")
    );
    let without = names(&uninstall(false));
    assert_eq!(without.len() + 3, whole.len());
}

#[test]
fn the_chart_is_made_of_the_base() {
    let folder = manifests().join("helm");
    let files = chart::files();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).expect("removed");
        }
        for (path, text) in &files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
    }
    let mut there = BTreeSet::new();
    for sub in ["", "crds", "templates"] {
        for entry in std::fs::read_dir(folder.join(sub)).expect("the chart") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let name = path
                    .strip_prefix(&folder)
                    .expect("below")
                    .display()
                    .to_string();
                there.insert(name);
            }
        }
    }
    let made: BTreeSet<_> = files.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(there, made);
    for (path, text) in files {
        let committed = std::fs::read_to_string(folder.join(&path)).expect("a file");
        assert_eq!(committed, text, "{path}: UPDATE_GENERATED=1 writes it");
    }
}
