//! A server that answers with all it received; see `ambit_lab::programs::echo`.

#![forbid(unsafe_code)]

use ambit_lab::programs::echo::{Options, Server};
use anyhow::Context as _;
use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let options = Options::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = options.threads {
        runtime.worker_threads(threads);
    }
    let runtime = runtime
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let server = Server::bind(&options)?;
        for (port, address) in options.ports.iter().zip(server.addresses()?) {
            let mode = port
                .mode
                .map_or("http, grpc, websocket, tcp", |mode| mode.name());
            eprintln!("listening on {address} ({mode})");
        }
        let mut terminated =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            () = server.serve() => {}
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(())
    })
}
