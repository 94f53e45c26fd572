//! The lab joined to a real control plane: `tests/kube/run tests`. Every test has a control plane and a
//! lab of its own; all of them run side by side.

mod mesh;
mod objects;
mod outage;
mod plane;
mod pods;
