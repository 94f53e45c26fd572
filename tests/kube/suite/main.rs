//! The lab joined to a real control plane: `tests/kube/run tests`. Every test has a control plane and a
//! lab of its own; as many run side by side as there are processors.

mod asked;
mod audit;
mod authority;
mod check;
mod faults;
mod helm;
mod installed;
mod interposer;
mod machine;
mod mesh;
mod objects;
mod outage;
mod plane;
mod pods;
mod readme;
mod replayed;
mod replica;
mod rights;
mod rotation;
mod scale;
mod shop;
mod steady;
mod traces;
mod traffic;
mod udp;
mod waypoint;
