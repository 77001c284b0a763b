//! Both session machines, the client's and the server's, against each other in virtual time: a
//! network that delays and drops, disks that are slow, devices and edges that die.

mod acks;
mod live;
mod model;
mod reconnect;
mod sending;
mod storm;
