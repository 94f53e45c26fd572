//! What would happen to a request, step by step, decided by the proxies' own code.
//!
//! Pure: the node proxy's plan, the waypoint's policies and routes, and the policies of the pod at the end,
//! over the resources that the objects of an [`Index`] lead to. Tokens are not looked at: a request has none.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::index::{Change, Index as Mesh};
use ambit_core::model::{GatewayAddress, Service, Workload};
use ambit_core::plan::{
    Hop, Outbound, OutboundKind, OutboundTrafficPolicy, Transport, plan_outbound,
};
use ambit_http::authz::{Facts, RequestFacts, authorize};
use ambit_http::config::{self, Config, Scope};
use ambit_http::host::Host;
use ambit_http::model::Policy;
use ambit_http::path;
use ambit_http::route::{RequestHead, forward_without_route, select_each};
use http::{HeaderMap, Method};

use self::backends::Share;
use self::outcome::Outcome;
use self::ways::Way;
use crate::index::Index;

mod alone;
mod backends;
mod callers;
mod endpoint;
mod outcome;
mod ways;

/// Who speaks in an explanation.
const CALLER: &str = "node proxy of the caller";
const ENDPOINT: &str = "node proxy of the endpoint";

/// A request that somebody asks about.
#[derive(Debug, Clone)]
pub struct Question {
    /// Namespace and service account of the caller.
    pub from: NamespacedName,
    /// Namespace and name of the Service.
    pub to: NamespacedName,
    #[allow(missing_docs)]
    pub port: u16,
    #[allow(missing_docs)]
    pub method: Method,
    /// With the query.
    pub path: String,
    /// `Host` is the Service's when it is not among these.
    pub headers: HeaderMap,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It reaches an application.
    Passes,
    /// A proxy answers it.
    Refused,
    /// Where it passes the proxies that could be asked, not all of them could.
    Undecided,
    /// It is refused on the way through one of the Service's waypoints, or to one of a route's backends, and not through
    /// or to another.
    Depends,
    /// Pods of the caller's account that are in the mesh fare otherwise than those that are not.
    DependsOnCaller,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    #[allow(missing_docs)]
    pub decision: Decision,
    /// Who decided what, in order.
    pub steps: Vec<Step>,
}

/// What one party says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// A proxy.
    pub at: String,
    /// Its decision, with the object that decided.
    pub says: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{:<28} {}", step.at, step.says)?;
        }
        let decision = match self.decision {
            Decision::Passes => "The request passes.",
            Decision::Refused => "The request is refused.",
            Decision::Undecided => "Undecided: not every proxy on the way could be asked.",
            Decision::Depends => {
                "It depends on the waypoint that the connection, or the backend that the request is drawn for."
            }
            Decision::DependsOnCaller => "It depends on the pod that calls.",
        };
        writeln!(f, "{decision}")
    }
}

/// Answers a question.
///
/// # Errors
/// The question makes no sense: no such Service, a path that no request can have.
pub fn explain(index: &Index, question: &Question) -> Result<Explanation, String> {
    let mesh = mesh(index);
    let key = index
        .mesh()
        .service_key(&question.to.namespace, &question.to.name);
    let service = mesh
        .service(&key)
        .ok_or_else(|| format!("Service {} does not exist", question.to))?
        .clone();
    let trust_domain = index.mesh().trust_domains.own().clone();
    let from = &question.from;
    let identity = Identity::new(trust_domain, from.namespace.clone(), from.name.clone())
        .map_err(|error| format!("--from: {error}"))?;
    let callers = callers::callers(index, &mesh, &service.key, &identity);
    let several = callers.len() > 1;
    let mut steps = Steps::default();
    let mut passed = Vec::new();
    for source in callers {
        let walk = Walk {
            index,
            question,
            mesh: &mesh,
            service: &service,
            identity: &identity,
            source,
        };
        walk.introduce(several, &mut steps);
        passed.push(walk.passes(&mut steps)?);
    }
    Ok(Explanation {
        decision: outcome::decision(&passed),
        steps: steps.said,
    })
}

/// What node proxies know.
fn mesh(index: &Index) -> Mesh {
    let mut mesh = Mesh::default();
    for workload in index.workloads() {
        mesh.apply(Change::Workload(workload.clone()));
    }
    for service in index.services() {
        mesh.apply(Change::Service(service.clone()));
    }
    for policy in index.policies() {
        mesh.apply(Change::Policy(policy.clone()));
    }
    mesh.apply(Change::PoliciesSynced);
    mesh
}

#[derive(Default)]
struct Steps {
    said: Vec<Step>,
    /// Somebody was not asked, since the last outcome.
    missing: bool,
}

impl Steps {
    fn say(&mut self, at: &str, says: impl fmt::Display) {
        self.said.push(Step {
            at: at.to_owned(),
            says: says.to_string(),
        });
    }

