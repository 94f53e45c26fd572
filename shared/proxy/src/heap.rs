//! What becomes of this process's memory: it goes back to the kernel when nobody uses it, and pprof (`github.com/google/pprof`) is told
//! who holds it.

use ambit_telemetry::admin::{Answer, Router, text};
use ambit_telemetry::profile;
use http::{Method, StatusCode};
use jemalloc_pprof::{JemallocProfCtl, PROF_CTL};

/// What is said while memory is not sampled: only the start of the process can have it done.
const NOT_SAMPLED: &str =
    "memory is not sampled: start this process with _RJEM_MALLOC_CONF=prof:true\n";

/// `GET /debug/pprof/heap`: memory that is held, by the stacks that asked for it. 501 unless the process was started with
/// `_RJEM_MALLOC_CONF=prof:true`, for jemalloc decides then whether it samples.
#[must_use]
pub fn route(router: Router) -> Router {
    let about = "memory that is held, for pprof; needs _RJEM_MALLOC_CONF=prof:true";
    router.route(Method::GET, "/debug/pprof/heap", about, |_| async {
        let Some(control) = PROF_CTL.as_ref() else {
            return text(StatusCode::NOT_IMPLEMENTED, NOT_SAMPLED);
        };
        let mut control = control.clone().lock_owned().await;
        match tokio::task::spawn_blocking(move || dump(&mut control)).await {
            Ok(answer) => answer,
            Err(error) => profile::failed(&error),
        }
    })
}

/// From now on memory that nobody has used for 10 s goes back to the kernel. Without this jemalloc looks for it only while memory is
/// asked for, so a proxy that is idle after a storm would keep what the storm took. To be called before any thread enters another
/// network namespace: the threads that this starts stay where they began.
pub fn give_back_when_idle() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!("memory that nobody uses is kept while this process is idle: {error}");
    }
}

fn dump(control: &mut JemallocProfCtl) -> Answer {
    profile::use_shared_memory();
    match control.dump_pprof() {
        Ok(dumped) => profile::given(dumped),
        Err(error) => profile::failed(&error),
    }
}
