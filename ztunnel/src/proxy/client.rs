//! The connection of a client for which nothing has been carried yet.

use ambit_net::sys;
use tokio::net::TcpStream;

/// A client that waits. It is reset unless it is served: what was refused must not look like an
/// empty answer.
pub(super) struct Client(Option<TcpStream>);

impl Client {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Some(stream))
    }

    /// To be served; from now on the relay says how it ends.
    pub(super) fn serve(mut self) -> TcpStream {
        self.0.take().expect("it is served once")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            sys::reset(stream);
        }
    }
}
