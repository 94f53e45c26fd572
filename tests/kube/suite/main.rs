//! The lab joined to a real control plane: `tests/kube/run tests`. Every test has a control plane and a
//! lab of its own; as many run side by side as there are processors.

mod authority;
mod check;
mod faults;
mod installed;
mod interposer;
mod mesh;
mod objects;
mod outage;
mod plane;
mod pods;
mod replica;
mod scale;
mod steady;
mod traces;
mod traffic;
mod waypoint;
