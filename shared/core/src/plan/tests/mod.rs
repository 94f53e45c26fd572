mod canary;
mod gateway;
mod inbound;
mod outbound;
mod policy;
mod waypoint;
