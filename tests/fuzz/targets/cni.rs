//! Whatever a container runtime, a plugin or a node's configuration says is understood or refused in the specification's
//! words; what is understood means the same to whoever reads it next.
//!
//! The first line is `CNI_ARGS`, the rest JSON.
#![no_main]

use ambit_core::cni::agent::{Answer, Command, REFUSED, Refusal, Request};
use ambit_core::cni::conflist::{PLUGIN, chained, unchained};
use ambit_core::cni::{CniError, Environment, NetConf, VERSIONS, ips, result};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let (args, input) = text.split_once('\n').unwrap_or_default();
    let environment = environment(args);
    plugin(environment, input);
    agent(input.as_bytes());
    configuration(input);
});

fn environment(args: &str) -> Option<Environment> {
    let variable = |name: &str| match name {
        "CNI_CONTAINERID" => Some("sandbox".to_owned()),
        "CNI_ARGS" => Some(args.to_owned()),
        _ => None,
    };
    let needs_netns = Environment::read(variable, true).expect_err("there is none");
    assert_eq!(needs_netns.code, 4);
    let environment = match Environment::read(variable, false) {
        Ok(environment) => environment,
        Err(error) => {
            is_told(&error, "", 4);
            return None;
        }
    };
    if let Some(pod) = &environment.pod {
        let words = [&pod.namespace, &pod.name, &pod.uid];
        assert!(!words.iter().any(|word| word.contains(';')), "{pod:?}");
        assert!(!pod.namespace.is_empty() && !pod.name.is_empty());
        let [namespace, name, uid] = words;
        let args = format!(
            "K8S_POD_UID={uid};;K8S_POD_NAMESPACE={namespace};Other=K8S_POD_NAME=x;K8S_POD_NAME={name}"
        );
        let again = Environment::read(
            |name| match name {
                "CNI_ARGS" => Some(args.clone()),
                other => variable(other),
            },
            false,
        );
        assert_eq!(again.as_ref(), Ok(&environment));
    }
    Some(environment)
}

fn plugin(environment: Option<Environment>, input: &str) {
    let conf = match NetConf::parse(input) {
        Ok(conf) => conf,
        Err(error) => {
            let code = if error.code == 1 { 1 } else { 6 };
            return is_told(&error, input, code);
        }
    };
    assert!(VERSIONS.contains(&&*conf.cni_version));
    let before = match conf.result() {
        Ok(before) => before,
        Err(error) => return is_told(&error, input, 7),
    };
    let mut passed_on: Value = parsed(&result(&conf.cni_version, before.clone()));
    if before.get("cniVersion").is_none() {
        let version = passed_on
            .as_object_mut()
            .and_then(|it| it.remove("cniVersion"));
        assert_eq!(version, Some(conf.cni_version.as_str().into()));
    }
    if is_exact(&before) {
        assert_eq!(passed_on, before, "nothing else of the result changes");
    }
    let ips = match ips(&before) {
        Ok(ips) => ips,
        Err(error) => return is_told(&error, input, 6),
    };
    let addresses = before["ips"].as_array().map_or(0, Vec::len);
    assert_eq!(ips.len(), addresses, "none is left out");
    let Some(Environment {
        container_id,
        netns,
        pod: Some(pod),
    }) = environment
    else {
        return;
    };
    let excludes = conf.excludes(&pod);
    let namespaces = parsed(input)["excludeNamespaces"].as_array().cloned();
    let named = namespaces.is_some_and(|all| all.contains(&pod.namespace.as_str().into()));
    assert_eq!(excludes, named, "{pod}");
    let request = Request {
        command: Command::Add,
        container_id,
        pod,
        netns: netns.map(Into::into),
        ips,
    };
    let sent = serde_json::to_vec(&request).expect("plain JSON");
    assert_eq!(Request::parse(&sent).as_ref(), Ok(&request));
}

fn is_told(error: &CniError, input: &str, code: u32) {
    let told = parsed(&error.render(input));
    assert_eq!(told["code"], code, "{told}");
    assert!(told["cniVersion"].is_string(), "{told}");
    for words in ["msg", "details"] {
        let text = told[words].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{told}");
    }
}

/// What comes to the agent's socket, and from it.
fn agent(body: &[u8]) {
    match Request::parse(body) {
        Ok(request) => {
            let sent = serde_json::to_vec(&request).expect("plain JSON");
            assert_eq!(Request::parse(&sent).as_ref(), Ok(&request));
        }
        Err(refusal) => {
            assert!(refusal.code == REFUSED && !refusal.details.is_empty());
            let sent = serde_json::to_vec(&refusal).expect("plain JSON");
            assert_eq!(serde_json::from_slice::<Refusal>(&sent).ok(), Some(refusal));
        }
    }
    if let Ok(answer) = serde_json::from_slice::<Answer>(body) {
        let sent = serde_json::to_vec(&answer).expect("plain JSON");
        assert_eq!(serde_json::from_slice::<Answer>(&sent).ok(), Some(answer));
    }
}

/// A node's configuration: the plugin is put in once, taken out again, and nothing else changes.
fn configuration(text: &str) {
    let plugin = json!({"type": PLUGIN, "agentSocket": "/run/agent.sock"});
    let Ok(edited) = chained(text, &plugin) else {
        return;
    };
    let with = edited.as_deref().unwrap_or(text);
    assert_eq!(chained(with, &plugin), Ok(None), "it is there already");
    let listed = parsed(with);
    let plugins = listed["plugins"].as_array().expect("a list");
    assert!(plugins.len() > 1 && plugins.last() == Some(&plugin));
    let without = unchained(with).expect("a list").expect("it was there");
    assert_eq!(unchained(&without), Ok(None), "it is gone");
    let (mut before, mut after) = (parsed(text), parsed(&without));
    if !is_exact(&before) || before.get("plugins").is_none() {
        return;
    }
    let others = |list: &mut Value| {
        let plugins = list["plugins"].as_array_mut().expect("a list");
        plugins.retain(|one| one["type"] != PLUGIN);
    };
    others(&mut before);
    others(&mut after);
    assert_eq!(before, after, "nothing but the list of plugins changes");
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Whether reading and writing keep it to the last bit: fractions may lose one, and none of these documents has any.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
        _ => true,
    }
}
