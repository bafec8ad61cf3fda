//! The guarantees of a tunnel, one simulation each.

use std::time::Duration;

use enroll_client::core::tunnel::{REPLACED_AWAY, WELCOME_TIME};
use gateway::edge::tunnel::conversation::{HEARTBEAT, HEARTBEAT_BUSY, HELLO_TIME, Input};
use wire::tunnel::{Closing, Reason, ToMachine};

use crate::sim::{Pair, seeds};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Time for a connection, a hello and its reply, with more than the latency of any test.
const GREETING: Duration = SECOND;

/// Longest time until an end gives up a silent link: two and a half heartbeats, plus jitter.
fn noticed_within(heartbeat: Duration) -> Duration {
    heartbeat * 27 / 10
}

#[test]
fn it_comes_up_and_stays_up_for_a_day_with_no_needless_traffic() {
    seeds(4, |seed| {
        let mut pair = Pair::new(seed);
        pair.come_up();
        pair.run_for(24 * HOUR);
        assert!(pair.is_up() && pair.seen.ups.len() == 1 && pair.seen.downs.is_empty(), "{:?}", pair.seen.downs);
        // A hello and a heartbeat a minute; each is answered once and nothing else is said.
        assert!((1_400..1_480).contains(&pair.seen.to_gateway), "{} frames in a day", pair.seen.to_gateway);
        assert_eq!(pair.seen.to_machine, pair.seen.to_gateway);
    });
}

#[test]
fn while_streams_are_open_it_speaks_four_times_as_often() {
    seeds(4, |seed| {
        let mut pair = Pair::new(seed);
        pair.come_up();
        pair.streams(3);
        pair.run_for(HOUR);
        assert!(pair.is_up() && pair.seen.downs.is_empty());
        assert!((230..260).contains(&pair.seen.to_gateway), "{} frames in an hour", pair.seen.to_gateway);
        pair.streams(0);
        pair.run_for(HOUR);
        assert!((288..330).contains(&pair.seen.to_gateway), "{} frames in two hours", pair.seen.to_gateway);
        assert!(pair.seen.downs.is_empty());
    });
}

#[test]
fn streams_that_come_and_go_never_end_it() {
    seeds(50, |seed| {
        let mut pair = Pair::new(seed);
        pair.come_up();
        for _ in 0..200 {
            let count = usize::try_from(pair.draw.next() % 3).unwrap();
            pair.streams(count);
            let span = pair.draw.within(80 * SECOND);
            pair.run_for(span);
        }
        assert!(pair.is_up() && pair.seen.downs.is_empty(), "{:?} {:?}", pair.seen.downs, pair.seen.closed);
    });
}

#[test]
fn lost_at_any_moment_it_is_up_again_within_the_bound() {
    seeds(400, |seed| {
        let mut pair = Pair::new(seed);
        pair.latency = Duration::from_millis(1 + pair.draw.next() % 100);
        // Half of the moments before or around the greeting.
        let span = if seed % 2 == 0 { SECOND * 3 / 2 } else { 200 * SECOND };
        let span = pair.draw.within(span);
        pair.run_for(span);
        let (machine, gateway) = (pair.draw.coin(), pair.draw.coin());
        pair.cut(machine, gateway);
        let noticed = if machine { Duration::ZERO } else { noticed_within(HEARTBEAT).max(WELCOME_TIME) };
        let within = pair.about.reconnect_within;
        let took = pair.run_until("up again", noticed + within + 2 * GREETING, |pair| pair.is_up());
        assert!(!machine || took <= within + 2 * GREETING);
        pair.run_for(noticed_within(HEARTBEAT));
        assert_eq!(pair.held(), 1, "the old one has ended");
        let downs = pair.seen.downs.len();
        pair.run_for(HOUR);
        assert!(pair.is_up() && pair.seen.downs.len() == downs, "{:?}", pair.seen.downs);
    });
}

#[test]
fn lost_again_and_again_it_always_comes_back() {
    seeds(50, |seed| {
        let mut pair = Pair::new(seed);
        for _ in 0..40 {
            let (machine, gateway) = (pair.draw.coin(), pair.draw.coin());
            let span = pair.draw.within(30 * SECOND);
            pair.run_for(span);
            pair.cut(machine, gateway);
        }
        let bound = noticed_within(HEARTBEAT) + pair.about.reconnect_within + 2 * GREETING;
        pair.run_until("up at last", bound, Pair::is_up);
    });
}

