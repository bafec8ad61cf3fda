//! Ports for gateways that are restarted on the same address.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the kernel's range of ephemeral ports, so that no client of another test uses a port while its gateway is down.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A port that no other test uses for as long as this value lives.
pub struct Port {
    number: u16,
    // The kernel releases the lock also when the test is killed.
    _lock: File,
}

impl Port {
    /// Reserves a free port.
    #[must_use]
    pub fn take() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = std::env::temp_dir().join("lychgate-test-ports");
        fs::create_dir_all(&dir).unwrap();
        let start = std::process::id().wrapping_mul(37);
        for _ in 0..COUNT {
            let at = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
            let number = u16::try_from(FIRST + at).unwrap();
            let lock = File::create(dir.join(number.to_string())).unwrap();
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free port from {FIRST} on");
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}
