//! Collections of the API server, and the questions that are asked about them as paths.

use std::time::Duration;

use super::escaped;

/// Objects in a page.
const PAGE: usize = 500;

/// All objects of a resource, or some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// Versions that are understood, the best first.
    pub versions: &'static [&'static str],
    /// As it is in paths.
    pub plural: &'static str,
    /// Only of this namespace.
    pub namespace: Option<String>,
    /// Only of this name.
    pub name: Option<String>,
    /// Only with these labels, as a selector.
    pub labels: Option<String>,
}

impl Collection {
    /// All objects of a resource.
    #[must_use]
    pub const fn all(
        group: &'static str,
        versions: &'static [&'static str],
        plural: &'static str,
    ) -> Self {
        Self {
            group,
            versions,
            plural,
            namespace: None,
            name: None,
            labels: None,
        }
    }

    /// The one object of a name.
    #[must_use]
    pub fn one(self, namespace: &str, name: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..self.named(name)
        }
    }

    /// The objects of a name, in every namespace.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..self
        }
    }

    /// The objects with these labels.
    #[must_use]
    pub fn labelled(self, selector: &str) -> Self {
        Self {
            labels: Some(selector.to_owned()),
            ..self
        }
    }

    /// The name of what defines the kind, where it is not Kubernetes' own.
    #[must_use]
    pub fn definition(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// The path of the collection in the version with this index.
    #[must_use]
    pub fn path(&self, version: usize) -> String {
        let version = self.versions.get(version).copied().unwrap_or_default();
        path(self.group, version, self.namespace.as_deref(), self.plural)
    }

    /// A watch that begins with all objects.
    #[must_use]
    pub fn stream(&self, version: usize, timeout: Duration) -> String {
        let watch = self.watch(version, timeout);
        format!("{watch}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan")
    }

    /// A watch of what changed since a version of the collection.
    #[must_use]
    pub fn changes(&self, version: usize, since: &str, timeout: Duration) -> String {
        let watch = self.watch(version, timeout);
        format!("{watch}&resourceVersion={}", escaped(since))
    }

    /// A page of a list.
    #[must_use]
    pub fn page(&self, version: usize, from: Option<&str>) -> String {
        let mut path = format!("{}?limit={PAGE}{}", self.path(version), self.selectors());
        if let Some(from) = from {
            path.push_str("&continue=");
            path.push_str(&escaped(from));
        }
        path
    }

    fn watch(&self, version: usize, timeout: Duration) -> String {
        format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={}{}",
            self.path(version),
            timeout.as_secs(),
            self.selectors()
        )
    }

    fn selectors(&self) -> String {
        let mut query = String::new();
        if let Some(name) = &self.name {
            query.push_str("&fieldSelector=metadata.name%3D");
            query.push_str(&escaped(name));
        }
        if let Some(labels) = &self.labels {
            query.push_str("&labelSelector=");
            query.push_str(&escaped(labels));
        }
        query
    }
}

/// The path of a collection, of a namespace or of all.
#[must_use]
pub fn path(group: &str, version: &str, namespace: Option<&str>, plural: &str) -> String {
    let root = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    match namespace {
        Some(namespace) => format!("{root}/namespaces/{}/{plural}", escaped(namespace)),
        None => format!("{root}/{plural}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_paths() {
        let minute = Duration::from_secs(60);
        let pods = Collection::all("", &["v1"], "pods");
        let routes = Collection::all(
            "gateway.networking.k8s.io",
            &["v1", "v1beta1"],
            "httproutes",
        );
        let map = Collection::all("", &["v1"], "configmaps").one("a", "b/c");
        let base = "watch=true&allowWatchBookmarks=true&timeoutSeconds=60";
        let rows = [
            (
                pods.stream(0, minute),
                format!("/api/v1/pods?{base}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
            ),
            (
                routes.changes(1, "7", minute),
                format!("/apis/gateway.networking.k8s.io/v1beta1/httproutes?{base}&resourceVersion=7"),
            ),
            (
                map.page(0, Some("x=&")),
                "/api/v1/namespaces/a/configmaps?limit=500&fieldSelector=metadata.name%3Db%2Fc&continue=x%3D%26"
                    .to_owned(),
            ),
            (
                pods.clone().labelled("a=b").page(0, None),
                "/api/v1/pods?limit=500&labelSelector=a%3Db".to_owned(),
            ),
        ];
        for (path, expected) in rows {
            assert_eq!(path, expected);
        }
    }
}
