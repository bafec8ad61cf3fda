//! Records of tunnels, for all gateways of a store.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::UnixSecs;

/// An open tunnel of a machine. The record is under the lease of the gateway that has the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelRecord {
    /// The name of that gateway.
    pub gateway: String,
    /// Since when it is up, by that gateway's clock.
    pub since: UnixSecs,
    /// Where it comes from.
    pub source: IpAddr,
    /// What the machine exposes.
    pub services: Vec<ServiceRecord>,
}

/// A service that a machine exposes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Its name.
    pub name: String,
    /// Whether only the machine's agent can read its traffic.
    pub sealed: bool,
}
