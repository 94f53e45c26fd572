//! Volumes: folders in the lab's memory, filled from objects, mounted into containers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, KeyToPath, Pod, ProjectedVolumeSource, Volume};

use super::env;
use super::host::NodeFiles;
use super::tokens::Tokens;
use crate::api::{Key, Store, random_suffix};
use crate::stage::Mount;

/// Where claims of stateful sets live: they outlast their pods, not the lab.
const CLAIMS: &str = "/run/ambit-lab/claims";

/// The link to the present state of a volume's files.
const DATA: &str = "..data";

/// What volumes are filled from.
pub(super) struct Sources<'a> {
    pub(super) store: &'a Store,
    pub(super) tokens: &'a Tokens,
    pub(super) pod: &'a Pod,
    pub(super) node: &'a NodeFiles,
}

/// Makes every volume of a pod below `folder`, or brings it up to date, and returns where each is.
///
/// # Errors
/// The volume that cannot be made, and why.
pub(super) fn make(
    sources: &Sources<'_>,
    folder: &Path,
) -> Result<BTreeMap<String, PathBuf>, String> {
    let volumes = sources
        .pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let mut made = BTreeMap::new();
    for volume in volumes {
        let place = folder.join(&volume.name);
        let place = sources
            .make_one(volume, place)
            .map_err(|error| format!("volume {}: {error}", volume.name))?;
        made.insert(volume.name.clone(), place);
    }
    Ok(made)
}

/// The mounts of a container.
///
/// # Errors
/// The mount whose volume does not exist.
pub(super) fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let Some(place) = volumes.get(&mount.name) else {
            return Err(format!(
                "volumeMounts: no volume is called {:?}",
                mount.name
            ));
        };
        let source = match &mount.sub_path {
            Some(path) => place.join(path),
            None => place.clone(),
        };
        mounts.push(Mount {
            source,
            target: PathBuf::from(&mount.mount_path),
            read_only: mount.read_only == Some(true),
        });
    }
    Ok(mounts)
}

impl Sources<'_> {
    fn make_one(&self, volume: &Volume, place: PathBuf) -> Result<PathBuf, String> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(host) = &volume.host_path {
            let place = self.node.place(Path::new(&host.path));
            if host.type_.as_deref() == Some("DirectoryOrCreate") {
                fs::create_dir_all(&place).map_err(|error| error.to_string())?;
            }
            return Ok(place);
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            let place = Path::new(CLAIMS).join(namespace).join(&claim.claim_name);
            open_folder(&place).map_err(|error| error.to_string())?;
            return Ok(place);
        }
        open_folder(&place).map_err(|error| error.to_string())?;
        let files = if let Some(map) = &volume.config_map {
            self.config_map(&map.name, map.items.as_deref(), map.optional == Some(true))?
        } else if let Some(secret) = &volume.secret {
            let name = secret.secret_name.as_deref().unwrap_or_default();
            self.secret(name, secret.items.as_deref(), secret.optional == Some(true))?
        } else if let Some(projected) = &volume.projected {
            self.projected(projected)?
        } else if volume.empty_dir.is_some() {
            return Ok(place);
        } else {
            return Err(
                "the lab has emptyDir, configMap, secret, projected, hostPath and \
                        persistentVolumeClaim of stateful sets"
                    .to_owned(),
            );
        };
        write(&place, &files).map_err(|error| error.to_string())?;
        Ok(place)
    }

    fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
    ) -> Result<Files, String> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let Some(map) = self.store.config_maps.get(&Key::new(namespace, name)) else {
            return if optional {
                Ok(Files::new())
            } else {
                Err(missing("configmap", name))
            };
        };
        let text = map.data.clone().unwrap_or_default().into_iter();
        let mut files: Files = text.map(|(key, value)| (key, value.into_bytes())).collect();
        let binary = map.binary_data.clone().unwrap_or_default().into_iter();
        files.extend(binary.map(|(key, value)| (key, value.0)));
        select(files, items)
    }

    fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
    ) -> Result<Files, String> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let Some(secret) = self.store.secrets.get(&Key::new(namespace, name)) else {
            return if optional {
                Ok(Files::new())
            } else {
                Err(missing("secret", name))
            };
        };
        let encoded = secret.data.clone().unwrap_or_default().into_iter();
        let mut files: Files = encoded.map(|(key, value)| (key, value.0)).collect();
        let text = secret.string_data.clone().unwrap_or_default().into_iter();
        files.extend(text.map(|(key, value)| (key, value.into_bytes())));
        select(files, items)
    }

    fn projected(&self, projected: &ProjectedVolumeSource) -> Result<Files, String> {
        let mut files = Files::new();
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                let optional = map.optional == Some(true);
                files.extend(self.config_map(&map.name, map.items.as_deref(), optional)?);
            }
            if let Some(secret) = &source.secret {
                let optional = secret.optional == Some(true);
                files.extend(self.secret(&secret.name, secret.items.as_deref(), optional)?);
            }
            if let Some(fields) = &source.downward_api {
                for item in fields.items.iter().flatten() {
                    if let Some(reference) = &item.field_ref {
                        let value = env::field(self.pod, &reference.field_path)?;
                        files.insert(item.path.clone(), value.into_bytes());
                    }
                }
            }
            if let Some(token) = &source.service_account_token {
                let text = self.tokens.get(token).ok_or("no token yet")?;
                files.insert(token.path.clone(), text.clone().into_bytes());
            }
        }
        Ok(files)
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn missing(kind: &str, name: &str) -> String {
    format!("{kind} {name:?} not found")
}

