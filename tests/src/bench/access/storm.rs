//! Figure 5: all tunnels are lost at once and are restored, while a person connects to a service.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use super::herd::Herd;
use super::idle::Fleet;
use super::person::connect;
use super::service::{Kind, Service};
use super::stage::{MACHINE, is_up, joined};
use crate::bench::meter::float;
use crate::tls;

/// Interval of connections to the service.
const CALL_EVERY: Duration = Duration::from_millis(250);

/// Times of the recovery.
#[derive(Debug)]
pub struct Storm {
    /// The reconnect spread that machines received.
    pub window: Duration,
    /// From the kill of the gateway until it replied again.
    pub away: Duration,
    /// From then until half, nearly all, and all tunnels were up.
    pub back: [Duration; 3],
    /// Number of failed attempts.
    pub failed: usize,
    /// Time of each connection until the first byte of the service.
    pub calls: Vec<Duration>,
}

/// Kills a gateway with `tunnels` tunnels, and starts it again.
pub async fn measure(fleet: &mut Fleet, tunnels: usize) -> Storm {
    let greeter = Service::start(Kind::Greeter, None).await;
    let machine = joined(&fleet.gateway, &fleet.alice, MACHINE);
    let expose = format!("greeter={},raw", greeter.at());
    let config = tls::trusting(&fleet.gateway.roots(), Some(&fleet.alice.identity()));
    let herd = Herd::start(&fleet.gateway, &fleet.machines[..tunnels]);
    herd.wait_up();
    // Every machine gets the spread for the current number of tunnels with its heartbeat.
    let per_second = 200;
    let window_ms = 1_000 * tunnels.div_ceil(per_second) as u64;
    let heard = |within: u64| within * 100 >= window_ms * tunnels as u64 * 99;
    herd.until("all know the window", Duration::from_secs(120), |seen| heard(seen.within_ms));
    let failed = herd.seen().failed;

    let killed = Instant::now();
    fleet.gateway.kill();
    fleet.gateway.start();
    let away = killed.elapsed();
    let began = Instant::now();
    // A machine that was off until now, with the service.
    let mut running = machine.start(&["run", "--expose", &expose]);
    running.expect_stdout("the tunnel is up", is_up);
    let proxy = fleet.gateway.proxy();
    let (mut back, mut calls) = ([None; 3], Vec::new());
    while back[2].is_none() {
        let called = Instant::now();
        let mut stream = connect(&proxy, &config, "greeter", MACHINE).await.unwrap();
        stream.read_u8().await.unwrap();
        calls.push(called.elapsed());
        let up = herd.seen().up;
        for (i, share) in [0.5, 0.99, 1.0].into_iter().enumerate() {
            if float(up as u64) >= share * float(tunnels as u64) {
                back[i].get_or_insert(began.elapsed());
            }
        }
        assert!(began.elapsed() < Duration::from_millis(4 * window_ms) + Duration::from_secs(60), "{up} came back");
        tokio::time::sleep(CALL_EVERY.saturating_sub(called.elapsed())).await;
    }
    calls.sort();
    Storm {
        window: Duration::from_millis(window_ms),
        away,
        back: back.map(Option::unwrap_or_default),
        failed: herd.seen().failed - failed,
        calls,
    }
}
