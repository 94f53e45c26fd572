//! The edit of a node's network configuration: this plugin behind the others, or gone from among them.
//!
//! Nothing but the list of plugins changes.

use serde_json::{Map, Value, json};

use super::VERSIONS;

/// The `type` of the plugin, which is the name of its binary.
pub const PLUGIN: &str = "ambit-cni";

/// The configuration with `plugin` as the last of its list; a configuration of one plugin alone becomes a list. `None` when
/// it is so already.
///
/// # Errors
/// What is wrong with the configuration, and where.
pub fn chained(text: &str, plugin: &Value) -> Result<Option<String>, String> {
    let mut list = list(text)?;
    let version = list.get("cniVersion").and_then(Value::as_str);
    let version = version.unwrap_or_default().to_owned();
    if !VERSIONS.contains(&version.as_str()) {
        let versions = VERSIONS.join(", ");
        return Err(format!("cniVersion {version:?} is none of {versions}"));
    }
    let plugins = plugins(&mut list)?;
    if plugins.last() == Some(plugin) && plugins.iter().filter(|one| ours(one)).count() == 1 {
        return Ok(None);
    }
    plugins.retain(|one| !ours(one));
    if plugins.is_empty() {
        return Err("no plugin gives pods their network".to_owned());
    }
    plugins.push(plugin.clone());
    Ok(Some(written(list)))
}

/// The configuration without the plugin; `None` when it is not there.
///
/// # Errors
/// What is wrong with the configuration, and where.
pub fn unchained(text: &str) -> Result<Option<String>, String> {
    let mut list = list(text)?;
    let plugins = plugins(&mut list)?;
    let before = plugins.len();
    plugins.retain(|one| !ours(one));
    Ok((plugins.len() != before).then(|| written(list)))
}

fn ours(plugin: &Value) -> bool {
    plugin["type"] == PLUGIN
}

fn list(text: &str) -> Result<Map<String, Value>, String> {
    let Value::Object(mut fields) = serde_json::from_str(text).map_err(|e| e.to_string())? else {
        return Err("it is no JSON object".to_owned());
    };
    let named = |name: &Value| name.as_str().is_some_and(|name| !name.is_empty());
    if !fields.get("name").is_some_and(named) {
        return Err("name is missing".to_owned());
    }
    if fields.contains_key("plugins") {
        return Ok(fields);
    }
    if !fields.contains_key("type") {
        return Err("it has neither plugins nor a type".to_owned());
    }
    let head = ["cniVersion", "name"].map(|key| (key.to_owned(), fields.remove(key)));
    let mut list: Map<_, _> = head
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    list.insert("plugins".to_owned(), json!([fields]));
    Ok(list)
}

fn plugins(list: &mut Map<String, Value>) -> Result<&mut Vec<Value>, String> {
    let plugins = list.get_mut("plugins").and_then(Value::as_array_mut);
    plugins.ok_or_else(|| "plugins is no list".to_owned())
}

fn written(list: Map<String, Value>) -> String {
    format!("{:#}\n", Value::Object(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"cniVersion": "1.0.0", "name": "k8s", "disableCheck": true,
        "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap"}]}"#;

    fn plugin() -> Value {
        json!({"type": PLUGIN, "agentSocket": "/a"})
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn the_plugin_comes_last() {
        let with = |more: Value| {
            let mut list = parsed(LIST);
            let plugins = list["plugins"].as_array_mut().expect("a list");
            plugins.extend(more.as_array().expect("a list").clone());
            list
        };
        let expected = with(json!([plugin()]));
        let old = json!({"type": PLUGIN});
        let cases = [
            ("new", parsed(LIST)),
            ("with other settings", with(json!([old]))),
            ("not the last", {
                let mut list = expected.clone();
                list["plugins"].as_array_mut().expect("a list").reverse();
                list["plugins"][1] = json!({"type": "portmap"});
                list["plugins"][2] = parsed(LIST)["plugins"][0].clone();
                list["plugins"].as_array_mut().expect("a list")[1..].reverse();
                list
            }),
            ("twice", with(json!([old, plugin()]))),
        ];
        for (name, list) in cases {
            let edited = chained(&list.to_string(), &plugin()).expect(name);
            assert_eq!(
                edited.as_deref().map(parsed),
                Some(expected.clone()),
                "{name}"
            );
        }
        assert_eq!(chained(&expected.to_string(), &plugin()), Ok(None));
    }

    #[test]
    fn a_single_plugin_becomes_a_list() {
        let single = r#"{"cniVersion": "0.3.1", "name": "net", "type": "bridge", "mtu": 1400}"#;
        let edited = chained(single, &plugin())
            .expect("edited")
            .expect("changed");
        let expected = json!({"cniVersion": "0.3.1", "name": "net",
            "plugins": [{"type": "bridge", "mtu": 1400}, plugin()]});
        assert_eq!(parsed(&edited), expected);
    }

    #[test]
    fn what_was_added_can_be_taken_out() {
        let edited = chained(LIST, &plugin()).expect("edited").expect("changed");
        let back = unchained(&edited).expect("edited").expect("changed");
        assert_eq!(parsed(&back), parsed(LIST));
        assert_eq!(unchained(&back), Ok(None));
    }

    #[test]
    fn what_cannot_be_edited_says_why() {
        let cases = [
            (
                "{\"name\":\n",
                "EOF while parsing a value at line 2 column 0",
            ),
            ("[]", "it is no JSON object"),
            (r#"{"plugins": []}"#, "name is missing"),
            (r#"{"name": "", "plugins": []}"#, "name is missing"),
            (r#"{"name": "a"}"#, "it has neither plugins nor a type"),
            (
                r#"{"name": "a", "cniVersion": "1.0.0", "plugins": {}}"#,
                "plugins is no list",
            ),
            (
                r#"{"name": "a", "cniVersion": "1.0.0", "plugins": []}"#,
                "no plugin gives pods their network",
            ),
            (
                r#"{"name": "a", "cniVersion": "2.0.0", "plugins": []}"#,
                "cniVersion \"2.0.0\" is none of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
            ),
            (
                r#"{"name": "a", "plugins": []}"#,
                "cniVersion \"\" is none of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
            ),
        ];
        for (text, reason) in cases {
            assert_eq!(chained(text, &plugin()), Err(reason.to_owned()), "{text}");
        }
    }
}
