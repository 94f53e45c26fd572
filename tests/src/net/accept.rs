//! Listeners that go on whatever happens.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

/// After an accept that failed, as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The next connection of a listener.
pub(crate) async fn accepted<S, A, F>(accept: impl Fn() -> F) -> S
where
    F: Future<Output = io::Result<(S, A)>>,
{
    loop {
        match accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => sleep(PAUSE).await,
        }
    }
}
