//! Tables of requests: which server answers, and what it received.

use ambit_lab::harness::Lab;

use super::call::Call;
use super::scene::CLIENT;

/// What a row expects.
pub(super) enum Want {
    /// This server of namespace `mesh` answers.
    By(&'static str),
    /// This server answers and received this path and query.
    Sent(&'static str, &'static str),
    /// The waypoint answers with this status.
    Status(u16),
    /// The waypoint redirects with this status, to this place.
    Redirect(u16, &'static str),
}

pub(super) type Row = (&'static str, Call, Want);

/// A request of the client of the services' namespace.
pub(super) fn get(url: &str) -> Call {
    Call::get(CLIENT, url)
}

/// The references of a rule to port 8080 of one service.
pub(super) fn backend(name: &str) -> String {
    format!("backendRefs: [{{name: {name}, port: 8080}}]")
}

/// Applies `manifests`, checks every row at once (what `apply` returned from is in force), and takes
/// them away again.
pub(super) fn check(lab: &Lab, manifests: &str, rows: Vec<Row>) {
    lab.apply(manifests);
    for (name, call, want) in rows {
        let answer = call.answer(lab);
        let by = |server: &str| {
            assert_eq!(answer.server(), server, "{name}: {answer:?}");
            assert_eq!(answer.received()["namespace"], "mesh", "{name}");
        };
        match want {
            Want::By(server) => by(server),
            Want::Sent(server, target) => {
                by(server);
                assert_eq!(answer.received()["target"], target, "{name}");
            }
            Want::Status(status) => {
                assert_eq!(answer.status, status, "{name}: {answer:?}");
                assert_eq!(answer.server(), "", "{name}: a server answered");
            }
            Want::Redirect(status, location) => {
                assert_eq!(answer.status, status, "{name}: {answer:?}");
                let found = answer.header("location");
                assert_eq!(found.as_deref(), Some(location), "{name}");
            }
        }
    }
    lab.delete(manifests);
}
