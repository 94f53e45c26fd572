//! Where lines go: a bounded buffer that a thread of its own writes out.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait for the writer before lines are dropped.
const LIMIT: usize = 4 * 1024 * 1024;
/// Lines wait this long for others that go out with them: who logs a request need not wake a thread for each.
const GATHER: Duration = Duration::from_millis(10);
/// With so many bytes they wait no longer.
const ENOUGH: usize = 64 * 1024;

/// A cloneable place for whole lines. Never blocks on the reader of the output.
#[derive(Clone)]
pub struct Sink(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    /// Somebody waits for them to be written.
    urgent: bool,
    dropped: u64,
}

impl Sink {
    /// Writes to standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::new(io::stdout())
    }

    /// Writes to `output`, from a thread that lives as long as the process.
    #[must_use]
    pub fn new(output: impl Write + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
        });
        let writer = shared.clone();
        // Without the thread (out of resources) lines pile up to the limit and are then dropped.
        let _ = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(output));
        Self(shared)
    }

    /// Queues one or more whole lines.
    pub fn write_lines(&self, lines: &[u8]) {
        let mut state = self.0.state.lock();
        if state.waiting.len() + lines.len() > LIMIT {
            state.dropped += 1;
            return;
        }
        let before = state.waiting.len();
        state.waiting.extend_from_slice(lines);
        let enough = before < ENOUGH && state.waiting.len() >= ENOUGH;
        drop(state);
        if before == 0 || enough {
            self.0.filled.notify_one();
        }
    }

    /// Waits until everything queued so far has been written. For the end of a process.
    pub fn flush(&self) {
        let mut state = self.0.state.lock();
        state.urgent = true;
        self.0.filled.notify_one();
        while state.writing || !state.waiting.is_empty() {
            self.0.written.wait(&mut state);
        }
        state.urgent = false;
    }

    /// Lines that were dropped because the reader was too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.state.lock().dropped
    }
}

impl Shared {
    fn run(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.state.lock();
            state.writing = false;
            self.written.notify_all();
            while state.waiting.is_empty() {
                self.filled.wait(&mut state);
            }
            let until = Instant::now() + GATHER;
            while state.waiting.len() < ENOUGH && !state.urgent {
                if self.filled.wait_until(&mut state, until).timed_out() {
                    break;
                }
            }
            std::mem::swap(&mut batch, &mut state.waiting);
            state.writing = true;
            drop(state);
            // An output that is gone (a closed pipe) takes nothing; the process goes on.
            let _ = output.write_all(&batch).and_then(|()| output.flush());
            batch.clear();
            if batch.capacity() > 256 * 1024 {
                batch = Vec::new();
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(self)
    }
}

/// Hands each write, which is a whole line, to the sink.
pub struct LineWriter<'a>(&'a Sink);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_lines(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
