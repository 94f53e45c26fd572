//! Ambit.