    fn not_asked(&mut self, at: &str, why: impl fmt::Display) {
        self.missing = true;
        self.say(at, format_args!("not asked: {why}"));
    }
}

/// A proxy has answered.
struct Refused;

struct Walk<'a> {
    index: &'a Index,
    question: &'a Question,
    mesh: &'a Mesh,
    service: &'a Arc<Service>,
    identity: &'a Identity,
    /// Who calls, when anybody runs as this account.
    source: Option<&'a Workload>,
}

impl Walk<'_> {
    /// What comes of the request on each way that a connection of this caller may take.
    fn passes(&self, steps: &mut Steps) -> Result<Vec<Outcome>, String> {
        if let Some(passes) = self.past_the_mesh(steps) {
            return Ok(vec![steps.outcome(passes)]);
        }
        let ways = ways::ways(self.service);
        let mut ways = ways.iter();
        ways.try_fold(Vec::new(), |mut passed, way| {
            passed.extend(self.go(way, steps)?);
            Ok(passed)
        })
    }

    /// What comes of the request on this way, to each backend that shares it.
    fn go(&self, way: &Way<'_>, steps: &mut Steps) -> Result<Vec<Outcome>, String> {
        if let (Some(share), Some(waypoint)) = (way.share, way.waypoint.and_then(ways::gateway)) {
            let at = format!("{share} % of new connections");
            steps.say(&at, format_args!("are for waypoint {waypoint}"));
        }
        let Ok(taken) = self.leaves(way, steps) else {
            return Ok(vec![steps.outcome(false)]);
        };
        let Some(waypoint) = taken.and_then(ways::gateway) else {
            let passes = self.arrives(self.service, self.question.port, None, steps);
            return Ok(vec![steps.outcome(passes)]);
        };
        let Some(shares) = self.through(&waypoint, steps)? else {
            return Ok(vec![steps.outcome(false)]);
        };
        // Whoever could not be asked before the waypoint is missing for each of them.
        let missing = steps.missing;
        let of_each = shares.into_iter().map(|share| {
            steps.missing |= missing;
            let passes = self.to_backend(share, &waypoint, steps);
            steps.outcome(passes)
        });
        Ok(of_each.collect())
    }

    /// Whether the request reaches the application of this backend.
    fn to_backend(&self, share: Share, waypoint: &NamespacedName, steps: &mut Steps) -> bool {
        let at = match &share.percent {
            Some(percent) => format!("{percent} % of requests"),
            None => format!("waypoint {waypoint}"),
        };
        let (backend, port) = match share.to {
            Ok(to) => to,
            Err(answer) => {
                steps.say(&at, answer);
                return false;
            }
        };
        if share.percent.is_some() {
            steps.say(&at, format_args!("go to {backend} port {port}"));
        }
        let Some(backend) = self.mesh.service(&backend) else {
            steps.say(
                "waypoint",
                format_args!("503: service {backend} is not known"),
            );
            return false;
        };
        self.arrives(backend, port, Some(waypoint), steps)
    }

    /// The address that is dialled; made up when the Service has none yet.
    fn dialled(&self) -> SocketAddr {
        let vip = self.service.vips.first().map(|vip| vip.net.addr());
        SocketAddr::new(
            vip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            self.question.port,
        )
    }

    /// The caller's node proxy: the waypoint that it goes to, if any.
    fn leaves<'w>(
        &'w self,
        way: &Way<'w>,
        steps: &mut Steps,
    ) -> Result<Option<&'w GatewayAddress>, Refused> {
        let at = CALLER;
        let (Some(source), Some(_)) = (self.source, self.service.vips.first()) else {
            let missing = if self.source.is_none() {
                format!("no pod runs as {}", self.question.from)
            } else {
                format!("Service {} has no address", self.question.to)
            };
            steps.not_asked(at, missing);
            return Ok(way.waypoint);
        };
        let outbound = Outbound {
            source,
            source_addr: self.source_addr(),
            destination: self.dialled(),
            local: &|_| false,
            streams: &|_, _| 0,
            // Which addresses a host has is not asked here: it is named below.
            hosts: &|_| Some(vec![self.dialled().ip()]),
            exclude: &[],
            // Whoever asks names a service.
            policy: OutboundTrafficPolicy::AllowAny,
            transport: Transport::Tcp,
        };
        match plan_outbound(self.mesh, &outbound, &mut way.picker()) {
            Ok(plan) => {
                let to = plan.workload.as_ref();
                let to = to.map_or_else(String::new, |to| format!(" {}/{}", to.namespace, to.name));
                match &plan.kind {
                    OutboundKind::Hbone(tunnel) if tunnel.hop == Hop::Waypoint => {
                        let across = ways::across(tunnel);
                        steps.say(
                            at,
                            format_args!("in a tunnel to waypoint instance{to}{across}"),
                        );
                        let instance = plan.workload.as_deref();
                        let taken =
                            instance.and_then(|it| ways::of_instance(self.mesh, self.service, it));
                        return Ok(taken.or(way.waypoint));
                    }
                    OutboundKind::Hbone(tunnel) => {
                        let across = ways::across(tunnel);
                        steps.say(at, format_args!("in a tunnel to{to}{across}"));
                    }
                    OutboundKind::Local { .. } => {
                        steps.say(at, format_args!("on this node, to{to}"))
                    }
                    OutboundKind::Plain { target } => {
                        let host = plan.workload.as_ref().filter(|workload| workload.is_host());
                        let target = match host {
                            Some(host) => format!("{}:{}", host.hostname, target.port()),
                            None => target.to_string(),
                        };
                        let pod = if to.is_empty() {
                            ""
                        } else {
                            ", which is not captured"
                        };
                        steps.say(at, format_args!("as plain TCP to {target}{to}{pod}"));
                    }
                }
                Ok(way.waypoint)
            }
            Err(refusal) => {
                steps.say(at, format_args!("{}: {}", refusal.status, refusal.reason));
                Err(Refused)
            }
        }
    }

    /// The waypoint: where the request goes on to, as shares of all that are like it.
    fn through(
        &self,
        waypoint: &NamespacedName,
        steps: &mut Steps,
    ) -> Result<Option<Vec<Share>>, String> {
        let at = format!("waypoint {waypoint}");
        let mut known = Config::default();
        for resource in self.index.for_waypoints() {
            known.apply(config::Change::Set(resource.clone()));
        }
        let question = self.question;
        let canonical = match path::canonical(&*question.path) {
            Ok(canonical) => canonical,
            Err(error) => {
                steps.say(&at, format_args!("400: the path: {error}"));
                return Ok(None);
            }
        };
        let named = question
            .headers
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok());
        let own = format!("{}.{}", question.to.name, question.to.namespace);
        let host = match Host::parse(named.unwrap_or(&own)) {
            Ok(host) => host,
            Err(error) => {
                steps.say(&at, format_args!("400: the host: {error}"));
                return Ok(None);
            }
        };
        let services = [self.service.key.clone()];
        let scope = Scope {
            waypoint,
            services: &services,
        };
        let ip = self.source_addr().ip();
        let facts = Facts {
            source: Some(self.identity),
            source_ip: ip,
            remote_ip: ip,
            destination: self.dialled(),
            sni: None,
            request: Some(RequestFacts {
                host: host.name(),
                method: &question.method,
                path: canonical.path(),
                headers: &question.headers,
                claims: None,
            }),
        };
        let policies: Vec<&Policy> = known.policies(scope).map(|policy| &**policy).collect();
        let verdict = authorize(policies, &facts);
        steps.say(&at, &verdict);
        for hit in &verdict.dry_run {
            steps.say(&at, format_args!("dry run: policy {} matches", hit.policy));
        }
        if let ambit_http::authz::Decision::Ask(asks) = &verdict.decision {
            if let Some(unknown) = asks
                .iter()
                .find(|ask| known.authorizer(&ask.authorizer).is_none())
            {
                steps.say(&at, unknown.unknown());
                return Ok(None);
            }
        } else if !verdict.allowed() {
            return Ok(None);
        }
        let head = RequestHead {
            method: &question.method,
            host: &host,
            path: &canonical,
            headers: &question.headers,
            scheme: "http",
        };
        let client = &self.question.from.namespace;
        let plans = match known.routes(&self.service.key, question.port, client) {
            None => {
                let plan = forward_without_route(&self.service.key, question.port);
                Ok(vec![(1, Ok(plan))])
            }
            Some(routes) => select_each(&routes, &head),
        };
        let plans = match plans {
            Ok(plans) => plans,
            Err(refusal) => {
                steps.say(&at, format_args!("{}: {}", refusal.status, refusal.reason));
                return Ok(None);
            }
        };
        let shares = backends::shares(&plans);
        let mut known = plans.iter().filter_map(|(_, plan)| plan.as_ref().ok());
        let rule = known.clone().next().map(|plan| match &plan.rule {
            Some(rule) => format!("rule {}: ", rule.key),
            None => "no route is attached: ".to_owned(),
        });
        let rule = rule.unwrap_or_default();
        match &shares[..] {
            [Share { to: Err(why), .. }] => {
                steps.say(&at, format_args!("{rule}{why}"));
                return Ok(None);
            }
            [
                Share {
                    to: Ok((service, port)),
                    ..
                },
            ] => {
                steps.say(&at, format_args!("{rule}to {service} port {port}"));
            }
            several => steps.say(&at, format_args!("{rule}to {} backends", several.len())),
        }
        if let Some(forward) = known.find_map(|plan| plan.action.as_ref().ok()) {
            let timeouts = backends::timeouts(&forward.timeouts);
            let retries = backends::retries(forward.retry.as_ref());
            steps.say(&at, format_args!("{timeouts}; {retries}"));
        }
        Ok(Some(shares))
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
