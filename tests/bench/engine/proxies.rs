//! How each proxy is told to do the same: one worker, kept connections both ways, no log.

use std::net::SocketAddr;
use std::path::Path;

/// What is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// The server behind all of them.
    Backend {
        h2c: bool,
    },
    Ambit,
    Nginx,
    Haproxy,
}

impl Proxy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Backend { .. } => "backend",
            Self::Ambit => "ambit",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Ambit => "bench-engine",
            Self::Backend { .. } | Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// Writes what it reads to `folder`.
    pub(crate) fn arguments(
        self,
        folder: &Path,
        at: SocketAddr,
        backend: Option<SocketAddr>,
        h2c: bool,
    ) -> std::io::Result<Vec<String>> {
        let backend = backend.map(|it| it.to_string()).unwrap_or_default();
        let file = folder.join("conf");
        let path = |path: &Path| path.display().to_string();
        let text = match self {
            Self::Ambit => {
                let h2c = h2c.then(|| "--h2c".to_owned());
                return Ok(["serve".to_owned(), at.to_string(), backend]
                    .into_iter()
                    .chain(h2c)
                    .collect());
            }
            Self::Backend { h2c } => nginx(folder, 2, at, h2c, &{
                let body = "x".repeat(128);
                format!("return 200 \"{body}\";")
            }),
            // It speaks HTTP/1.1 to servers, whatever clients speak.
            Self::Nginx => nginx(
                folder,
                1,
                at,
                h2c,
                "proxy_pass http://server; proxy_http_version 1.1; proxy_set_header Connection \"\";",
            )
            .replace(
                "server {",
                &format!(
                    "upstream server {{ server {backend}; keepalive 128; keepalive_requests 100000000; }}\nserver {{"
                ),
            ),
            Self::Haproxy => {
                let proto = if h2c { "proto h2" } else { "" };
                format!(
                    "global\n  nbthread 1\n  maxconn 4096\n\
                     defaults\n  mode http\n  http-reuse always\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
                     frontend in\n  bind {at} {proto}\n  default_backend out\n\
                     backend out\n  server one {backend} {proto}\n"
                )
            }
        };
        std::fs::write(&file, text)?;
        Ok(match self {
            Self::Haproxy => vec!["-db".to_owned(), "-f".to_owned(), path(&file)],
            _ => vec![
                "-p".to_owned(),
                path(folder),
                "-e".to_owned(),
                "stderr".to_owned(),
                "-c".to_owned(),
                path(&file),
            ],
        })
    }
}

fn nginx(folder: &Path, workers: u32, at: SocketAddr, h2c: bool, location: &str) -> String {
    let http2 = if h2c { "http2" } else { "" };
    let folder = folder.display();
    let scratch: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {folder}/{what};\n"))
        .concat();
    format!(
        "daemon off;\npid {folder}/pid;\nworker_processes {workers};\nevents {{ worker_connections 4096; }}\n\
         http {{\naccess_log off;\nkeepalive_requests 100000000;\n{scratch}\
         server {{ listen {at} {http2}; location / {{ {location} }} }}\n}}\n"
    )
}
