//! What pods are served with, and how serving one begins.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::identity::Identity;
use ambit_net::ca::{CertificateStore, Wanted};
use ambit_net::sys::{Netns, Sockets};

use super::announced::{Announced, Entry, Serving};
use crate::proxy::{Limits, Listeners, Pod, PodProxy, Shared, dns, udp};
use ambit_proxy::Drain;
use ambit_proxy::Workers;

/// What every pod of this node has in common.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The cluster, which is part of a pod's uid.
    pub cluster_id: String,
    /// The trust domain that identities are expected in, until discovery says.
    pub trust_domain: String,
    /// Mark of every packet; 0 for none.
    pub mark: u32,
    /// Whether pods' DNS is served.
    pub dns: bool,
    /// Connections a pod may have.
    pub limits: Limits,
    /// Time connections have to end when the process does; those of a removed pod have less.
    pub grace: Duration,
}

/// Opens the sockets that a pod is served on, inside the runtime that is entered.
pub type Listen = fn(&Pod) -> io::Result<Listeners>;

/// What pods are served with.
pub struct Host {
    /// What they have in common.
    pub origin: Origin,
    /// What their proxies share.
    pub shared: Arc<Shared>,
    /// Certificates for them.
    pub certificates: CertificateStore,
    /// Threads for them.
    pub workers: Workers,
    /// [`Listeners::open`], but in tests.
    pub listen: Listen,
}

impl Host {
    /// The identity to expect of a pod, until discovery says.
    pub(super) fn expected(&self, announced: &Announced) -> Result<Identity, String> {
        let identity = Identity::new(
            self.origin.trust_domain.as_str(),
            announced.namespace.as_str(),
            announced.service_account.as_str(),
        );
        identity.map_err(|error| format!("pod {}: {error}", announced.key()))
    }

    /// Opens a pod's listeners and starts its proxies. What arrives waits until the pod is
    /// identified.
    pub(super) fn serve(&self, entry: &Entry) -> io::Result<Serving> {
        let sockets = Sockets {
            netns: other_than_own(&entry.announced.netns)?,
            mark: Some(self.origin.mark).filter(|mark| *mark != 0),
        };
        let pod = Arc::new(Pod::new(
            entry.uid.clone(),
            entry.announced.key().into(),
            sockets,
            self.origin.limits,
        ));
        let mut opened = Vec::new();
        // One worker is enough for a pod's DNS and UDP, and spares the others its sockets.
        let workers = self.workers.handles();
        let for_datagrams = entry.announced.netns.inode() % workers.len() as u64;
        for (number, handle) in (0..).zip(workers) {
            let _inside = handle.enter();
            let mut listeners = (self.listen)(&pod)?;
            listeners.each = u32::try_from(workers.len()).unwrap_or(u32::MAX);
            if number == for_datagrams {
                if self.origin.dns {
                    listeners.dns = Some(dns::Listeners::open(&pod)?);
                }
                listeners.udp = Some(udp::Listeners::open(&pod)?);
            }
            opened.push(listeners);
        }
        let (drain, drained) = Drain::new();
        for (handle, listeners) in self.workers.handles().iter().zip(opened) {
            let _inside = handle.enter();
            PodProxy::spawn(self.shared.clone(), pod.clone(), listeners, drained.clone());
        }
        Ok(Serving { pod, drain })
    }

    /// Lets a pod's connections go on as `identity`, and its neighbours reach it.
    pub(super) fn identify(&self, serving: &Serving, identity: Wanted) {
        serving.pod.identify(identity);
        self.shared.add_pod(&serving.pod);
    }
}

/// A namespace to enter; none when it is the process's own.
fn other_than_own(netns: &Netns) -> io::Result<Option<Netns>> {
    let own = Netns::current()?;
    Ok((own != *netns).then(|| netns.clone()))
}
