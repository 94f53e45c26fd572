//! Whether the claims of a token suit a rule, now.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::model::JwtRule;

/// How far the issuer's clock and ours may differ: added to `exp`, taken from `nbf`. As in Envoy's
/// JWT filter, and not configurable.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Whether `aud`, `exp` and `nbf` suit. The issuer has been compared. As in Istio `exp` may be absent;
/// audiences are compared exactly.
///
/// # Errors
/// What does not, for the log and the client.
pub(super) fn suits(
    claims: &Map<String, Value>,
    rule: &JwtRule,
    now: SystemTime,
) -> Result<(), &'static str> {
    let now = now
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64());
    let skew = CLOCK_SKEW.as_secs_f64();
    if let Some(expiry) = claims.get("exp") {
        let expiry = expiry.as_f64().ok_or("the token's exp is not a number")?;
        if now > expiry + skew {
            return Err("the token has expired");
        }
    }
    if let Some(start) = claims.get("nbf") {
        let start = start.as_f64().ok_or("the token's nbf is not a number")?;
        if now + skew < start {
            return Err("the token is not valid yet");
        }
    }
    let wanted = |found: &str| rule.audiences.iter().any(|audience| **audience == *found);
    let for_us = match claims.get("aud") {
        _ if rule.audiences.is_empty() => true,
        Some(Value::String(audience)) => wanted(audience),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(wanted),
        _ => false,
    };
    if !for_us {
        return Err("the token is for another audience");
    }
    Ok(())
}
