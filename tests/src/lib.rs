//! A tiny cluster in network namespaces, and the sample programs that run in it.

pub mod programs;
