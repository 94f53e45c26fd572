//! How much may be in flight towards us (RFC 9113 section 5.2).
//!
//! What a stream has in flight is held here while its reader is slow, so a stream gets what its round
//! trip needs and no more. What all streams of a connection may have in flight is the sum: a slow
//! reader must not stop the others.

use std::time::Duration;

use super::Settings;

/// What one stream should be able to carry, in bytes a second: 10 Gbit/s.
const RATE: u64 = 1_250_000_000;
/// A near peer's stream: more than its round trip needs, since both ends are not always awake at once.
const NEAR: u32 = 512 << 10;
/// What the streams of a connection may have in flight together, however many and far.
const LARGEST: u32 = 256 << 20;

/// The windows of one connection, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    pub(super) stream: u32,
    pub(super) connection: u32,
}

/// Windows for a peer that far away (`None`: unknown), who may open that many streams.
pub(super) fn windows(settings: &Settings, round_trip: Option<Duration>, streams: u32) -> Windows {
    let most = settings.stream_window;
    let needed = |time: Duration| time.as_nanos() * u128::from(RATE) / 1_000_000_000;
    let stream = match round_trip {
        Some(time) => u32::try_from(needed(time)).unwrap_or(most),
        None => most,
    };
    let stream = stream.clamp(NEAR.min(most), most);
    let connection = stream.saturating_mul(streams).min(LARGEST);
    Windows {
        stream,
        connection: connection.max(settings.connection_window),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_streams_hold_little_and_none_stops_the_others() {
        const MIB: u32 = 1 << 20;
        let far = Some(Duration::from_millis(50));
        let near = Some(Duration::from_micros(100));
        // Largest stream and least connection window, distance, streams: the windows.
        for (most, least, distance, streams, stream, connection) in [
            (4 * MIB, 16 * MIB, near, 100, MIB / 2, 50 * MIB),
            (4 * MIB, 16 * MIB, near, 10, MIB / 2, 16 * MIB),
            (4 * MIB, 16 * MIB, far, 10, 4 * MIB, 40 * MIB),
            (4 * MIB, 16 * MIB, far, 100, 4 * MIB, 256 * MIB),
            (4 * MIB, 16 * MIB, None, 1, 4 * MIB, 16 * MIB),
            (MIB / 4, 4 * MIB, near, 1000, MIB / 4, 250 * MIB),
            (MIB / 16, MIB / 16, far, 100_000, MIB / 16, 256 * MIB),
            (4 * MIB, 512 * MIB, far, 100, 4 * MIB, 512 * MIB),
        ] {
            let settings = Settings {
                stream_window: most,
                connection_window: least,
                ..Settings::default()
            };
            let windows = windows(&settings, distance, streams);
            let wanted = Windows { stream, connection };
            assert_eq!(windows, wanted, "{most} {least} {distance:?} {streams}");
        }
        // 1 ms needs 1.25 MB for 10 Gbit/s.
        let settings = Settings::default();
        let windows = windows(&settings, Some(Duration::from_millis(1)), 1);
        assert_eq!(windows.stream, 1_250_000);
    }
}
