//! The node's own table, by which its probes are told from other traffic to pods of the mesh.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ambit_net::sys::Netns;
use parking_lot::Mutex;

use super::enrolment::blocking;
use super::records::Records;
use crate::capture;

/// Sets that table and removes it.
#[derive(Debug)]
pub(super) struct Probes {
    node: Netns,
    turn: Arc<Mutex<()>>,
}

impl Probes {
    /// Of the node whose namespace this is.
    pub(super) fn new(node: Netns) -> Self {
        Self {
            node,
            turn: Arc::default(),
        }
    }

    /// Probes of all pods that are recorded come from an address of their own from now on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) async fn mark(&self, records: &Arc<Records>) -> io::Result<()> {
        let (node, records, turn) = (self.node.clone(), records.clone(), self.turn.clone());
        blocking(move || {
            in_turn(&turn, &records, |ips| {
                node.run(|| capture::apply_host(ips).map_err(Into::into))
            })
        })
        .await
    }

    /// No probe is told from other traffic any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) async fn forget(&self) -> io::Result<()> {
        let (node, turn) = (self.node.clone(), self.turn.clone());
        blocking(move || {
            let _alone = turn.lock();
            node.run(|| capture::remove_host().map_err(Into::into))
        })
        .await
    }
}

/// Pods come and go side by side, and each change sets the whole table: who sets it last has read the records last. It
/// is one step for the thread that does it, so that nobody who gives up waiting lets two of them pass each other.
fn in_turn<T>(turn: &Mutex<()>, records: &Records, set: impl FnOnce(Vec<IpAddr>) -> T) -> T {
    let _alone = turn.lock();
    set(records.all().into_iter().flat_map(|it| it.ips).collect())
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
            let (turn, table) = (Mutex::new(()), Mutex::new(Vec::new()));
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
                        });
                    });
                }
            });
            assert_eq!(table.lock().len(), usize::from(PODS), "round {round}");
        }
    }
}
