//! What the answer to a pod's question is, as far as the mesh knows it.
//!
//! A name may be short (`web`, `web.shop`, `web.shop.svc`) or have a search domain of the pod behind it, as resolvers try them
//! (resolv.conf(5)); it is looked for as it is first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::RecordType;
use crate::addr::{NamespacedName, NetworkAddr};
use crate::balance::Picker;
use crate::index::{Endpoint, Index};
use crate::model::service::IpFamilies;
use crate::model::{Health, Service, Vip, Workload, WorkloadType};

/// Seconds that an answer may be kept.
pub(super) const TTL: u32 = 30;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// The network it is on.
    pub network: &'a str,
    /// Its own addresses: it reaches others of their families.
    pub addresses: &'a [IpAddr],
    /// Its cluster.
    pub cluster_id: &'a str,
    /// The domain of that cluster's services.
    pub domain: &'a str,
}

impl Client<'_> {
    /// Whether it has an address of this family, if it is known to have any.
    fn reaches(&self, ip: &IpAddr) -> bool {
        let mut own = self.addresses.iter();
        self.addresses.is_empty() || own.any(|own| own.is_ipv4() == ip.is_ipv4())
    }
}

/// What the mesh has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Here(Records),
    /// The resolver that the pod asked knows, if anyone does.
    Elsewhere {
        /// The mesh has the name, if nothing of what was asked.
        known: bool,
    },
}

/// The records of a name; none when it has none of the type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Records {
    /// The name that they really belong to.
    pub alias: Option<Box<str>>,
    /// Their data, in an order that means nothing.
    pub data: Vec<Data>,
}

impl Records {
    fn of(alias: Option<Box<str>>, data: impl Iterator<Item = Data>) -> Self {
        let mut data: Vec<Data> = data.collect();
        data.sort();
        data.dedup();
        Self { alias, data }
    }

    /// Puts them in an order that is drawn, so that clients that take the first share them.
    pub fn shuffle(&mut self, picker: &mut impl Picker) {
        for last in (1..self.data.len()).rev() {
            let bound = u32::try_from(last + 1).unwrap_or(u32::MAX);
            self.data.swap(last, picker.next(bound) as usize);
        }
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An address.
    Address(IpAddr),
    /// A port of a host.
    Server {
        #[allow(missing_docs)]
        port: u16,
        /// The host's name.
        target: Box<str>,
    },
}

/// The answer to a question for `name`, in lower case and without the dot at its end.
#[must_use]
pub fn answer(index: &Index, client: &Client<'_>, name: &str, kind: RecordType) -> Answer {
    let asked = Asked { index, client };
    if kind == RecordType::SRV {
        return asked.servers(name);
    }
    let Some((found, alias)) = asked.find(name) else {
        return Answer::Elsewhere { known: false };
    };
    let wanted: fn(&IpAddr) -> bool = match kind {
        RecordType::A => IpAddr::is_ipv4,
        RecordType::AAAA => IpAddr::is_ipv6,
        RecordType::ANY => |_| true,
        _ => return Answer::Elsewhere { known: true },
    };
    let addresses = asked.addresses(&found).into_iter();
    let addresses = addresses.filter(|ip| wanted(ip) && client.reaches(ip));
    Answer::Here(Records::of(alias, addresses.map(Data::Address)))
}

/// What a name stands for.
enum Found<'a> {
    Service(&'a Service),
    /// One endpoint of a headless service.
    Endpoint(&'a Service, &'a Endpoint),
}

struct Asked<'a> {
    index: &'a Index,
    client: &'a Client<'a>,
}

impl<'a> Asked<'a> {
    /// What the name stands for, and its real name if a search domain had to go.
    fn find(&self, name: &str) -> Option<(Found<'a>, Option<Box<str>>)> {
        if let Some(found) = self.find_short(name) {
            return Some((found, None));
        }
        let Client {
            namespace, domain, ..
        } = self.client;
        let searched = [
            format!(".{namespace}.svc.{domain}"),
            format!(".svc.{domain}"),
            format!(".{domain}"),
        ];
        searched.iter().find_map(|search| {
            let rest = name.strip_suffix(search.as_str())?;
            Some((self.find_short(rest)?, Some(rest.into())))
        })
    }

