//! Limits of the proxy face: a client over a limit gets an error with the limit and `Retry-After`. (For the sessions of one person see
//! `cuts.rs`.)

use tests::gateway::Setup;

use super::peer::Connect;
use super::{Site, assert_passes, echo};
use crate::assert_says;

/// Number of a machine's 64 streams that one person cannot use.
const STREAMS_TO_ONE_MACHINE: usize = 56;

#[test]
fn whoever_asks_too_fast_hears_when_to_come_again() {
    for limit in ["limits.connect_per_prefix", "limits.connect_total"] {
        let mut site = Site::open(Setup::default().config(limit, "1/s burst 3"));
        site.run(&[("echo", echo())]);
        let mut refused = 0;
        // One more is let through each second, and so many take far less than one second each.
        for _ in 0..60 {
            let mut connect = site.asking("echo.alpha:1");
            let answer = connect.answer();
            if answer.status == 200 {
                continue;
            }
            answer.assert_refused(429, "rate-limited", "connection_limit_reached", "too many requests");
            let wait: u64 = answer.header("Retry-After").unwrap().parse().unwrap();
            assert!((1..=3).contains(&wait), "{answer:?}");
            assert!(connect.ends());
            refused += 1;
        }
        assert!(refused > 0, "{limit}: nobody was refused");
        site.assert_healthy();
    }
}

#[test]
fn a_machine_has_so_many_streams_and_the_next_waits_for_one_to_end() {
    let mut site = Site::open(Setup::default());
    site.run(&[("echo", echo())]);
    let mut open: Vec<Connect> = (0..STREAMS_TO_ONE_MACHINE).map(|_| site.connected("echo.alpha:1")).collect();
    let mut one_more = site.asking("echo.alpha:1");
    let answer = one_more.answer();
    let words = "56 streams are open to the machine `alpha`, which is the most";
    answer.assert_refused(429, "stream-limit", "connection_limit_reached", words);
    assert_eq!(answer.header("Retry-After"), Some("5"), "{answer:?}");
    assert!(one_more.ends());
    // The client says the same, and that trying again helps.
    assert_says(&site.alice.refused(&["connect", "alpha", "echo"]), 5, words);
    open.iter_mut().for_each(assert_passes);
    open.pop();
    // The place is free when the gateway has heard of the end.
    tests::wait::eventually("a place", tests::wait::PATIENCE, || {
        let mut connect = site.asking("echo.alpha:1");
        (connect.answer().status == 200).then(|| assert_passes(&mut connect))
    });
}
