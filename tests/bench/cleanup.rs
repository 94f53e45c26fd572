//! Takes the labs down when somebody interrupts the run: they are detached and would go on without us.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};

/// The commands that undo what has been started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cleanup(Arc<Mutex<Vec<Undo>>>);

#[derive(Debug)]
struct Undo {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Cleanup {
    /// Runs this command on an interrupt.
    pub(crate) fn add(&self, program: PathBuf, arguments: Vec<String>) {
        self.0.lock().push(Undo { program, arguments });
    }

    fn run(&self) {
        for Undo { program, arguments } in self.0.lock().drain(..) {
            // One that is gone already does not matter.
            let _ = Command::new(program).args(arguments).status();
        }
    }
}

/// Watches for SIGINT and SIGTERM from now on; `folder` is removed too.
pub(crate) fn on_interrupt(folder: PathBuf) -> anyhow::Result<Cleanup> {
    let cleanup = Cleanup::default();
    let at_interrupt = cleanup.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("cannot start a runtime")?;
    let (interrupt, terminate) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        )
    };
    let (mut interrupt, mut terminate) = (interrupt?, terminate?);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        at_interrupt.run();
        let _ = std::fs::remove_dir_all(folder);
        std::process::exit(130);
    });
    Ok(cleanup)
}
