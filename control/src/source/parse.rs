//! Text to objects, document by document: one broken document never hides its neighbours.

mod instead;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ambit::{ExternalAuthorizer, FaultInjection, RateLimit};
use super::entry::{ServiceEntry, WorkloadEntry};
use super::gateway::{
    BackendTLSPolicy, GRPCRoute, Gateway, GatewayClass, HTTPRoute, ReferenceGrant, TCPRoute,
    TLSRoute, XBackendTrafficPolicy,
};
use super::istio::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
use super::networking::DestinationRule;
use super::object::{Kind, Object};
use crate::parameters;

/// The only key of Secrets that is read, and of ConfigMaps the only one besides those of [`crate::parameters`]: what a
/// BackendTLSPolicy refers to.
pub const CA_CERTIFICATES: &str = "ca.crt";

/// One document of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<'a> {
    /// From 1; documents without content are not counted.
    pub number: usize,
    /// The line it starts at, from 1.
    pub line: usize,
    /// Its text.
    pub text: &'a str,
}

/// What a document holds.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Objects that are acted upon.
    pub objects: Vec<Object>,
    /// `Kind namespace/name` of objects that a later version will act upon.
    pub unhandled: Vec<String>,
    /// What could not be read.
    pub errors: Vec<ParseError>,
    /// What stands for policies among those, unless an earlier version of them is known.
    pub instead: Vec<Object>,
}

/// Why a document, or an item of a list, could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Line of the file.
    pub line: usize,
    /// `Kind namespace/name`, as far as it is known.
    pub object: String,
    /// What is wrong.
    pub error: String,
}

/// JSON of an API server.
#[derive(Debug, Clone, Copy)]
pub enum Wire<'a> {
    /// An item of a list.
    Item(&'a serde_json::Value),
    /// A line of a watch: `{"type": ..., "object": ...}`.
    Event(&'a [u8]),
}

/// What a line of a watch is read for.
#[derive(Deserialize)]
struct Event<T> {
    object: T,
}

impl Wire<'_> {
    /// The object, of whatever kind.
    ///
    /// # Errors
    /// It does not read as that.
    pub fn object<T: DeserializeOwned>(self) -> Result<T, serde_json::Error> {
        match self {
            Self::Item(item) => T::deserialize(item),
            Self::Event(line) => serde_json::from_slice::<Event<T>>(line).map(|event| event.object),
        }
    }
}

/// Reads an object of a known kind that has a name.
///
/// # Errors
/// The field that is wrong, and how.
pub fn parse_wire(kind: Kind, wire: Wire<'_>) -> Result<Object, String> {
    typed(kind, &wire).map_err(|(_, error)| error)
}

/// What stands for a policy that [`parse_wire`] cannot read, for this reason, and of which no earlier version is known.
#[must_use]
pub fn instead_of(kind: Kind, wire: Wire<'_>, why: &str) -> Option<Object> {
    instead::instead(kind, &wire, why)
}

/// Splits a file at its `---` lines.
#[must_use]
pub fn documents(text: &str) -> Vec<Document<'_>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut start_line = 1;
    let mut offset = 0;
    let mut push = |from: usize, to: usize, line: usize| {
        let text = &text[from..to];
        if has_content(text) {
            let number = found.len() + 1;
            found.push(Document { number, line, text });
        }
    };
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        if bare == "---" || bare.starts_with("--- ") || bare == "..." {
            push(start, offset, start_line);
            // What follows on the marker's own line belongs to the document.
            start = offset + 3;
            start_line = index + 1;
        }
        offset += line.len();
    }
    push(start, text.len(), start_line);
    found
}

fn has_content(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .any(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with('%'))
}

/// Reads a document. A `List` gives its items.
#[must_use]
pub fn parse(document: &Document<'_>) -> Parsed {
    let mut parsed = Parsed::default();
    let text = Text(document);
    match text.read::<Head>() {
        Err((line, error)) => parsed.errors.push(ParseError {
            line,
            object: String::new(),
            error,
        }),
        Ok(head) if head.kind.ends_with("List") => match text.read::<List>() {
            Ok(list) => {
                for item in list.items {
                    match Head::deserialize(&item) {
                        Ok(head) => read(&head, &Json(item, document.line), &mut parsed),
                        Err(error) => parsed.errors.push(ParseError {
                            line: document.line,
                            object: head.to_string(),
                            error: format!("an item of the list: {error}"),
                        }),
                    }
                }
            }
            Err((line, error)) => parsed.errors.push(ParseError {
                line,
                object: head.to_string(),
                error,
            }),
        },
        Ok(head) => read(&head, &text, &mut parsed),
    }
    parsed
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: HeadMetadata,
}

