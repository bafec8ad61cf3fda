//! Where a machine's tunnel is: here, at another gateway of the same store, or nowhere. This is the only way to find a tunnel.

use std::sync::Arc;

use pki::{Identity, Name};

use super::{
    shell::{Shell, readable},
    views::{OfferedService, TunnelDetails},
};
use crate::{
    core::{
        keys,
        look::Look,
        records::{Seen, ServiceRecord, TunnelRecord},
        refusal::Fault,
        session::{Mode, Offer},
    },
    registry::{tunnel_table::HeldTunnel, tunnels::Tunnel},
};

/// Where a tunnel is.
#[derive(Clone, Debug)]
pub enum Located {
    /// Here.
    Local(Arc<Tunnel>),
    /// At the gateway of this name.
    Remote(Name),
    /// The machine holds none.
    Nowhere,
}

/// Finds a machine's tunnel. Tunnels of other gateways are known from their records, which lag a little.
///
/// # Errors
/// [`Fault::Record`] never: a damaged record counts as missing.
pub fn locate(shell: &Shell, look: &Look, machine: &Identity) -> Result<Located, Fault> {
    if let Some(held) = shell.tunnels.held(machine) {
        return Ok(Located::Local(held.tunnel));
    }
    let seen = record(look, machine)?;
    Ok(seen.and_then(|seen| elsewhere(shell, &seen)).map_or(Located::Nowhere, Located::Remote))
}

/// A damaged record counts as missing.
fn record(look: &Look, machine: &Identity) -> Result<Option<Seen<TunnelRecord>>, Fault> {
    Ok(readable(look.get(&keys::tunnel(machine.name.as_str())))?.flatten())
}

/// The other gateway in a record. A record of this gateway for a tunnel that has ended counts as missing.
fn elsewhere(shell: &Shell, seen: &Seen<TunnelRecord>) -> Option<Name> {
    Name::parse(&seen.record.gateway).ok().filter(|gateway| *gateway != shell.replica.name)
}

/// The view of a machine's tunnel, wherever it is.
///
/// # Errors
/// [`Fault::Record`] never: a damaged record counts as missing.
pub fn details(shell: &Shell, look: &Look, machine: &Identity) -> Result<Option<TunnelDetails>, Fault> {
    if let Some(HeldTunnel { tunnel, .. }) = shell.tunnels.held(machine) {
        let service = |offer: &Offer| OfferedService { name: offer.name.clone(), sealed: offer.mode == Mode::Sealed };
        return Ok(Some(TunnelDetails {
            since: tunnel.since().secs(),
            source: tunnel.source(),
            services: tunnel.services().iter().map(service).collect(),
        }));
    }
    let seen = record(look, machine)?.filter(|seen| elsewhere(shell, seen).is_some());
    Ok(seen.map(|seen| {
        let TunnelRecord { gateway: _, since, source, services } = seen.record;
        let service = |ServiceRecord { name, sealed }| OfferedService { name, sealed };
        TunnelDetails { since: since.0, source, services: services.into_iter().map(service).collect() }
    }))
}
