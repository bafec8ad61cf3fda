//! Pure decisions: records in, changes out. No clock, disk, socket or runtime; time and entropy are arguments.

pub mod admission;
pub mod approve;
pub mod audit;
pub mod ca_end;
pub mod change;
pub mod crl;
pub mod enroll;
pub mod evidence;
pub mod jose;
pub mod keys;
pub mod kinds;
pub mod lock;
pub mod name;
pub mod own_leaf;
pub mod plan;
pub mod proof;
pub mod records;
pub mod refusal;
pub mod renew;
pub mod renew_now;
pub mod report;
pub mod sealed;
pub mod ssh;
pub mod timekeeping;
pub mod token;
pub mod tunnel;
