//! The order number of the gateway's signed statements. It grows with every start and reload, since these may change whom clients
//! trust; a client never accepts a statement older than one it has seen.

use std::sync::atomic::Ordering;

use pki::Order;

use super::{
    clock,
    shell::{Actor, Retry, Shell, retrying},
};
use crate::core::{
    change::Changes,
    keys,
    records::Seen,
    refusal::{Fault, Refusal},
};

/// Increases the order. It includes the clock, if that is trusted, so it also grows in a store that was restored from a backup.
///
/// # Errors
/// When the store fails.
pub async fn advance(shell: &Shell) -> Result<(), Refusal> {
    let order = retrying(|| once(shell)).await?;
    shell.order.store(order.number(), Ordering::Relaxed);
    Ok(())
}

async fn once(shell: &Shell) -> Result<Order, Retry> {
    let last: Option<Seen<u64>> = match shell.get(keys::ORDER.to_owned()).await {
        // As after a restore: the clock increases it.
        Err(Fault::Record(_)) => None,
        other => other?,
    };
    let believed = clock::doubt(shell).is_none().then(|| shell.now());
    let order = Order::new(last.as_ref().map_or(0, |seen| seen.record)).next(believed);
    let mut changes = Changes::new();
    match &last {
        Some(seen) => changes.update(keys::ORDER.to_owned(), seen, &order.number()),
        None => changes.put(keys::ORDER.to_owned(), &order.number()),
    }
    shell.commit(changes, &Actor { who: "gateway", instance: "order" }).await?;
    Ok(order)
}

/// The current order.
#[must_use]
pub fn now(shell: &Shell) -> Order {
    Order::new(shell.order.load(Ordering::Relaxed))
}
