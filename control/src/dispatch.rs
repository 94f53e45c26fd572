//! Which gRPC service a request is for, by its path.

use std::convert::Infallible;
use std::future::ready;
use std::task::{Context, Poll};

use ambit_proto::ca::istio_certificate_service_server::{
    IstioCertificateServiceServer, SERVICE_NAME as CA,
};
use ambit_proto::xds::aggregated_discovery_service_server::{
    AggregatedDiscoveryServiceServer, SERVICE_NAME as XDS,
};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};

use crate::ca::Certificates;
use crate::ca::service::Service as CaService;
use crate::push::server::Server as XdsService;

/// Reconnecting proxies say what they hold; at some 100 bytes each this is 600,000 resources.
const MAX_XDS_REQUEST: usize = 64 << 20;

/// Both services of the port.
#[derive(Clone)]
pub struct Dispatch {
    xds: AggregatedDiscoveryServiceServer<XdsService>,
    ca: Certificates<IstioCertificateServiceServer<CaService>>,
}

impl Dispatch {
    /// Serves both.
    #[must_use]
    pub fn new(xds: XdsService, ca: Certificates<CaService>) -> Self {
        let ca = match ca {
            Certificates::Here(service) => {
                Certificates::Here(IstioCertificateServiceServer::new(service))
            }
            Certificates::Elsewhere(external) => Certificates::Elsewhere(external),
        };
        Self {
            xds: AggregatedDiscoveryServiceServer::new(xds)
                .max_decoding_message_size(MAX_XDS_REQUEST),
            ca,
        }
    }
}

impl Service<Request<Body>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both are ready at any time.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let refusal = match (service, &mut self.ca) {
            (Some((XDS, _)), _) => return self.xds.call(request),
            (Some((CA, _)), Certificates::Here(ca)) => return ca.call(request),
            (Some((CA, _)), Certificates::Elsewhere(external)) => {
                let address = &external.address;
                format!("certificates are signed by {address}: set CA_ADDRESS to it")
            }
            _ => format!("{path} is not served here"),
        };
        Box::pin(ready(Ok(Status::unimplemented(refusal).into_http())))
    }
}
