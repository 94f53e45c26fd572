mod canary;
mod gateway;
mod inbound;
mod network;
mod outbound;
mod policy;
mod udp;
mod waypoint;
