//! The store: all durable state of the gateway, behind one small contract about durability.
//!
//! | call | promise |
//! |---|---|
//! | [`Store::read`] | one consistent view of the keys asked for, with every commit acknowledged before |
//! | [`Store::scan`], [`Store::scan_back`] | one consistent page of keys under a prefix |
//! | [`Store::commit`] | `Ok`: the whole batch survives a power cut; `Conflict`: nothing happened; `Unknown`: read to find out |
//! | [`Store::lease`] | entries that are deleted when their lease is not kept alive |
//! | [`Store::watch`] | every commit under some prefixes, reported after it is durable |
//!
//! **Reads never run ahead of the disk.** No read, scan or watch shows a write before it is durable, so no decision
//! depends on a write that a power cut can undo.
//!
//! **Versions.** A store counts its commits. An entry's version is the number of the commit that last wrote it, so versions
//! only grow, and a key deleted and written again never has an earlier version again. The count is stored in the same atomic
//! step as the batch.
//!
//! **Failures** differ in what the caller may do next. `Unknown`: read, then decide again. `Unavailable`: nothing happened, try
//! later; new decisions are refused until then. `Closed`: this process can never use the store again.
//!
//! Engines: [`memory`] is the executable specification, `sled` the default, `redb` the second. All three pass `contract`.
//! [`open()`] chooses one by name; [`transfer`] moves the contents from one to another.

pub mod memory;
pub mod transfer;

mod api;
mod batch;
mod engine;
mod folder;
mod format;
mod group;
mod lease;
mod named;
mod open;
mod record;
mod redb;
mod scan;
mod sled;
mod watch;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod damage;

pub use self::{
    api::{BoxFuture, CommitError, Entry, ReadError, Rows, SCAN_MAX, ScanPage, Snapshot, Store, scan_all},
    batch::{Batch, Expect, InvalidBatch, KEY_MAX, Key, LeaseId, StoreLimits, VALUE_MAX, Version, Write},
    named::{Engine, OpenError, UnknownEngine},
    open::{open, open_copy},
    watch::{Change, Commit, Reported, Watch},
};
