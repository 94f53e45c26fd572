//! A body that comes over an HTTP/2 stream.

use std::task::{Context, Poll, ready};

use ambit_http::h1::Framing;
use ambit_http::h2rules;
use h2::RecvStream;
use tokio::task::JoinHandle;

use crate::http::body::{Broken, Frame};

/// What still comes. Room for more is given when a piece is taken.
pub(in super::super) struct Incoming {
    stream: RecvStream,
    framing: Framing,
    taken: usize,
    data_over: bool,
    over: bool,
    /// Sends the rest of the request; ends with this.
    uplink: Option<JoinHandle<()>>,
    /// Counted while this lives.
    _place: Option<super::client::Busy>,
}

impl Incoming {
    /// The body of a request.
    pub(super) fn request(stream: RecvStream, framing: Framing) -> Self {
        Self::new(stream, framing, None, None)
    }

    /// The body of a response; `uplink` still sends the request.
    pub(super) fn response(
        stream: RecvStream,
        framing: Framing,
        uplink: Option<JoinHandle<()>>,
        place: super::client::Busy,
    ) -> Self {
        Self::new(stream, framing, uplink, Some(place))
    }

    fn new(
        stream: RecvStream,
        framing: Framing,
        uplink: Option<JoinHandle<()>>,
        place: Option<super::client::Busy>,
    ) -> Self {
        Self {
            stream,
            framing,
            taken: 0,
            data_over: false,
            over: false,
            uplink,
            _place: place,
        }
    }

    pub(in super::super) fn framing(&self) -> Framing {
        self.framing
    }

    pub(in super::super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, Broken>> {
        let broken = |error: &dyn std::fmt::Display| Broken(error.to_string());
        if self.over {
            return Poll::Ready(Ok(None));
        }
        if self.taken > 0 {
            // A stream that is over has no window to give back.
            let _ = self.stream.flow_control().release_capacity(self.taken);
            self.taken = 0;
        }
        while !self.data_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.taken = data.len();
                    return Poll::Ready(Ok(Some(Frame::Data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
                None => self.data_over = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).map_err(|error| broken(&error))?;
        self.over = true;
        let Some(mut trailers) = trailers else {
            return Poll::Ready(Ok(None));
        };
        match h2rules::trailers(&mut trailers) {
            Ok(()) => Poll::Ready(Ok(Some(Frame::Trailers(trailers)))),
            Err(violation) => Poll::Ready(Err(broken(&violation))),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(uplink) = &self.uplink {
            uplink.abort();
        }
    }
}