#[track_caller]
fn both_notice(seed: u64, streams: usize, heartbeat: Duration) {
    let mut pair = Pair::new(seed);
    pair.come_up();
    pair.streams(streams);
    let span = pair.draw.within(300 * SECOND);
    pair.run_for(span);
    assert!(pair.is_up());
    pair.reachable = false;
    pair.go_silent();
    let gateway = pair.run_until("the gateway notices", heartbeat * 5 / 2, |pair| pair.held() == 0);
    let left = noticed_within(heartbeat) - gateway.min(noticed_within(heartbeat));
    pair.run_until("the machine notices", left, |pair| !pair.machine_believes());
}

#[test]
fn a_half_open_link_is_noticed_by_both() {
    seeds(200, |seed| {
        both_notice(seed, 0, HEARTBEAT);
        both_notice(seed, 1, HEARTBEAT_BUSY);
    });
}

#[test]
fn a_silent_link_that_just_became_busy_is_noticed_fast() {
    seeds(100, |seed| {
        let mut pair = Pair::new(seed);
        pair.come_up();
        let span = pair.draw.within(300 * SECOND);
        pair.run_for(span);
        pair.go_silent();
        let span = pair.draw.within(20 * SECOND);
        pair.run_for(span);
        // Somebody wants a stream through it; the machine will never know.
        pair.streams(1);
        pair.run_until("the gateway notices", HEARTBEAT_BUSY * 5 / 2, |pair| pair.held() == 0);
    });
}

#[test]
fn a_renewed_certificate_is_shown_on_the_open_tunnel() {
    seeds(50, |seed| {
        let mut pair = Pair::new(seed);
        pair.come_up();
        pair.streams(2);
        for _ in 0..5 {
            pair.renewed();
            pair.run_for(5 * SECOND);
        }
        assert_eq!((pair.seen.reauthenticated, pair.seen.ups.len()), (5, 1));
        pair.verifies = false;
        pair.renewed();
        pair.run_for(5 * SECOND);
        assert_eq!((pair.seen.reauthenticated, pair.seen.not_reauthenticated), (5, 1));
        assert!(pair.is_up() && pair.seen.downs.is_empty(), "the one before still holds");
    });
}

#[test]
fn a_renewal_whose_answer_is_lost_is_shown_by_the_next_connection() {
    seeds(100, |seed| {
        let mut pair = Pair::new(seed);
        pair.come_up();
        pair.streams(1);
        pair.run_for(SECOND);
        pair.renewed();
        let span = pair.draw.within(Duration::from_millis(600));
        pair.run_for(span);
        let (machine, gateway) = (pair.draw.coin(), pair.draw.coin());
        pair.cut(machine, gateway);
        let before = pair.seen.arrivals.len();
        let bound = noticed_within(HEARTBEAT_BUSY) + pair.about.reconnect_within + 2 * GREETING;
        pair.run_until("up again", bound, Pair::is_up);
        assert!(pair.seen.arrivals.len() > before, "a new handshake, with the certificate in use");
        pair.renewed();
        pair.run_for(5 * SECOND);
        assert!(pair.seen.reauthenticated >= 1 && pair.is_up());
    });
}

#[test]
fn a_renewal_while_there_is_no_tunnel_is_shown_by_the_next_one() {
    let mut pair = Pair::new(1);
    pair.renewed();
    pair.come_up();
    pair.run_for(HOUR);
    assert_eq!((pair.seen.reauthenticated, pair.seen.not_reauthenticated), (0, 0));
}

#[test]
fn renew_now_is_delivered_or_not_at_all() {
    let mut pair = Pair::new(1);
    pair.come_up();
    pair.gateway_does(Input::RenewNow);
    pair.run_for(SECOND);
    assert_eq!(pair.seen.renew_now, 1);
    // On a dead link it is lost: the machine learns of it when it looks for itself, as it does without a tunnel.
    pair.go_silent();
    pair.gateway_does(Input::RenewNow);
    pair.run_for(HOUR);
    assert_eq!(pair.seen.renew_now, 1);
    assert!(pair.is_up());
    pair.gateway_does(Input::RenewNow);
    pair.run_for(SECOND);
    assert_eq!(pair.seen.renew_now, 2);
}

