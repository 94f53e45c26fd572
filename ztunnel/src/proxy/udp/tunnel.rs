//! UDP that arrives at a pod in a tunnel.

use ambit_net::hbone::server::Connect;

use super::super::{Failure, PodProxy, dial};
use super::end::End;
use super::relay::relay;
use crate::connections::{Open, Planned};

/// Carries what was planned and authorized, once the application's socket is there.
///
/// # Errors
/// How the flow ends. The peer has been told then.
pub(in super::super) async fn carry(
    proxy: &PodProxy,
    open: &Open,
    connect: Connect,
    planned: Planned,
) -> Result<(), Failure> {
    let settings = proxy.shared.settings();
    let caller = open.ends().source.ip();
    let server = match dial::datagrams(&proxy.pod.sockets, &planned.plan, caller, settings) {
        Ok(server) => server,
        Err(failure) => {
            connect.refuse(failure.status());
            return Err(failure);
        }
    };
    let headers = proxy.baggage.response(&planned.local);
    drop(planned);
    let stream = connect.accept(headers).map_err(Failure::Http2)?;
    let far = End::Tunnel(Box::new(stream.into()));
    tokio::select! {
        result = relay(End::Socket(server), far, open.counters(), settings.udp.idle) => Ok(result?),
        closed = open.closed() => Err(closed),
    }
}
