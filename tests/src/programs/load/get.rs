//! One HTTP request; the body goes to standard output.

use std::io::{self, Write as _};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::options::Get;
use super::target::{self, Resolved};
use super::{failure::Failure, http2};

pub(super) fn run(arguments: &Get) -> anyhow::Result<bool> {
    let resolved = target::resolve(arguments.url.address(), arguments.family, arguments.timeout)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let whole = tokio::time::timeout(arguments.timeout, get(arguments, &resolved));
        match whole.await {
            Ok(result) => result,
            Err(_) => anyhow::bail!(
                "{} did not answer within {:?}",
                arguments.url.uri(),
                arguments.timeout
            ),
        }
    })
}

async fn get(arguments: &Get, resolved: &Resolved) -> anyhow::Result<bool> {
    let uri = arguments.url.uri();
    let response = send(arguments, resolved)
        .await
        .with_context(|| format!("requesting {uri}"))?;
    let (head, mut body) = response.into_parts();
    let mut out = io::stdout().lock();
    if arguments.include {
        writeln!(out, "{:?} {}", head.version, head.status)?;
        for (name, value) in &head.headers {
            writeln!(out, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        writeln!(out)?;
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.with_context(|| format!("reading the answer of {uri}"))?;
        if let Some(data) = frame.data_ref() {
            out.write_all(data)?;
        }
    }
    out.flush()?;
    Ok(!arguments.fail || !(head.status.is_client_error() || head.status.is_server_error()))
}

async fn send(arguments: &Get, resolved: &Resolved) -> anyhow::Result<Response<Incoming>> {
    let implied = if arguments.data.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let mut request = Request::new(Full::new(Bytes::from(
        arguments.data.clone().unwrap_or_default(),
    )));
    *request.method_mut() = arguments.method.clone().unwrap_or(implied);
    request
        .headers_mut()
        .extend(arguments.headers.iter().cloned());
    let failed = |failure: Failure| anyhow::anyhow!("{}", failure.detail);
    if arguments.h2 {
        *request.uri_mut() = arguments.url.uri().clone();
        let mut sender = http2::connect(resolved).await.map_err(failed)?;
        return Ok(sender.send_request(request).await?);
    }
    *request.uri_mut() = arguments.url.path_and_query().parse()?;
    if !request.headers().contains_key(header::HOST) {
        let host = HeaderValue::from_str(arguments.url.authority())?;
        request.headers_mut().insert(header::HOST, host);
    }
    let stream = resolved.connect().await.map_err(failed)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its errors reach the request.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender.send_request(request).await?)
}
