//! Sample programs.
