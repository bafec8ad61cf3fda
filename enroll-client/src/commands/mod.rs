//! The subcommands: each calls `flow` and `edge`, and formats its output with `text`.

pub mod connect;
pub mod daemon;
pub mod helper;
pub mod inventory;
pub mod join;
pub mod manage_client;
pub mod own;
pub mod people;
pub mod requests;
pub mod set;
pub mod sshcert;
pub mod sshconfig;
pub mod status;
pub mod tpm;