#[derive(Deserialize, Default)]
struct HeadMetadata {
    name: Option<String>,
    namespace: Option<String>,
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.metadata.name.as_deref().unwrap_or("(no name)");
        match self.metadata.namespace.as_deref() {
            Some(namespace) => write!(f, "{} {namespace}/{name}", self.kind),
            None => write!(f, "{} {name}", self.kind),
        }
    }
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<serde_json::Value>,
}

/// Something that types are read from; errors come with the line of the file.
trait Readable {
    fn read<T: DeserializeOwned>(&self) -> Result<T, (usize, String)>;
    fn line(&self) -> usize;
}

struct Text<'a>(&'a Document<'a>);

impl Readable for Text<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, (usize, String)> {
        // As YAML 1.2 has it: `n` and `on` are texts.
        let options = serde_saphyr::options! { strict_booleans: true };
        serde_saphyr::from_str_with_options(self.0.text, options.clone()).map_err(|error| {
            let (within, error) = blame(&error);
            // The reader of the text knows the line, and no path.
            let plain =
                serde_saphyr::from_str_with_options::<serde_json::Value>(self.0.text, options);
            let wrong = plain
                .ok()
                .and_then(|plain| field_that_is_wrong::<T>(&plain));
            (self.0.line + within - 1, wrong.unwrap_or(error))
        })
    }

    fn line(&self) -> usize {
        self.0.line
    }
}

struct Json(serde_json::Value, usize);

impl Readable for Json {
    fn read<T: DeserializeOwned>(&self) -> Result<T, (usize, String)> {
        T::deserialize(&self.0).map_err(|error| {
            let wrong = field_that_is_wrong::<T>(&self.0);
            (self.1, wrong.unwrap_or_else(|| error.to_string()))
        })
    }

    fn line(&self) -> usize {
        self.1
    }
}

/// The path of the first field that does not read as a `T`, with its value and what is expected there.
fn field_that_is_wrong<T: DeserializeOwned>(object: &serde_json::Value) -> Option<String> {
    let error = serde_path_to_error::deserialize::<_, T>(object).err()?;
    let (path, error) = (error.path().to_string(), error.into_inner());
    // A dot alone is the object itself.
    Some(match path.as_str() {
        "." => error.to_string(),
        path => format!("{path}: {error}"),
    })
}

impl Readable for Wire<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, (usize, String)> {
        self.object().map_err(|error| {
            let blamed = match self {
                Wire::Item(item) => serde_path_to_error::deserialize::<_, T>(*item).err(),
                Wire::Event(line) => {
                    let mut again = serde_json::Deserializer::from_slice(line);
                    serde_path_to_error::deserialize::<_, Event<T>>(&mut again).err()
                }
            };
            let error = error.to_string();
            let error = error.split(" at line ").next().unwrap_or_default();
            let path = blamed.map(|it| it.path().to_string()).unwrap_or_default();
            let path = path.strip_prefix("object.").unwrap_or(&path);
            (0, format!("{path}: {error}"))
        })
    }

    fn line(&self) -> usize {
        0
    }
}

/// The line of a text, from 1, at which it does not read, and why. The reason names no place: where the text is from, and what
/// stands before it there, is for who has it to say.
#[must_use]
pub fn blame(error: &serde_saphyr::Error) -> (usize, String) {
    let error = error.without_snippet();
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let Some(at) = error.location() else {
        return (1, first.to_owned());
    };
    let place = format!(" at line {}, column {}", at.line(), at.column());
    let line = usize::try_from(at.line()).unwrap_or(1).max(1);
    (line, first.strip_suffix(&place).unwrap_or(first).to_owned())
}

fn read(head: &Head, from: &impl Readable, parsed: &mut Parsed) {
    let fail = |line: usize, error: String| ParseError {
        line,
        object: head.to_string(),
        error,
    };
    let kind = match understand(&head.api_version, &head.kind) {
        Understood::Kind(kind) => kind,
        Understood::Later => return parsed.unhandled.push(head.to_string()),
        Understood::Foreign => return,
        Understood::Wrong(error) => return parsed.errors.push(fail(from.line(), error)),
    };
    if head.metadata.name.as_deref().unwrap_or_default().is_empty() {
        let error = "metadata.name is missing".to_owned();
        return parsed.errors.push(fail(from.line(), error));
    }
    match typed(kind, from) {
        Ok(object) => parsed.objects.push(object),
        Err((line, error)) => {
            parsed.instead.extend(instead::instead(kind, from, &error));
            parsed.errors.push(fail(line, error));
        }
    }
}

