//! What a container runs: its own command, else what the lab knows of its image.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;
use serde::{Deserialize, Serialize};

/// Which programs stand for which images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    rules: Vec<(String, Vec<String>)>,
}

impl Images {
    /// The lab's sample programs and the image of the mesh, found in `programs`.
    #[must_use]
    pub fn samples(programs: &Path) -> Self {
        let sample = |name: &str| {
            let program: PathBuf = programs.join(name);
            (
                format!("ambit/{name}"),
                vec![program.to_string_lossy().into_owned()],
            )
        };
        let own = ("ambit".to_owned(), vec![format!("{}/", programs.display())]);
        Self {
            rules: vec![sample("echo"), sample("load"), sample("waypoint"), own],
        }
    }

    /// Adds a rule `PATTERN=COMMAND`, which goes before those there are. A command that is one word and ends in
    /// a slash is the folder that stands for the image's root.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, rule: &str) -> Result<(), String> {
        let Some((pattern, command)) = rule.split_once('=') else {
            return Err(format!(
                "{rule:?}: write PATTERN=COMMAND, as in 'nginx*=/usr/sbin/nginx'"
            ));
        };
        let command = words(command).map_err(|error| format!("{rule:?}: {error}"))?;
        if pattern.is_empty() || command.is_empty() {
            return Err(format!(
                "{rule:?}: the pattern and the command must not be empty"
            ));
        }
        self.rules.insert(0, (pattern.to_owned(), command));
        Ok(())
    }

    /// The program and arguments of a container, before variables are expanded.
    ///
    /// # Errors
    /// What a person can do when there is nothing to run.
    pub fn argv(&self, container: &Container) -> Result<Vec<String>, String> {
        let image = container.image.as_deref().unwrap_or_default();
        let known = self.of(image);
        let root = known.as_deref().and_then(root);
        let mut argv = match (&container.command, root) {
            (Some(command), Some(root)) if !command.is_empty() => inside(root, command),
            (Some(command), None) if !command.is_empty() => command.clone(),
            (_, None) => known.ok_or_else(|| {
                format!(
                    "image {image:?} is no program of this machine: give the container a command, \
                     or the lab --image '{image}=COMMAND'"
                )
            })?,
            (_, Some(_)) => return Err(format!("image {image:?} has no command of its own")),
        };
        argv.extend(container.args.iter().flatten().cloned());
        Ok(argv)
    }

    fn of(&self, image: &str) -> Option<Vec<String>> {
        let untagged = untagged(image);
        let fits = |pattern: &str| glob(pattern, image) || glob(pattern, untagged);
        self.rules
            .iter()
            .find(|(pattern, _)| fits(pattern))
            .map(|(_, command)| command.clone())
    }
}

/// The folder that is an image's root: one word that ends in a slash.
fn root(command: &[String]) -> Option<&Path> {
    match command {
        [folder] if folder.ends_with('/') => Some(Path::new(folder)),
        _ => None,
    }
}

/// A command whose program is a file of the image.
fn inside(root: &Path, command: &[String]) -> Vec<String> {
    let mut command = command.to_vec();
    if let Some(program) = command[0].strip_prefix('/') {
        command[0] = root.join(program).to_string_lossy().into_owned();
    }
    command
}

/// The words of a command as a shell splits them: quotes keep spaces.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

/// An image without its tag and digest.
fn untagged(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for anything.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stand_for_programs() {
        let mut images = Images::samples(Path::new("/bin"));
        images.add("nginx*=/usr/sbin/nginx -g off").expect("a rule");
        images.add("*/redis:7*=redis-server").expect("a rule");
        for (image, argv) in [
            ("ambit/echo", Some("/bin/echo")),
            ("ambit/echo:v1", Some("/bin/echo")),
            ("ambit/echo-two", None),
            ("nginx:1.27", Some("/usr/sbin/nginx -g off")),
            ("nginx@sha256:00", Some("/usr/sbin/nginx -g off")),
            ("docker.io/redis:7.2", Some("redis-server")),
            ("docker.io/redis:6", None),
            ("host:5000/ambit/echo", None),
        ] {
            let container = Container {
                image: Some(image.to_owned()),
                ..Container::default()
            };
            let found = images.argv(&container).ok().map(|argv| argv.join(" "));
            assert_eq!(found.as_deref(), argv, "{image}");
        }
        assert!(images.add("nginx").is_err());
        assert!(images.add("nginx='x").is_err());
        assert!(images.add("=x").is_err());
    }

    #[test]
    fn quotes_keep_spaces() {
        let split = words("nginx -g \"daemon off;\" 'a'b ''").expect("closed quotes");
        assert_eq!(split, ["nginx", "-g", "daemon off;", "ab", ""]);
    }

    #[test]
    fn a_command_of_its_own_wins() {
        let container = Container {
            image: Some("ambit/echo".to_owned()),
            command: Some(vec!["sleep".to_owned()]),
            args: Some(vec!["1".to_owned()]),
            ..Container::default()
        };
        let argv = Images::default().argv(&container).expect("a command");
        assert_eq!(argv, ["sleep", "1"]);
    }

    #[test]
    fn a_folder_stands_for_an_images_root() {
        let images = Images::samples(Path::new("/target/debug"));
        let of = |command: &[&str]| {
            let command = command.iter().map(|word| (*word).to_owned()).collect();
            images.argv(&Container {
                image: Some("ambit:0.1.0".to_owned()),
                command: Some(command),
                ..Container::default()
            })
        };
        assert_eq!(
            of(&["/ambit", "x"]).expect("there"),
            ["/target/debug/ambit", "x"]
        );
        assert_eq!(of(&["sleep", "1"]).expect("there"), ["sleep", "1"]);
        assert!(of(&[]).is_err());
    }
}