    fn find_short(&self, name: &str) -> Option<Found<'a>> {
        let found = || {
            let expanded = self.expand(name);
            expanded.iter().find_map(|full| self.find_full(full))
        };
        self.find_full(name).or_else(found)
    }

    /// The names that a short one may stand for.
    fn expand(&self, name: &str) -> Vec<String> {
        let Client {
            namespace, domain, ..
        } = self.client;
        let ends_with_svc = name.ends_with(".svc");
        let mut full = Vec::new();
        let labels = name.split('.').count();
        if ends_with_svc && (labels == 3 || labels == 4) {
            full.push(format!("{name}.{domain}"));
        }
        if labels == 2 || (labels == 3 && !ends_with_svc) {
            full.push(format!("{name}.svc.{domain}"));
        }
        if labels <= 2 {
            full.push(format!("{name}.{namespace}.svc.{domain}"));
        }
        full
    }

    /// By the name itself, else by wildcards, the longest first.
    fn find_full(&self, name: &str) -> Option<Found<'a>> {
        if let Some(service) = self.service(name) {
            return Some(Found::Service(service));
        }
        if let Some(found) = self.endpoint(name) {
            return Some(found);
        }
        let parents = name.match_indices('.').map(|(at, _)| &name[at..]);
        parents
            .filter_map(|parent| self.service(&format!("*{parent}")))
            .map(Found::Service)
            .next()
    }

    /// A service that the client sees and that has an address, or is headless. Nobody speaks for another namespace's names in
    /// the cluster, and a wildcard that takes in all of them is nobody's.
    fn service(&self, host: &str) -> Option<&'a Service> {
        if host.starts_with('*') && format!(".{}", self.client.domain).ends_with(&host[1..]) {
            return None;
        }
        let service = self
            .index
            .service_by_hostname(host, self.client.namespace)?;
        let of = self.cluster_namespace(host);
        if of.is_some_and(|of| *of != *service.key.namespace) {
            return None;
        }
        let answers = service.vips.iter().any(host_route) || self.of_cluster(host);
        answers.then_some(&**service)
    }

    /// A name that the cluster's own DNS has too.
    fn of_cluster(&self, host: &str) -> bool {
        self.cluster_namespace(host).is_some()
    }

    /// The namespace that such a name belongs to.
    fn cluster_namespace<'h>(&self, host: &'h str) -> Option<&'h str> {
        let rest = host.strip_suffix(self.client.domain)?;
        rest.strip_suffix(".svc.")?.rsplit('.').next()
    }

    /// An endpoint of a headless service by what is before the service's name.
    fn endpoint(&self, name: &str) -> Option<Found<'a>> {
        let (label, host) = name.split_once('.')?;
        if !self.of_cluster(host) {
            return None;
        }
        let service = self.service(host).filter(|it| it.vips.is_empty())?;
        let endpoints = self.index.endpoints(&service.key)?;
        let NamespacedName { namespace, .. } = &service.key;
        let uid = format!("{}//Pod/{namespace}/{label}", self.client.cluster_id);
        let by_name = endpoints.by_uid(&uid);
        let endpoint = match by_name.filter(|it| is_of_stateful_set(it.workload())) {
            Some(endpoint) => endpoint,
            None => endpoints.by_uid(&self.by_address(label)?.uid)?,
        };
        let ready = endpoint.workload().health == Health::Healthy;
        (ready || service.load_balancing.allow_unhealthy)
            .then_some(Found::Endpoint(service, endpoint))
    }

    /// The workload whose address a label is, with dashes in the place of dots and colons. Those that have a hostname go by that.
    fn by_address(&self, label: &str) -> Option<&'a Workload> {
        let four = || {
            label
                .replace('-', ".")
                .parse::<Ipv4Addr>()
                .map(IpAddr::from)
        };
        let six = || {
            label
                .replace('-', ":")
                .parse::<Ipv6Addr>()
                .map(IpAddr::from)
        };
        let ip = four().or_else(|_| six()).ok()?;
        let workload = self
            .index
            .workload_at(&NetworkAddr::new(self.client.network, ip))?;
        (!is_of_stateful_set(workload)).then_some(&**workload)
    }

    /// The servers of a port, `_PORT._tcp.SERVICE`; of a headless service its endpoints, each with a name of its own.
    fn servers(&self, name: &str) -> Answer {
        let port = name.strip_prefix('_');
        let Some((port, asked)) = port.and_then(|rest| rest.split_once("._tcp.")) else {
            let known = self.find(name).is_some();
            return Answer::Elsewhere { known };
        };
        let Some((Found::Service(service), alias)) = self.find(asked) else {
            return Answer::Elsewhere { known: false };
        };
        let Some(port) = service.port_names.iter().find(|it| *it.name == *port) else {
            return Answer::Elsewhere { known: false };
        };
        let host = &service.key.name;
        if !service.vips.is_empty() {
            let asked = alias.as_deref().unwrap_or(asked);
            let target = if host.starts_with('*') { asked } else { host };
            let server = Data::Server {
                port: port.port,
                target: target.into(),
            };
            return Answer::Here(Records::of(None, std::iter::once(server)));
        }
        let servers = self.usable(service).filter_map(|endpoint| {
            let mapping = endpoint
                .ports()
                .iter()
                .find(|it| it.service_port == port.port)?;
            let label = label(
                endpoint.workload(),
                self.of_endpoint(service, endpoint).next()?,
            );
            Some(Data::Server {
                port: mapping.target_port,
                target: format!("{label}.{host}").into(),
            })
        });
        Answer::Here(Records::of(None, servers))
    }

    fn addresses(&self, found: &Found<'a>) -> Vec<IpAddr> {
        match found {
            Found::Endpoint(service, endpoint) => self.of_endpoint(service, endpoint).collect(),
            Found::Service(service) if service.vips.is_empty() => self
                .usable(service)
                .flat_map(|endpoint| self.of_endpoint(service, endpoint))
                .collect(),
            Found::Service(service) => service
                .vips
                .iter()
                .filter(|vip| host_route(vip) && *vip.network == *self.client.network)
                .map(|vip| vip.net.addr())
                .collect(),
        }
    }

    /// The endpoints that a service offers.
    fn usable(&self, service: &'a Service) -> impl Iterator<Item = &'a Endpoint> + use<'a> {
        let endpoints = self.index.endpoints(&service.key);
        endpoints.into_iter().flat_map(|endpoints| {
            let count = if service.load_balancing.allow_unhealthy {
                endpoints.len()
            } else {
                endpoints.healthy_len()
            };
            endpoints.iter().take(count)
        })
    }

    fn of_endpoint(
        &self,
        service: &'a Service,
        endpoint: &'a Endpoint,
    ) -> impl Iterator<Item = IpAddr> + use<'a> {
        let workload = endpoint.workload();
        let near = *workload.network == *self.client.network;
        let all = workload.addresses.iter().filter(move |_| near);
        all.copied().filter(|ip| match service.ip_families {
            IpFamilies::Automatic | IpFamilies::Dual => true,
            IpFamilies::V4 => ip.is_ipv4(),
            IpFamilies::V6 => ip.is_ipv6(),
        })
    }
}

fn host_route(vip: &Vip) -> bool {
    vip.net.prefix_len() == vip.net.max_prefix_len()
}

/// What is before a headless service's name in that of its endpoint.
fn label(workload: &Workload, ip: IpAddr) -> String {
    if is_of_stateful_set(workload) {
        workload.name.to_string()
    } else {
        ip.to_string().replace(['.', ':'], "-")
    }
}

/// These have a hostname, which is their name, `SET-NUMBER`. Nothing else is said of a pod's hostname in discovery.
fn is_of_stateful_set(pod: &Workload) -> bool {
    let number = pod.name.strip_prefix(&*pod.workload_name);
    let number = number.and_then(|rest| rest.strip_prefix('-'));
    pod.workload_type == WorkloadType::Pod
        && number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}
