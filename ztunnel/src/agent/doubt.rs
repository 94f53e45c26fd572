//! The end of an agent that could not learn whether its installation is gone, because the API server did not say.
//!
//! The plugin stays then: no pod is to start outside the mesh while the next agent is on its way. When none comes for
//! long the installation is taken for gone, and the plugin steps aside: otherwise no pod of the node could ever start.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// An agent that is replaced is there long before.
const LONG: Duration = Duration::from_secs(600);

/// Notes that an agent ends in doubt; `socket` is where plugins ask it. A reboot forgets it, as it does the socket.
pub(super) fn note(socket: &Path) -> io::Result<()> {
    std::fs::write(file(socket), "")
}

/// An agent is there again, or knew what to do.
pub(super) fn clear(socket: &Path) -> io::Result<()> {
    match std::fs::remove_file(file(socket)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether the agent that was there is taken for uninstalled.
pub(super) fn is_over(socket: &Path, now: SystemTime) -> bool {
    let noted = std::fs::metadata(file(socket)).and_then(|file| file.modified());
    let since = noted.ok().and_then(|noted| now.duration_since(noted).ok());
    since.is_some_and(|since| since >= LONG)
}

fn file(socket: &Path) -> PathBuf {
    socket.with_extension("undecided")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_long_and_an_agent_that_comes_ends_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("cni.sock");
        let after = |seconds| SystemTime::now() + Duration::from_secs(seconds);
        assert!(!is_over(&socket, after(10_000)), "no agent was in doubt");
        clear(&socket).expect("nothing to clear");
        note(&socket).expect("noted");
        assert!(!is_over(&socket, after(0)));
        assert!(!is_over(&socket, after(500)));
        assert!(is_over(&socket, after(601)));
        clear(&socket).expect("cleared");
        assert!(!is_over(&socket, after(601)));
    }
}
