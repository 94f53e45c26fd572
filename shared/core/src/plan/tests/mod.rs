mod inbound;
mod outbound;
mod waypoint;
