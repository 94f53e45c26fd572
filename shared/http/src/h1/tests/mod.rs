mod bodies;
mod encode;
mod requests;
mod responses;
mod splits;

use bytes::BytesMut;
use http::Method;

use super::{
    Asked, BodyDecoder, Error, Framing, Next, Piece, RequestDecoder, RequestHead, ResponseDecoder,
    ResponseHead, Side,
};

fn request(text: &[u8]) -> Result<Option<RequestHead>, Error> {
    RequestDecoder::new().decode(&mut BytesMut::from(text))
}

fn response(text: &[u8], asked: &Asked) -> Result<Option<ResponseHead>, Error> {
    ResponseDecoder::new().decode(&mut BytesMut::from(text), asked)
}

fn get() -> Asked {
    Asked::new(&Method::GET, None)
}

/// A whole stream as lines of text: what a connection's driver would see, data joined.
#[derive(Debug, Default, PartialEq, Eq)]
struct Log {
    lines: Vec<String>,
    data: Vec<u8>,
}

impl Log {
    fn say(&mut self, line: String) {
        if !self.data.is_empty() {
            let data = String::from_utf8_lossy(&self.data).into_owned();
            self.data.clear();
            self.lines.push(format!("data {data:?}"));
        }
        self.lines.push(line);
    }

    fn body(&mut self, body: &mut BodyDecoder, buf: &mut BytesMut) -> Result<bool, Error> {
        while let Some(piece) = body.decode(buf)? {
            match piece {
                Piece::Data(data) => {
                    assert!(!data.is_empty(), "a piece is never empty");
                    self.data.extend_from_slice(&data);
                }
                Piece::End(trailers) => {
                    self.say(format!("end {trailers:?}"));
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Everything a server sees of a stream that arrives in `pieces`.
fn server(pieces: &[&[u8]]) -> Vec<String> {
    let mut log = Log::default();
    let mut buf = BytesMut::new();
    let mut heads = RequestDecoder::new();
    let mut body: Option<BodyDecoder> = None;
    let mut run = |log: &mut Log, buf: &mut BytesMut| -> Result<(), Error> {
        loop {
            if let Some(reader) = &mut body {
                if !log.body(reader, buf)? {
                    return Ok(());
                }
                body = None;
            }
            let Some(head) = heads.decode(buf)? else {
                return Ok(());
            };
            log.say(format!("{head:?}"));
            body = Some(BodyDecoder::new(head.body, Side::Client));
        }
    };
    for piece in pieces {
        buf.extend_from_slice(piece);
        if let Err(error) = run(&mut log, &mut buf) {
            log.say(format!("{error:?}"));
            return log.lines;
        }
    }
    log.say(format!("left {:?}", buf));
    log.lines
}

/// Everything a client sees of the answers to GETs, or to one CONNECT or upgrade.
fn client(pieces: &[&[u8]], asked: &Asked) -> Vec<String> {
    let mut log = Log::default();
    let mut buf = BytesMut::new();
    let mut heads = ResponseDecoder::new();
    let mut body: Option<BodyDecoder> = None;
    let mut run = |log: &mut Log, buf: &mut BytesMut| -> Result<(), Error> {
        loop {
            if let Some(reader) = &mut body {
                if !log.body(reader, buf)? {
                    return Ok(());
                }
                body = None;
            }
            let Some(head) = heads.decode(buf, asked)? else {
                return Ok(());
            };
            log.say(format!("{head:?}"));
            match head.next {
                Next::Head => {}
                Next::Body(framing) => body = Some(BodyDecoder::new(framing, Side::Upstream)),
                Next::Tunnel => body = Some(BodyDecoder::new(Framing::UntilClose, Side::Upstream)),
            }
        }
    };
    for piece in pieces {
        buf.extend_from_slice(piece);
        if let Err(error) = run(&mut log, &mut buf) {
            log.say(format!("{error:?}"));
            return log.lines;
        }
    }
    log.say(format!("left {:?}", buf));
    log.lines
}
