//! The node's own table, by which its probes are told from other traffic to pods of the mesh.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_net::sys::Netns;
use parking_lot::Mutex;

use super::enrolment::blocking;
use super::late::Ours;
use super::records::Records;
use crate::capture;

/// Between looks whether the table is still there. A kubelet gives up on a container after three probes, ten seconds apart.
const LOOK: Duration = Duration::from_secs(5);

/// Sets that table and removes it.
#[derive(Debug, Clone)]
pub(super) struct Probes {
    node: Netns,
    records: Arc<Records>,
    turn: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is to be a table.
    Wanted,
    /// The agent has left the node.
    Left,
}

impl Probes {
    /// Of the pods of `records`, on the node whose namespace this is.
    pub(super) fn new(node: Netns, records: Arc<Records>) -> Self {
        Self {
            node,
            records,
            turn: Arc::new(Mutex::new(State::Wanted)),
        }
    }

    /// Probes of all pods that are recorded come from an address of their own from now on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) async fn mark(&self) -> io::Result<()> {
        self.in_turn(|ips| Ok(capture::apply_host(ips)?))
            .await
            .unwrap_or(Ok(()))
    }

    /// Sets the table again if something else has taken it away: a firewall that is loaded again begins with none.
    /// Says what was missing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) async fn restore(&self) -> io::Result<Vec<String>> {
        let restored = self.in_turn(|ips| {
            let missing = capture::verify_host()?;
            if !missing.is_empty() {
                capture::apply_host(ips)?;
            }
            Ok(missing)
        });
        restored.await.unwrap_or(Ok(Vec::new()))
    }

    /// Restores it whenever it is gone, until another agent has taken over: `ours` is false then.
    pub(super) async fn keep(self, ours: impl Ours) {
        let mut failed = None;
        loop {
            tokio::time::sleep(LOOK).await;
            if !ours() {
                return;
            }
            match self.restore().await {
                Ok(missing) => {
                    failed = None;
                    if let Some(first) = missing.first() {
                        tracing::warn!(
                            missing = first,
                            "something removed the node's table of probes; it is there again"
                        );
                    }
                }
                Err(error) => {
                    let error = Some(error.to_string());
                    if failed != error {
                        tracing::error!(
                            error,
                            "the node's table of probes cannot be kept: probes of pods that refuse plain text fail"
                        );
                    }
                    failed = error;
                }
            }
        }
    }

    /// No probe is told from other traffic any more, for good.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) async fn leave(&self) -> io::Result<()> {
        let (node, turn) = (self.node.clone(), self.turn.clone());
        blocking(move || {
            let mut state = turn.lock();
            node.run(|| capture::remove_host().map_err(Into::into))?;
            *state = State::Left;
            Ok(())
        })
        .await
    }

    /// Does `work` in the node's namespace, in turn; `None` when the agent has left the node.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(Vec<IpAddr>) -> io::Result<T> + Send + 'static,
    ) -> Option<io::Result<T>> {
        let Self {
            node,
            records,
            turn,
        } = self.clone();
        blocking(move || in_turn(&turn, &records, |ips| node.run(|| work(ips)))).await
    }
}

/// Pods come and go side by side, and each change sets the whole table: who sets it last has read the records last. It
/// is one step for the thread that does it, so that nobody who gives up waiting lets two of them pass each other.
fn in_turn<T>(
    turn: &Mutex<State>,
    records: &Records,
    set: impl FnOnce(Vec<IpAddr>) -> T,
) -> Option<T> {
    let state = turn.lock();
    let ips = || records.all().into_iter().flat_map(|it| it.ips).collect();
    (*state == State::Wanted).then(|| set(ips()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::agent::pod::Pod;
    use crate::agent::records::Record;

    const PODS: u8 = 8;
    const ROUNDS: usize = 100;

    fn record(number: u8) -> Record {
        let pod = Pod {
            uid: number.to_string(),
            ..Pod::default()
        };
        let netns = Path::new("/proc/self/ns/net");
        Record::new(pod, "sandbox", netns, &[[10, 0, 0, number].into()]).expect("a namespace")
    }

    #[test]
    fn of_pods_that_join_at_once_none_is_left_out() {
        for round in 0..ROUNDS {
            let folder = tempfile::tempdir().expect("a folder");
            let records = Records::open(folder.path()).expect("empty");
            let (turn, table) = (Mutex::new(State::Wanted), Mutex::new(Vec::new()));
            let all = Barrier::new(usize::from(PODS));
            thread::scope(|scope| {
                for number in 0..PODS {
                    let (records, turn, table, all) = (&records, &turn, &table, &all);
                    scope.spawn(move || {
                        all.wait();
                        records.insert(record(number)).expect("kept");
                        in_turn(turn, records, |ips| {
                            // As if it took the kernel a while.
                            thread::yield_now();
                            *table.lock() = ips;
                        })
                        .expect("the node is not left");
                    });
                }
            });
            assert_eq!(table.lock().len(), usize::from(PODS), "round {round}");
        }
    }
}