fn select(mut files: Files, items: Option<&[KeyToPath]>) -> Result<Files, String> {
    let Some(items) = items else { return Ok(files) };
    let mut chosen = Files::new();
    for item in items {
        let Some(content) = files.remove(&item.key) else {
            return Err(format!("key {:?} not found", item.key));
        };
        chosen.insert(item.path.clone(), content);
    }
    Ok(chosen)
}

/// A folder that every user of the container may write to.
fn open_folder(place: &Path) -> io::Result<()> {
    fs::create_dir_all(place)?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o777))
}

/// Writes files as the kubelet does: into a new folder, which `..data` then leads to, as the names lead
/// to `..data`. Whoever reads sees one state or the next.
fn write(place: &Path, files: &Files) -> io::Result<()> {
    let data = place.join(DATA);
    let previous = fs::read_link(&data).ok();
    let same = |(name, content): (&String, &Vec<u8>)| {
        fs::read(data.join(name)).is_ok_and(|there| there == *content)
    };
    if previous.is_some() && files.iter().all(same) {
        return Ok(());
    }
    let version = PathBuf::from(format!("..{}", random_suffix(10)));
    fs::create_dir(place.join(&version))?;
    for (name, content) in files {
        let file = place.join(&version).join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, content)?;
    }
    let next = place.join("..data_tmp");
    symlink(&version, &next)?;
    fs::rename(&next, &data)?;
    for name in files.keys() {
        let top = name.split('/').next().unwrap_or(name);
        match symlink(Path::new(DATA).join(top), place.join(top)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    match previous {
        Some(previous) => fs::remove_dir_all(place.join(previous)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_change_and_their_names_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path();
        let files = |text: &str| Files::from([("a/b".to_owned(), text.as_bytes().to_vec())]);
        let version = || fs::read_link(place.join(DATA)).expect("a link");
        write(place, &files("1")).expect("written");
        assert_eq!(fs::read(place.join("a/b")).expect("there"), b"1");
        let first = version();
        write(place, &files("1")).expect("written");
        assert_eq!(version(), first, "nothing changed");
        write(place, &files("2")).expect("written");
        assert_eq!(fs::read(place.join("a/b")).expect("there"), b"2");
        assert!(!place.join(first).exists(), "the old state is gone");
    }
}