enum Understood {
    Kind(Kind),
    /// The mesh has a use for it, but not yet.
    Later,
    /// Nothing to do with the mesh.
    Foreign,
    Wrong(String),
}

fn understand(api_version: &str, kind: &str) -> Understood {
    use Understood as U;
    if kind.is_empty() || api_version.is_empty() {
        let missing = if kind.is_empty() {
            "kind"
        } else {
            "apiVersion"
        };
        return U::Wrong(format!(
            "{missing} is missing: this is not a Kubernetes object"
        ));
    }
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let version_of = |wanted: &[&str], kind: Kind| {
        if wanted.contains(&api_version) {
            U::Kind(kind)
        } else {
            U::Wrong(format!(
                "apiVersion {api_version} of {kind} is not read; write {}",
                wanted[0]
            ))
        }
    };
    const SECURITY: &[&str] = &["security.istio.io/v1", "security.istio.io/v1beta1"];
    const NETWORKING: &[&str] = &[
        "networking.istio.io/v1",
        "networking.istio.io/v1beta1",
        "networking.istio.io/v1alpha3",
    ];
    const GATEWAY: &[&str] = &[
        "gateway.networking.k8s.io/v1",
        "gateway.networking.k8s.io/v1beta1",
        "gateway.networking.k8s.io/v1alpha3",
        "gateway.networking.k8s.io/v1alpha2",
    ];
    const AMBIT: &[&str] = &["ambit.dev/v1alpha1"];
    match (group, kind) {
        ("", "Namespace") => version_of(&["v1"], Kind::Namespace),
        ("", "Node") => version_of(&["v1"], Kind::Node),
        ("", "Pod") => version_of(&["v1"], Kind::Pod),
        ("", "Service") => version_of(&["v1"], Kind::Service),
        ("", "ServiceAccount") => version_of(&["v1"], Kind::ServiceAccount),
        ("", "ConfigMap") => version_of(&["v1"], Kind::ConfigMap),
        ("", "Secret") => version_of(&["v1"], Kind::Secret),
        ("discovery.k8s.io", "EndpointSlice") => {
            version_of(&["discovery.k8s.io/v1"], Kind::EndpointSlice)
        }
        ("security.istio.io", "AuthorizationPolicy") => {
            version_of(SECURITY, Kind::AuthorizationPolicy)
        }
        ("security.istio.io", "PeerAuthentication") => {
            version_of(SECURITY, Kind::PeerAuthentication)
        }
        ("security.istio.io", "RequestAuthentication") => {
            version_of(SECURITY, Kind::RequestAuthentication)
        }
        // A misspelt policy must not be silently absent.
        ("security.istio.io", _) => U::Wrong(format!("{api_version} has no kind {kind}")),
        ("networking.istio.io", "DestinationRule") => version_of(NETWORKING, Kind::DestinationRule),
        ("networking.istio.io", "ServiceEntry") => version_of(NETWORKING, Kind::ServiceEntry),
        ("networking.istio.io", "WorkloadEntry") => version_of(NETWORKING, Kind::WorkloadEntry),
        ("gateway.networking.k8s.io", "GatewayClass") => version_of(GATEWAY, Kind::GatewayClass),
        ("gateway.networking.k8s.io", "Gateway") => version_of(GATEWAY, Kind::Gateway),
        ("gateway.networking.k8s.io", "HTTPRoute") => version_of(GATEWAY, Kind::HTTPRoute),
        ("gateway.networking.k8s.io", "GRPCRoute") => version_of(GATEWAY, Kind::GRPCRoute),
        ("gateway.networking.k8s.io", "TLSRoute") => version_of(GATEWAY, Kind::TLSRoute),
        ("gateway.networking.k8s.io", "TCPRoute") => version_of(GATEWAY, Kind::TCPRoute),
        ("gateway.networking.k8s.io", "ReferenceGrant") => {
            version_of(GATEWAY, Kind::ReferenceGrant)
        }
        ("gateway.networking.k8s.io", "BackendTLSPolicy") => {
            version_of(GATEWAY, Kind::BackendTLSPolicy)
        }
        ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy") => version_of(
            &["gateway.networking.x-k8s.io/v1alpha1"],
            Kind::XBackendTrafficPolicy,
        ),
        ("ambit.dev", "RateLimit") => version_of(AMBIT, Kind::RateLimit),
        ("ambit.dev", "FaultInjection") => version_of(AMBIT, Kind::FaultInjection),
        ("ambit.dev", "ExternalAuthorizer") => version_of(AMBIT, Kind::ExternalAuthorizer),
        ("ambit.dev", _) => U::Wrong(format!("{api_version} has no kind {kind}")),
        (
            "networking.istio.io"
            | "telemetry.istio.io"
            | "extensions.istio.io"
            | "gateway.networking.k8s.io"
            | "gateway.networking.x-k8s.io",
            _,
        ) => U::Later,
        _ => U::Foreign,
    }
}

