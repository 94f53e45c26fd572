//! Whole labs: real processes, real namespaces, real packets. Every test has a lab of its own or shares
//! one that is only read; all of them run side by side, as root or as an ordinary user.

mod affinity;
mod agents;
mod counters;
mod dns;
mod dump;
mod egress;
mod exclusions;
mod faults;
mod fixtures;
mod floods;
mod flows;
mod growth;
mod joining;
mod kubelet;
mod lifecycle;
mod lifetimes;
mod machines;
mod mesh;
mod names;
mod network;
mod networks;
mod policy;
mod probes;
mod processes;
mod profiles;
mod programs;
mod refusals;
mod renaming;
mod revocation;
mod succession;
mod thief;
mod udp;
mod waypoint;
mod ways;
mod weather;
