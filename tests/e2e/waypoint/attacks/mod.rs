//! Bytes that no honest client or server sends, through the mesh to a waypoint: every vector gets its answer,
//! and the client's other connections through the same tunnels go on.

mod backend;
mod evil;
mod floods;
mod frames;
mod h1;
mod h2;
mod scene;
mod tunnel;
mod turns;
mod wire;
