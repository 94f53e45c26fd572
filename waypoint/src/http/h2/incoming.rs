//! A body that comes over an HTTP/2 stream.

use ambit_http::h1::Framing;
use futures_util::future::BoxFuture;
use h2::RecvStream;

use super::Unsent;
use crate::http::body::{Broken, Frame};

/// What still comes. Room for more is given when a piece is taken.
pub(in super::super) struct Incoming {
    stream: RecvStream,
    framing: Framing,
    taken: usize,
    data_over: bool,
    /// The rest of the request, which is still being sent.
    uplink: Option<BoxFuture<'static, Result<(), Unsent>>>,
}

impl Incoming {
    pub(super) fn new(stream: RecvStream, framing: Framing) -> Self {
        Self {
            stream,
            framing,
            taken: 0,
            data_over: false,
            uplink: None,
        }
    }

    pub(super) fn with_uplink(mut self, uplink: BoxFuture<'static, Result<(), Unsent>>) -> Self {
        self.uplink = Some(uplink);
        self
    }

    pub(in super::super) fn framing(&self) -> Framing {
        self.framing
    }

    pub(in super::super) async fn next(&mut self) -> Result<Option<Frame>, Broken> {
        let broken = |error: h2::Error| Broken(error.to_string());
        if self.taken > 0 {
            // A stream that is over has no window to give back.
            let _ = self.stream.flow_control().release_capacity(self.taken);
            self.taken = 0;
        }
        while !self.data_over {
            let data = match &mut self.uplink {
                Some(uplink) => tokio::select! {
                    biased;
                    _ = uplink => {
                        // A backend that wants no more of the request may still respond.
                        self.uplink = None;
                        continue;
                    }
                    data = self.stream.data() => data,
                },
                None => self.stream.data().await,
            };
            match data {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.taken = data.len();
                    return Ok(Some(Frame::Data(data)));
                }
                Some(Err(error)) => return Err(broken(error)),
                None => self.data_over = true,
            }
        }
        let trailers = self.stream.trailers().await.map_err(broken)?;
        Ok(trailers.map(Frame::Trailers))
    }
}