#[test]
fn after_a_drain_it_comes_back_within_the_window() {
    seeds(200, |seed| {
        let mut pair = Pair::new(seed);
        pair.about.reconnect_within = 20 * SECOND;
        pair.come_up();
        pair.streams(1);
        pair.gateway_does(Input::Drain(30 * SECOND));
        pair.gateway_does(Input::Ended("s".into(), Reason::Drained));
        pair.run_for(SECOND);
        assert_eq!((pair.seen.draining, pair.seen.ended.len()), (1, 1));
        assert!(pair.machine_believes(), "streams may end by themselves");
        let closing = Closing { reason: Reason::Drained, detail: "it stops".into(), retry_after_ms: 1_000 };
        pair.gateway_does(Input::End(closing));
        let took = pair.run_until("back", 21 * SECOND + GREETING, |pair| pair.seen.ups.len() == 2);
        assert!(took >= SECOND, "not before it was asked to: {took:?}");
    });
}

#[test]
fn a_gateway_that_is_away_for_long_is_found_soon_after_it_is_back() {
    seeds(50, |seed| {
        let mut pair = Pair::new(seed);
        pair.come_up();
        pair.reachable = false;
        pair.cut(true, true);
        let span = pair.draw.within(12 * HOUR);
        pair.run_for(span);
        pair.reachable = true;
        // The longest backoff, and an attempt that was under way.
        pair.run_until("found", 300 * SECOND + 10 * SECOND + GREETING, Pair::is_up);
    });
}

#[test]
fn two_holders_of_one_certificate_do_not_throw_each_other_out_all_day() {
    seeds(30, |seed| {
        let mut pair = Pair::new(seed);
        pair.come_up();
        let copy = pair.add_holder();
        pair.run_until("the copy takes its place", 10 * SECOND, |pair| pair.holder_is_up(copy));
        pair.run_for(12 * HOUR);
        let gaps = pair.seen.replaced.windows(2).map(|two| two[1] - two[0]);
        let shortest = gaps.min().unwrap();
        assert!(shortest >= REPLACED_AWAY, "replaced after {shortest:?}");
        assert!(pair.seen.replaced.len() > 50, "each comes back: {}", pair.seen.replaced.len());
    });
}

#[test]
fn a_hello_that_was_overtaken_does_not_throw_out_the_tunnel_that_came_after() {
    let mut pair = Pair::new(1);
    // The first connection's hello is on its way for long, while the machine has changed its network already.
    pair.latency = 2 * SECOND;
    pair.run_until("a first connection", 10 * SECOND, |pair| pair.seen.arrivals.len() == 1);
    pair.lose_at_the_machine();
    pair.latency = Duration::from_millis(1);
    pair.run_until("up", 2 * SECOND, Pair::is_up);
    pair.run_for(HOUR);
    assert!(pair.is_up(), "{:?}", pair.seen.downs);
    assert_eq!(pair.seen.downs.len(), 1, "{:?}", pair.seen.downs);
}

#[test]
fn the_locked_come_slowly_and_are_back_soon_after_the_lock_is_lifted() {
    seeds(50, |seed| {
        let mut pair = Pair::new(seed);
        pair.come_up();
        let locked = Closing { reason: Reason::Locked, detail: "a lock was set".into(), retry_after_ms: 60_000 };
        pair.turned_away = Some(locked.clone());
        pair.gateway_does(Input::End(Closing { retry_after_ms: 0, ..locked }));
        let before = pair.seen.arrivals.len();
        pair.run_for(HOUR);
        let tries = pair.seen.arrivals.len() - before;
        assert!((8..=60).contains(&tries), "{tries} attempts in an hour");
        assert_eq!(pair.held(), 0);
        pair.turned_away = None;
        // A minute, and the longest backoff.
        pair.run_until("back", 360 * SECOND + GREETING, Pair::is_up);
        pair.run_for(HOUR);
        assert!(pair.is_up());
    });
}

#[test]
fn whoever_holds_no_tunnel_hears_why() {
    let mut pair = Pair::new(1);
    let words = "only machines, which hold tunnels; people connect to the proxy face";
    pair.turned_away = Some(Closing { reason: Reason::Policy, detail: words.into(), retry_after_ms: 60_000 });
    pair.run_for(20 * SECOND);
    assert!(pair.seen.downs.iter().any(|(_, why)| why.contains(words)), "{:?}", pair.seen.downs);
}

#[test]
fn the_clock_of_the_day_may_jump() {
    let frames = |jumps: bool| {
        let mut pair = Pair::new(7);
        pair.come_up();
        for hour in 0..24_u64 {
            if jumps {
                pair.about.time = if hour % 2 == 0 { 0 } else { u64::MAX };
            }
            pair.run_for(HOUR);
        }
        assert!(pair.is_up() && pair.seen.downs.is_empty());
        (pair.seen.to_gateway, pair.seen.to_machine)
    };
    assert_eq!(frames(true), frames(false));
}

