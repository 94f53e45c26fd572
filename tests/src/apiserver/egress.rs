//! The API server's way into the lab, to kubelets and pods: HTTP CONNECT over a unix socket in the lab's folder, as
//! the API server's egress selector asks for. Whoever may open the socket, the lab's own user, reaches what nodes reach.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;

use crate::net::accepted;

/// Time for a connection into the lab.
const PATIENCE: Duration = Duration::from_secs(10);

fn socket(folder: &Path) -> PathBuf {
    folder.join("egress.sock")
}

/// Makes `place` lead to the socket of the lab in `folder`, instead of to that of a lab before.
///
/// # Errors
/// When something else is there, or it cannot be made.
pub(super) fn link(folder: &Path, place: &Path) -> io::Result<()> {
    match fs::symlink_metadata(place) {
        Ok(found) if found.is_symlink() => fs::remove_file(place)?,
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    symlink(socket(folder), place)
}

/// Serves for as long as the calling process lives.
///
/// # Errors
/// When the socket cannot be made.
pub(super) fn serve(folder: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(socket(folder))?;
    tokio::spawn(async move {
        loop {
            let stream = accepted(|| listener.accept()).await;
            tokio::spawn(attend(stream));
        }
    });
    Ok(())
}

async fn attend(stream: UnixStream) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service_fn(connect))
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!(%error, "a way into the lab ended");
    }
}

async fn connect(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let place = request.uri().authority().map(|it| it.as_str().parse());
    let (&Method::CONNECT, Some(Ok(place))) = (request.method(), place) else {
        let said = "CONNECT and an address, and nothing else\n";
        return Ok(answer(StatusCode::BAD_REQUEST, said.to_owned()));
    };
    Ok(match dial(place).await {
        Ok(mut inside) => {
            tokio::spawn(async move {
                let outside = hyper::upgrade::on(request)
                    .await
                    .map_err(io::Error::other)?;
                copy_bidirectional(&mut TokioIo::new(outside), &mut inside).await
            });
            answer(StatusCode::OK, String::new())
        }
        Err(error) => answer(StatusCode::BAD_GATEWAY, format!("{place}: {error}\n")),
    })
}

async fn dial(place: SocketAddr) -> io::Result<TcpStream> {
    timeout(PATIENCE, TcpStream::connect(place)).await?
}

fn answer(status: StatusCode, body: String) -> Response<String> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn asked(folder: &Path, head: &str) -> UnixStream {
        let mut stream = UnixStream::connect(folder.join("way"))
            .await
            .expect("it listens");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        stream
    }

    #[tokio::test]
    async fn addresses_are_connected_and_nothing_else_is_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        serve(folder).expect("it listens");
        for _ in 0..2 {
            link(folder, &folder.join("way")).expect("a link, also in the place of another");
        }
        fs::write(folder.join("file"), "").expect("a file");
        assert!(link(folder, &folder.join("file")).is_err(), "it stays");

        let inside = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let place = inside.local_addr().expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = inside.accept().await.expect("dialled");
            let mut asked = [0; 4];
            stream.read_exact(&mut asked).await.expect("asked");
            stream.write_all(&asked).await.expect("answered");
        });
        let head = format!("CONNECT {place} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        let mut stream = asked(folder, &head).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{head:?}");
        stream.write_all(b"ping").await.expect("it is carried");
        let mut said = String::new();
        stream
            .read_to_string(&mut said)
            .await
            .expect("carried back");
        assert_eq!(said, "ping", "and nothing before");

        for (head, status) in [
            (
                format!("GET http://{place}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
                "400",
            ),
            (
                "CONNECT name:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                "400",
            ),
            // Nobody listens any more.
            (
                format!("CONNECT {place} HTTP/1.1\r\nHost: a\r\n\r\n"),
                "502",
            ),
        ] {
            let mut stream = asked(folder, &head).await;
            let mut said = [0; 12];
            stream.read_exact(&mut said).await.expect("an answer");
            assert_eq!(said, format!("HTTP/1.1 {status}").as_bytes(), "{head}");
        }
    }
}
