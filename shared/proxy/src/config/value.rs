//! The kinds of values a variable can have.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ambit_core::plan::OutboundTrafficPolicy;
use ambit_core::trust_domain::{Aliases, TrustDomain, TrustDomainError};
use ambit_net::grpc::Address;
use ambit_telemetry::log::Format;
use serde::{Serialize, Serializer};

/// A kind of value.
pub trait Value: Sized {
    /// What is accepted, as in "expected ...".
    const ACCEPTS: &'static str;

    /// Reads a text that is not empty. The error adds to [`Value::ACCEPTS`], or is empty.
    fn read(text: &str) -> Result<Self, String>;

    /// Writes a value as it would be read.
    fn show(&self) -> String;
}

macro_rules! parsed {
    ($($type:ty: $accepts:literal;)*) => {$(
        impl Value for $type {
            const ACCEPTS: &'static str = $accepts;

            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| String::new())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

parsed! {
    bool: "true or false";
    u32: "a whole number";
    IpAddr: "an IP address";
    String: "text";
    OutboundTrafficPolicy: "ALLOW_ANY or REGISTRY_ONLY";
}

impl Value for PathBuf {
    const ACCEPTS: &'static str = "a path";

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for Format {
    const ACCEPTS: &'static str = "plain or json";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| String::new())
    }

    fn show(&self) -> String {
        match self {
            Self::Plain => "plain".to_owned(),
            Self::Json => "json".to_owned(),
        }
    }
}

impl Value for Address {
    const ACCEPTS: &'static str = "https://HOST:PORT";

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|e: ambit_net::grpc::AddressError| e.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Duration {
    const ACCEPTS: &'static str = "a duration such as 500ms, 30s, 5m or 24h";

    /// Numbers with units, added up: `1h30m`.
    fn read(text: &str) -> Result<Self, String> {
        let mut total = Self::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let letters = tail
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let number: u64 = number.parse().map_err(|_| String::new())?;
            let millis = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "" if number == 0 => 0,
                "" => return Err("the unit is missing".to_owned()),
                unit => return Err(format!("no such unit: {unit}")),
            };
            let part = number.checked_mul(millis).map(Self::from_millis);
            total = part
                .and_then(|part| total.checked_add(part))
                .ok_or("too long")?;
            rest = tail;
        }
        Ok(total)
    }

    fn show(&self) -> String {
        let millis = self.as_millis();
        match millis {
            0 => "0s".to_owned(),
            m if m % 3_600_000 == 0 => format!("{}h", m / 3_600_000),
            m if m % 60_000 == 0 => format!("{}m", m / 60_000),
            m if m % 1000 == 0 => format!("{}s", m / 1000),
            m => format!("{m}ms"),
        }
    }
}

/// Shows a duration as it would be set.
pub fn duration<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.show())
}

/// Where a server of the process listens: one address, or both loopback addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listen(pub Vec<SocketAddr>);

impl Listen {
    /// Both loopback addresses.
    pub fn localhost(port: u16) -> Self {
        Self(vec![
            ([127, 0, 0, 1], port).into(),
            (std::net::Ipv6Addr::LOCALHOST, port).into(),
        ])
    }

    /// Every address; IPv4 alone where there is no IPv6.
    pub fn any(port: u16) -> Self {
        Self(vec![
            (std::net::Ipv6Addr::UNSPECIFIED, port).into(),
            ([0, 0, 0, 0], port).into(),
        ])
    }
}

impl Value for Listen {
    const ACCEPTS: &'static str = "IP:PORT or localhost:PORT";

    fn read(text: &str) -> Result<Self, String> {
        if let Some(port) = text.strip_prefix("localhost:") {
            return port.parse().map(Self::localhost).map_err(|_| String::new());
        }
        let addr: SocketAddr = text.parse().map_err(|_| String::new())?;
        Ok(match addr.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() => Self::any(addr.port()),
            _ => Self(vec![addr]),
        })
    }

    fn show(&self) -> String {
        match self.0.as_slice() {
            [first, _] if first.ip().is_loopback() => format!("localhost:{}", first.port()),
            [first, ..] => first.to_string(),
            [] => String::new(),
        }
    }
}

/// A number of processors as Kubernetes writes it, rounded up: `2`, `1.5`, `500m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus(pub u32);

impl Value for Cpus {
    const ACCEPTS: &'static str = "a positive CPU quantity such as 2, 1.5 or 500m";

    fn read(text: &str) -> Result<Self, String> {
        let (number, scale) = match text.strip_suffix('m') {
            Some(millis) => (millis, 1000.0),
            None => (text, 1.0),
        };
        let cpus = number.parse::<f64>().map_err(|_| String::new())? / scale;
        if cpus > 0.0 && cpus <= 4096.0 {
            // In range, so the conversion keeps the value.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Ok(Self(cpus.ceil() as u32))
        } else {
            Err(String::new())
        }
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// A number of threads, or a share of the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// That many; 0 is one for each processor.
    Count(u32),
    /// Of the processors.
    Percent(u32),
}

impl Value for Workers {
    const ACCEPTS: &'static str = "a number of threads (0: one for each processor) or 1% to 100%";

    fn read(text: &str) -> Result<Self, String> {
        let bad = |_| String::new();
        match text.strip_suffix('%') {
            None => match text.parse().map_err(bad)? {
                count @ 0..=4096 => Ok(Self::Count(count)),
                _ => Err(String::new()),
            },
            Some(percent) => match percent.parse().map_err(bad)? {
                percent @ 1..=100 => Ok(Self::Percent(percent)),
                _ => Err(String::new()),
            },
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::Percent(percent) => format!("{percent}%"),
        }
    }
}

/// A log filter that parses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filter(pub String);

impl Value for Filter {
    const ACCEPTS: &'static str = "LEVEL or TARGET=LEVEL, separated by commas; a level is off, \
                                   error, warn, info, debug or trace";

    fn read(text: &str) -> Result<Self, String> {
        ambit_telemetry::log::check_filter(text).map_err(|e| e.to_string())?;
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

impl Value for TrustDomain {
    const ACCEPTS: &'static str = "a trust domain such as cluster.local";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: TrustDomainError| e.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Aliases {
    const ACCEPTS: &'static str = "trust domains, separated by commas";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: TrustDomainError| e.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A Kubernetes namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Namespace(pub String);

impl Value for Namespace {
    const ACCEPTS: &'static str = "the name of a namespace: 1 to 63 of a-z, 0-9 and '-'";

    fn read(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.len() > 63 || !text.bytes().all(fits) {
            return Err(String::new());
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// One of a few words.
pub fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(String::new)
}

/// How a word is written.
pub fn word_of<T: Copy + PartialEq>(value: T, words: &[(&str, T)]) -> String {
    let found = words.iter().find(|(_, one)| *one == value);
    found.map_or_else(String::new, |(word, _)| (*word).to_owned())
}
