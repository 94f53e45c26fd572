//! A body that comes over an HTTP/1.1 connection, and gives the connection back at its end.

use ambit_http::h1::{BodyDecoder, Framing, Piece, Side};
use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::super::body::{Broken, Frame};
use super::{PIECE, Reader, Writer};

/// What still comes.
pub(in super::super) struct Incoming {
    reader: Option<Reader>,
    decoder: BodyDecoder,
    framing: Framing,
    /// Told when somebody wants the body: the client waits for 100.
    wanted: Option<oneshot::Sender<()>>,
    /// The rest of the request, which is still being sent.
    uplink: Option<BoxFuture<'static, Option<Writer>>>,
    writer: Option<Writer>,
    /// Gets the connection when both directions are done.
    done: Option<Done>,
}

type Done = Box<dyn FnOnce(Reader, Option<Writer>) + Send>;

impl Incoming {
    /// The body of a request: its reader goes to `done`.
    pub(super) fn request(
        reader: Reader,
        framing: Framing,
        wanted: Option<oneshot::Sender<()>>,
        done: impl FnOnce(Reader, Option<Writer>) + Send + 'static,
    ) -> Self {
        Self {
            reader: Some(reader),
            decoder: BodyDecoder::new(framing, Side::Client),
            framing,
            wanted,
            uplink: None,
            writer: None,
            done: Some(Box::new(done)),
        }
    }

    /// The body of a response. The connection goes to `done` if it can be used again.
    pub(super) fn response(
        reader: Reader,
        framing: Framing,
        uplink: Result<Writer, BoxFuture<'static, Option<Writer>>>,
        done: Option<Done>,
    ) -> Self {
        let (writer, uplink) = match uplink {
            Ok(writer) => (Some(writer), None),
            Err(uplink) => (None, Some(uplink)),
        };
        let mut incoming = Self {
            reader: Some(reader),
            decoder: BodyDecoder::new(framing, Side::Upstream),
            framing,
            wanted: None,
            uplink,
            writer,
            done,
        };
        incoming.finish();
        incoming
    }

    pub(in super::super) fn framing(&self) -> Framing {
        self.framing
    }

    pub(in super::super) async fn next(&mut self) -> Result<Option<Frame>, Broken> {
        loop {
            let Some(reader) = &mut self.reader else {
                return Ok(None);
            };
            match self.decoder.decode(&mut reader.buffer) {
                Ok(Some(Piece::Data(data))) => {
                    self.finish();
                    return Ok(Some(Frame::Data(data)));
                }
                Ok(Some(Piece::End(trailers))) => {
                    self.finish();
                    return Ok(trailers.map(Frame::Trailers));
                }
                Ok(None) => {}
                Err(error) => return Err(self.give_up(&error)),
            }
            if let Some(wanted) = self.wanted.take() {
                // A client that is gone shows at the next read.
                let _ = wanted.send(());
            }
            let more = match &mut self.uplink {
                Some(uplink) => tokio::select! {
                    biased;
                    writer = uplink => {
                        self.writer = writer;
                        self.uplink = None;
                        continue;
                    }
                    more = reader.fill(PIECE) => more,
                },
                None => reader.fill(PIECE).await,
            };
            match more {
                Ok(true) => {}
                Ok(false) => {
                    if let Err(error) = self.decoder.eof() {
                        return Err(self.give_up(&error));
                    }
                    // The connection ended with the body.
                    self.done = None;
                }
                Err(error) => return Err(self.give_up(&error)),
            }
        }
    }

    fn give_up(&mut self, error: &dyn std::fmt::Display) -> Broken {
        self.reader = None;
        self.done = None;
        Broken(error.to_string())
    }

    /// Gives the connection back once all of the body has been taken.
    fn finish(&mut self) {
        if !self.decoder.is_done() {
            return;
        }
        if let Some(uplink) = &mut self.uplink
            && let Some(writer) = uplink.now_or_never()
        {
            self.writer = writer;
            self.uplink = None;
        }
        let Some(reader) = self.reader.take() else {
            return;
        };
        if let (Some(done), None) = (self.done.take(), &self.uplink) {
            done(reader, self.writer.take());
        }
    }
}

/// An empty buffer that keeps nothing of the last message alive.
pub(super) fn fresh(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}
