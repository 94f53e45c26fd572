//! Routes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Handle, Ip, octets, parse_ip};
use crate::netlink::Error;
use crate::netlink::message::{Message, attributes, u32_at};

const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_ONLINK: u32 = 4;
const MAIN_TABLE: u32 = libc::RT_TABLE_MAIN as u32;

/// A route: to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to; prefix length 0 is the default route.
    pub to: IpNet,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The device's name.
    pub dev: Option<String>,
    /// The gateway is on the device's link though no address says so.
    pub onlink: bool,
    /// The destinations are this host's own.
    pub local: bool,
    /// The routing table.
    pub table: u32,
    /// The address that this host uses towards there.
    pub source: Option<IpAddr>,
    /// Lower wins.
    pub metric: Option<u32>,
}

impl Route {
    /// A route in the main table.
    #[must_use]
    pub fn to(to: IpNet) -> Self {
        Self {
            to,
            via: None,
            dev: None,
            onlink: false,
            local: false,
            table: MAIN_TABLE,
            source: None,
            metric: None,
        }
    }

    /// The default route of a family.
    #[must_use]
    pub fn default(family: Ip) -> Self {
        let any: IpAddr = match family {
            Ip::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Ip::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self::to(IpNet::new(any, 0).expect("0 is a prefix length of both families"))
    }

    /// Through this gateway.
    #[must_use]
    pub fn via(mut self, gateway: IpAddr) -> Self {
        self.via = Some(gateway);
        self
    }

    /// Out of this device.
    #[must_use]
    pub fn dev(mut self, name: impl Into<String>) -> Self {
        self.dev = Some(name.into());
        self
    }

    /// Takes the gateway for a neighbour on the device's link.
    #[must_use]
    pub fn onlink(mut self) -> Self {
        self.onlink = true;
        self
    }

    /// Delivers to this host (type `local`, scope `host`).
    #[must_use]
    pub fn local(mut self) -> Self {
        self.local = true;
        self
    }

    /// In this table.
    #[must_use]
    pub fn table(mut self, table: u32) -> Self {
        self.table = table;
        self
    }

    /// With this source address for traffic of this host.
    #[must_use]
    pub fn source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// With this metric.
    #[must_use]
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }

    fn scope(&self) -> u8 {
        if self.local {
            libc::RT_SCOPE_HOST
        } else if self.via.is_none() && self.to.addr().is_ipv4() {
            libc::RT_SCOPE_LINK
        } else {
            libc::RT_SCOPE_UNIVERSE
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.local {
            f.write_str("local ")?;
        }
        write!(f, "{}", self.to)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(dev) = &self.dev {
            write!(f, " dev {dev}")?;
        }
        if self.table != MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        if self.onlink {
            f.write_str(" onlink")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        Ok(())
    }
}

impl Handle {
    /// Adds a route; one to the same destination with the same metric is replaced.
    pub fn add_route(&mut self, route: &Route) -> Result<(), Error> {
        let how = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.route("add route", libc::RTM_NEWROUTE, how, route)
    }

    /// Removes a route.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), Error> {
        self.route("delete route", libc::RTM_DELROUTE, 0, route)
    }

    /// The routes of a table, both families.
    pub fn routes(&mut self, table: u32) -> Result<Vec<Route>, Error> {
        let links = self.links()?;
        let mut routes = Vec::new();
        for family in Ip::BOTH {
            let request = Message::new(libc::RTM_GETROUTE, 0).fixed(&header(family, 0));
            let found = self
                .socket
                .dump(&request)
                .map_err(|failure| failure.during("list", format!("routes of table {table}")))?;
            let parsed = found.iter().filter_map(|body| {
                let (mut route, index) = parse(body, family)?;
                let name = |index| links.iter().find(|l| l.index == index);
                route.dev = index.and_then(name).map(|l| l.name.clone());
                Some(route)
            });
            routes.extend(parsed.filter(|route| route.table == table));
        }
        Ok(routes)
    }

    fn route(
        &mut self,
        operation: &'static str,
        kind: u16,
        how: i32,
        route: &Route,
    ) -> Result<(), Error> {
        let index = match &route.dev {
            Some(name) => Some(self.link(name)?.index),
            None => None,
        };
        let family = match route.to {
            IpNet::V4(_) => Ip::V4,
            IpNet::V6(_) => Ip::V6,
        };
        let mut header = header(family, route.to.prefix_len());
        header[5] = libc::RTPROT_STATIC;
        header[6] = route.scope();
        header[7] = if route.local {
            libc::RTN_LOCAL
        } else {
            libc::RTN_UNICAST
        };
        if route.onlink {
            header[8..].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
        }
        let mut request = Message::new(kind, how).fixed(&header);
        request.attr_u32(libc::RTA_TABLE, route.table);
        if route.to.prefix_len() > 0 {
            request.attr(libc::RTA_DST, &octets(route.to.network()));
        }
        if let Some(via) = route.via {
            request.attr(libc::RTA_GATEWAY, &octets(via));
        }
        if let Some(index) = index {
            request.attr_u32(libc::RTA_OIF, index);
        }
        if let Some(source) = route.source {
            request.attr(libc::RTA_PREFSRC, &octets(source));
        }
        if let Some(metric) = route.metric {
            request.attr_u32(libc::RTA_PRIORITY, metric);
        }
        self.socket
            .request(request)
            .map_err(|failure| failure.during(operation, route))
    }
}

/// `struct rtmsg`; the table is in an attribute, which has room for its number.
fn header(family: Ip, prefix: u8) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = family.number();
    header[1] = prefix;
    header
}

fn parse(body: &[u8], family: Ip) -> Option<(Route, Option<u32>)> {
    let flags = u32_at(body, 8)?;
    if flags & RTM_F_CLONED != 0 {
        return None;
    }
    let any = Route::default(family).to.addr();
    let mut destination = any;
    let mut index = None;
    let mut route = Route::default(family);
    route.table = u32::from(*body.get(4)?);
    route.local = *body.get(7)? == libc::RTN_LOCAL;
    route.onlink = flags & RTNH_F_ONLINK != 0;
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            libc::RTA_TABLE => route.table = u32_at(value, 0)?,
            libc::RTA_DST => destination = parse_ip(value)?,
            libc::RTA_GATEWAY => route.via = parse_ip(value),
            libc::RTA_OIF => index = u32_at(value, 0),
            libc::RTA_PREFSRC => route.source = parse_ip(value),
            libc::RTA_PRIORITY => route.metric = u32_at(value, 0),
            _ => {}
        }
    }
    route.to = IpNet::new(destination, *body.get(1)?).ok()?;
    Some((route, index))
}
