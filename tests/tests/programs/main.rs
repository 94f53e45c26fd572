//! The sample programs as they are started by people: `echo` serves, `load` and other clients talk to it over loopback.

mod behaviour;
mod clients;
mod start;
mod tcp;
