//! The proxy's end.

use std::os::fd::OwnedFd;
use std::path::Path;

use ambit_core::zds::{answer, hello};

use super::packets::Packets;
use super::{Error, Request};

/// A connection to the node agent.
#[derive(Debug)]
pub struct Client {
    packets: Packets,
}

impl Client {
    /// Connects to the agent's socket and says hello.
    ///
    /// # Errors
    /// When the agent is not there.
    pub async fn connect(path: &Path) -> Result<Self, Error> {
        let packets = Packets::connect(path)
            .map_err(|error| Error::socket("connect to the node agent at", path, error))?;
        packets.send(&hello(), None).await?;
        Ok(Self { packets })
    }

    /// The next request, or `None` when the agent closed the connection. Answer each by [`Self::acknowledge`] before the
    /// next. A packet that is no valid request is refused here, towards the agent, and does not end the connection.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn receive(&mut self) -> Result<Option<Request<OwnedFd>>, Error> {
        loop {
            let Some(received) = self.packets.receive(Request::decode).await? else {
                return Ok(None);
            };
            match received {
                Ok(request) => return Ok(Some(request)),
                Err(error) => {
                    tracing::warn!(%error, "the node agent sent an invalid request");
                    self.acknowledge(Err(&error.to_string())).await?;
                }
            }
        }
    }

    /// Answers the last request: it is done, or why not.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn acknowledge(&mut self, outcome: Result<(), &str>) -> Result<(), Error> {
        self.packets.send(&answer(outcome), None).await
    }
}
