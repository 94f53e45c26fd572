//! L7 authorization: may this request (or TCP connection) go on, and which rule says so.
//!
//! Semantics are those of `AuthorizationPolicy` (security.istio.io/v1): CUSTOM, then DENY, then
//! ALLOW; without any ALLOW policy everything else is allowed; AUDIT never decides. Whatever is not
//! understood denies. The sibling for connections at the node proxy is `ambit_core::authz`.

mod evaluate;
mod facts;
mod matcher;
mod reason;
#[cfg(test)]
mod tests;
mod text;

pub use evaluate::{authorize, authorize_asked};
pub use facts::{Facts, RequestFacts};
pub use matcher::matching_rule;
pub use reason::{Ask, Decision, Hit, Reason, Verdict};