fn typed(kind: Kind, from: &impl Readable) -> Result<Object, (usize, String)> {
    macro_rules! slim {
        ($kind:ident) => {
            Object::$kind(Arc::new(slim(from.read::<$kind>()?, |o| &mut o.metadata)))
        };
    }
    Ok(match kind {
        Kind::Namespace => Object::Namespace(Arc::new(from.read::<Namespace>()?)),
        Kind::Node => Object::Node(Arc::new(from.read::<Node>()?)),
        Kind::GatewayClass => Object::GatewayClass(Arc::new(from.read::<GatewayClass>()?)),
        Kind::ServiceAccount => Object::ServiceAccount(Arc::new(from.read::<ServiceAccount>()?)),
        Kind::AuthorizationPolicy => {
            Object::AuthorizationPolicy(Arc::new(from.read::<AuthorizationPolicy>()?))
        }
        Kind::PeerAuthentication => {
            Object::PeerAuthentication(Arc::new(from.read::<PeerAuthentication>()?))
        }
        Kind::Pod => slim!(Pod),
        Kind::Service => slim!(Service),
        Kind::EndpointSlice => slim!(EndpointSlice),
        Kind::RequestAuthentication => slim!(RequestAuthentication),
        Kind::Gateway => slim!(Gateway),
        Kind::HTTPRoute => slim!(HTTPRoute),
        Kind::GRPCRoute => slim!(GRPCRoute),
        Kind::TLSRoute => slim!(TLSRoute),
        Kind::TCPRoute => slim!(TCPRoute),
        Kind::ReferenceGrant => slim!(ReferenceGrant),
        Kind::BackendTLSPolicy => slim!(BackendTLSPolicy),
        Kind::XBackendTrafficPolicy => slim!(XBackendTrafficPolicy),
        Kind::DestinationRule => slim!(DestinationRule),
        Kind::ServiceEntry => slim!(ServiceEntry),
        Kind::WorkloadEntry => slim!(WorkloadEntry),
        Kind::RateLimit => slim!(RateLimit),
        Kind::FaultInjection => slim!(FaultInjection),
        Kind::ExternalAuthorizer => slim!(ExternalAuthorizer),
        Kind::ConfigMap => {
            let mut found = slim(from.read::<ConfigMap>()?, |o| &mut o.metadata);
            found.binary_data = None;
            if let Some(data) = &mut found.data {
                data.retain(|name, _| {
                    name == CA_CERTIFICATES || parameters::KEYS.contains(&name.as_str())
                });
            }
            Object::ConfigMap(Arc::new(found))
        }
        Kind::Secret => {
            let mut found = slim(from.read::<Secret>()?, |o| &mut o.metadata);
            // Nothing secret is kept.
            found
                .data
                .iter_mut()
                .for_each(|data| data.retain(|name, _| name == CA_CERTIFICATES));
            found
                .string_data
                .iter_mut()
                .for_each(|data| data.retain(|name, _| name == CA_CERTIFICATES));
            Object::Secret(Arc::new(found))
        }
    })
}

/// Drops what is never read and would only take memory, and fills in the default namespace.
fn slim<T>(mut object: T, metadata: impl Fn(&mut T) -> &mut ObjectMeta) -> T {
    let metadata = metadata(&mut object);
    metadata.managed_fields = None;
    if metadata.namespace.as_deref().unwrap_or_default().is_empty() {
        metadata.namespace = Some("default".to_owned());
    }
    object
}

#[cfg(test)]
mod tests;
