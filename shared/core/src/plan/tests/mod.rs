mod canary;
mod gateway;
mod inbound;
mod outbound;
mod waypoint;
