//! One HTTP/2 request over TLS 1.3, and what became of it.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_net::tls::{identity_of, provider};
use bytes::Bytes;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Certificate, Tunnel, forge};

/// Who the server is, its status and what came back, or where it ended and why.
pub(super) async fn open(options: &Tunnel) -> anyhow::Result<Value> {
    let config = Arc::new(config(&options.certificate)?);
    let tcp = match TcpStream::connect(options.to).await {
        Ok(tcp) => tcp,
        Err(error) => return Ok(json!({ "stage": "tcp", "error": error.to_string() })),
    };
    let name = ServerName::from(options.to.ip());
    let tls = match TlsConnector::from(config).connect(name, tcp).await {
        Ok(tls) => tls,
        Err(error) => return Ok(json!({ "stage": "tls", "error": error.to_string() })),
    };
    let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let server = certificates.first().map(identity_of).transpose()?;
    let server = server.map(|identity| identity.to_string());
    let (sender, connection) = match h2::client::handshake(tls).await {
        Ok(both) => both,
        Err(error) => {
            return Ok(json!({ "server": server, "stage": "http", "error": error.to_string() }));
        }
    };
    let connection = tokio::spawn(connection);
    let request = http::Request::builder()
        .method(options.method.clone())
        .uri(uri(options))
        .body(())?;
    match exchange(request, &options.send, sender).await {
        Ok((status, body)) => Ok(json!({ "server": server, "status": status, "received": body })),
        Err(error) => {
            // The connection knows why; the request only that it is over.
            let why = match connection.await? {
                Err(cause) => cause.to_string(),
                Ok(()) => error.to_string(),
            };
            Ok(json!({ "server": server, "stage": "request", "error": why }))
        }
    }
}

fn uri(options: &Tunnel) -> String {
    let authority = match &options.authority {
        Some(authority) => authority.clone(),
        None => SocketAddr::new(options.to.ip(), 8080).to_string(),
    };
    if options.method == http::Method::CONNECT {
        authority
    } else {
        format!("https://{authority}/")
    }
}

async fn exchange(
    request: http::Request<()>,
    send: &str,
    sender: h2::client::SendRequest<Bytes>,
) -> Result<(u16, String), h2::Error> {
    let (response, mut body) = sender.ready().await?.send_request(request, false)?;
    let response = response.await?;
    let status = response.status().as_u16();
    if status == 200 {
        body.send_data(Bytes::copy_from_slice(send.as_bytes()), true)?;
    }
    let mut received = Vec::new();
    let mut stream = response.into_body();
    // What follows a refusal is of no interest, and may be a reset.
    while status == 200
        && let Some(data) = stream.data().await
    {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        received.extend_from_slice(&data);
    }
    Ok((status, String::from_utf8_lossy(&received).into_owned()))
}

/// TLS of the mesh with the certificate that is asked for, to any server.
pub(super) fn config(certificate: &Certificate) -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = match forge::certificate(certificate)? {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Takes any server: it is the one that has to be careful here.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
