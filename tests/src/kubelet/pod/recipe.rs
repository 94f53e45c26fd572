//! What a container of a pod is run with, and how it is probed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Probe};

use super::{Group, Worker};
use crate::kubelet::exec::Place;
use crate::kubelet::probe::Prober;
use crate::kubelet::sandbox::Sandbox;
use crate::kubelet::{env, volumes};
use crate::stage::{RunSpec, Target};

impl Worker {
    pub(super) fn environment(
        &self,
        container: &Container,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut pod = self.pod.clone();
        self.cluster
            .read(|store| {
                pod.status = store.pods.get(&self.key).and_then(|pod| pod.status.clone());
                env::of_container(store, &pod, container)
            })
            .map(|mut env| {
                self.cluster.settings.add_to_path(&mut env);
                env
            })
    }

    pub(super) fn run_spec(
        &self,
        sandbox: &Sandbox,
        folders: &BTreeMap<String, PathBuf>,
        container: &Container,
    ) -> Result<RunSpec, (String, String)> {
        let config = |message: String| ("CreateContainerConfigError".to_owned(), message);
        let env = self.environment(container).map_err(config)?;
        let argv = self.cluster.settings.images.argv(container);
        let argv = argv.map_err(|message| ("ErrImagePull".to_owned(), message))?;
        let mut mounts = sandbox.mounts();
        mounts.extend(volumes::mounts(container, folders).map_err(config)?);
        let own = container.security_context.as_ref();
        let pods = self.spec.security_context.as_ref();
        let id = |own: Option<i64>, pods: Option<i64>| {
            own.or(pods).and_then(|id| u32::try_from(id).ok())
        };
        Ok(RunSpec {
            netns: sandbox.netns().to_owned(),
            hostname: Some(sandbox.hostname.clone()),
            mounts,
            scratch: sandbox.folder.join(format!("{}.view", container.name)),
            cwd: container
                .working_dir
                .clone()
                .unwrap_or_else(|| "/".to_owned())
                .into(),
            argv: argv.iter().map(|word| env::expand(word, &env)).collect(),
            env,
            uid: id(
                own.and_then(|it| it.run_as_user),
                pods.and_then(|it| it.run_as_user),
            ),
            gid: id(
                own.and_then(|it| it.run_as_group),
                pods.and_then(|it| it.run_as_group),
            ),
            own_processes: true,
            mode: self.cluster.mode,
        })
    }

    pub(super) fn probers(
        &self,
        container: &Container,
        sandbox: &Sandbox,
        spec: &RunSpec,
        group: Group,
    ) -> BTreeMap<&'static str, Prober> {
        let probes = [
            ("startup", &container.startup_probe),
            ("readiness", &container.readiness_probe),
            ("liveness", &container.liveness_probe),
        ];
        let place = Place {
            target: Target::Network(sandbox.netns().to_owned()),
            env: spec.env.clone(),
            cwd: spec.cwd.clone(),
        };
        let prober = |probe: &Probe| Prober {
            probe: probe.clone(),
            container: container.clone(),
            address: sandbox.addresses.v4.into(),
            node: self.node.netns.netns().clone(),
            place: place.clone(),
        };
        let wanted = probes.into_iter().filter(|_| group == Group::Main);
        wanted
            .filter_map(|(name, probe)| Some((name, prober(probe.as_ref()?))))
            .collect()
    }
}
