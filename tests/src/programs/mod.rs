//! The sample programs: `echo`, a server that answers with all it received, and `load`, a client that measures.
//!
//! Both are ordinary programs that know nothing of the mesh: what they see and send is what any application would. Tests
//! and benchmarks run them in pods; nothing here may depend on the lab or on the product's crates.

pub mod echo;
pub mod grpc;
pub mod health;
pub mod load;
pub mod pattern;
pub mod units;
pub mod websocket;
