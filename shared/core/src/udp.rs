//! Whether UDP of a pod is captured and carried as its TCP is: it has to ask for that, by an annotation.

/// The annotation.
pub const UDP: &str = "ambit.dev/udp";
const ENABLED: &str = "enabled";
/// Characters that are shown of a value that does not read.
const SHOWN: usize = 64;

/// A value that says nothing of UDP. UDP is left alone then, as without the annotation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {UDP}={0:?}: write {ENABLED}, or leave it away")]
pub struct UdpError(String);

/// Reads the annotation's value.
///
/// # Errors
/// It is another word than `enabled`.
pub fn is_enabled(annotation: Option<&str>) -> Result<bool, UdpError> {
    match annotation {
        None => Ok(false),
        Some(ENABLED) => Ok(true),
        Some(other) => Err(UdpError(other.chars().take(SHOWN).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_enables_it() {
        assert_eq!(is_enabled(None), Ok(false));
        assert_eq!(is_enabled(Some("enabled")), Ok(true));
        for word in ["", "true", "Enabled", " enabled", "disabled"] {
            let said = is_enabled(Some(word))
                .expect_err("another word")
                .to_string();
            let expected =
                format!("annotation ambit.dev/udp={word:?}: write enabled, or leave it away");
            assert_eq!(said, expected);
        }
        let long = is_enabled(Some(&"x".repeat(1_000))).expect_err("another word");
        assert_eq!(long, UdpError("x".repeat(SHOWN)));
    }
}
