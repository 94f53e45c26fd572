//! The echo service's gRPC interface: small enough to be written without a generator.
//!
//! ```proto
//! syntax = "proto3";
//! package ambit.echo;
//! message Message { string text = 1; uint32 repeat = 2; }
//! message Reply { string text = 1; uint64 sequence = 2; string about = 3; }
//! service Echo {
//!   rpc Unary(Message) returns (Reply);
//!   rpc ServerStream(Message) returns (stream Reply);
//!   rpc ClientStream(stream Message) returns (Reply);
//!   rpc Bidi(stream Message) returns (stream Reply);
//! }
//! ```

/// Its full name.
pub const SERVICE: &str = "ambit.echo.Echo";
/// Path of the unary method.
pub const UNARY: &str = "/ambit.echo.Echo/Unary";
/// Path of the server-streaming method: answers `repeat` replies.
pub const SERVER_STREAM: &str = "/ambit.echo.Echo/ServerStream";
/// Path of the client-streaming method: answers all texts joined by a space, and their number as `sequence`.
pub const CLIENT_STREAM: &str = "/ambit.echo.Echo/ClientStream";
/// Path of the bidirectional method: answers each message at once.
pub const BIDI: &str = "/ambit.echo.Echo/Bidi";

/// What a client sends.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Message {
    /// The text to be echoed.
    #[prost(string, tag = "1")]
    pub text: String,
    /// How many replies the server-streaming method sends; zero means one.
    #[prost(uint32, tag = "2")]
    pub repeat: u32,
}

/// What the server answers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Reply {
    /// The text received.
    #[prost(string, tag = "1")]
    pub text: String,
    /// Position of this reply in its stream, from zero; the number of messages for the client-streaming method.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// The JSON that an HTTP request would have been answered with; in the first reply only.
    #[prost(string, tag = "3")]
    pub about: String,
}