#[test]
fn the_lock_epoch_reaches_the_machine_with_the_next_heartbeat() {
    let mut pair = Pair::new(1);
    pair.come_up();
    pair.about.epoch = 9;
    pair.run_until("it knows", HEARTBEAT * 6 / 5 + GREETING, |pair| pair.epoch() == 9);
}

/// How many tunnels may come back in a second, by the gateway's default.
const PACED: usize = 200;

/// As the gateway counts: within which time so many can come back.
fn window(tunnels: usize) -> Duration {
    Duration::from_secs(tunnels.div_ceil(PACED).max(1).try_into().unwrap())
}

/// Machines that share one gateway.
struct Fleet(Vec<Pair>);

impl Fleet {
    fn up(count: u64, seed: u64) -> Self {
        let pairs = (0..count).map(|at| {
            let mut pair = Pair::new(seed.wrapping_mul(1_000_003) + at);
            pair.about.reconnect_within = window(usize::try_from(count).unwrap());
            // A gateway that does not run refuses at once.
            pair.patience = pair.latency;
            pair.run_for(100 * SECOND);
            assert!(pair.is_up());
            pair
        });
        Self(pairs.collect())
    }

    fn lose(&mut self, reachable: bool) {
        for pair in &mut self.0 {
            pair.reachable = reachable;
            pair.cut(true, true);
            pair.seen.arrivals.clear();
        }
    }

    /// Lets time pass, second by second: what one is told hangs on how many are up.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            let told = window(self.0.iter().filter(|pair| pair.held() == 1).count());
            for pair in &mut self.0 {
                pair.about.reconnect_within = told;
                pair.run_for(SECOND);
            }
        }
    }

    fn all_up(&self) -> bool {
        self.0.iter().all(Pair::is_up)
    }

    /// The most arrivals in any one second since the loss.
    fn busiest_second(&self) -> usize {
        let mut arrivals: Vec<Duration> = self.0.iter().flat_map(|pair| pair.seen.arrivals.iter().copied()).collect();
        arrivals.sort_unstable();
        (0..arrivals.len())
            .map(|first| arrivals[first..].partition_point(|at| *at < arrivals[first] + SECOND))
            .max()
            .unwrap_or(0)
    }
}

#[test]
fn five_thousand_lost_at_once_come_back_at_the_paced_rate() {
    seeds(1, |seed| {
        let mut fleet = Fleet::up(5_000, seed);
        fleet.lose(true);
        fleet.run(27);
        assert!(fleet.all_up());
        let busiest = fleet.busiest_second();
        assert!(busiest < 2 * PACED, "{busiest} in a second");
        // And lost again before the next heartbeat: those who came first were told of a nearly empty gateway.
        fleet.lose(true);
        fleet.run(27);
        assert!(fleet.all_up());
        let busiest = fleet.busiest_second();
        assert!(busiest < 2 * PACED, "{busiest} in a second, the second time");
    });
}

#[track_caller]
fn back_after(away: u64) {
    seeds(1, |seed| {
        let mut fleet = Fleet::up(5_000, seed);
        fleet.lose(false);
        for pair in &mut fleet.0 {
            pair.run_for(Duration::from_secs(away));
            pair.reachable = true;
        }
        fleet.run(330);
        assert!(fleet.all_up());
        let busiest = fleet.busiest_second();
        assert!(busiest < 2 * PACED, "{busiest} in a second, {away} s away");
    });
}

#[test]
fn five_thousand_whose_gateway_was_away_for_ten_seconds() {
    back_after(10);
}

#[test]
fn five_thousand_whose_gateway_was_away_for_a_minute() {
    back_after(60);
}

#[test]
fn five_thousand_whose_gateway_was_away_for_an_hour() {
    back_after(3_600);
}

#[test]
fn whoever_says_nothing_is_let_go() {
    let mut pair = Pair::new(1);
    pair.latency = 12 * SECOND;
    pair.run_until("a connection", 40 * SECOND, |pair| pair.seen.arrivals.len() == 1);
    pair.run_for(HELLO_TIME);
    assert_eq!(pair.seen.closed.len(), 1, "{:?}", pair.seen.closed);
    assert_eq!(pair.seen.closed[0].1, Reason::Peer);
    let ToMachine::Unknown = wire::tunnel::decode(br#"{"type":"sing"}"#).unwrap() else { panic!("it is known") };
}
