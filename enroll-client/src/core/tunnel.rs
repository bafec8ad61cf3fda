//! State machine of a machine's tunnel, the machine's side: when to connect, which frames to send, when to give up a connection.
//! Times are durations since any fixed moment, and random numbers are arguments.

use std::time::Duration;

use pki::UnixTime;
use wire::tunnel::{Closing, FromMachine, Reason, ToMachine};

/// Time limit from the connection to the welcome frame.
pub const WELCOME_TIME: Duration = Duration::from_secs(15);

/// Heartbeat interval while streams are open, regardless of the interval that the gateway asks for.
pub const BUSY_EVERY: Duration = Duration::from_secs(15);

/// First upper bound of the backoff.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// Largest upper bound of the backoff: a machine reconnects within minutes after its gateway is back, however long that was down.
pub const BACKOFF_MOST: Duration = Duration::from_secs(300);

/// Longest reconnect delay or spread that is accepted from the gateway, in case its value is wrong.
pub const AWAY_MOST: Duration = Duration::from_secs(3_600);

/// Least reconnect delay of a locked machine; the most is twice that. So it reconnects within a minute after the lock is lifted.
pub const LOCKED_AWAY: Duration = Duration::from_secs(30);

/// Reconnect delay after another tunnel has replaced this one: two copies of a machine must not replace each other continuously.
pub const REPLACED_AWAY: Duration = Duration::from_secs(300);

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// [`Tunnel::deadline`] may have passed.
    Tick,
    /// The TLS connection is established.
    Connected,
    /// The attempt failed; with the gateway's `Retry-After`, if it sent one.
    NotConnected(Option<Duration>),
    /// The connection broke.
    Lost,
    /// A frame of the gateway.
    Frame(ToMachine),
    /// The certificate was renewed.
    Renewed,
    /// Number of open streams, without the control stream.
    Streams(usize),
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect. The result is [`Input::Connected`] or [`Input::NotConnected`].
    Connect,
    /// Open the control stream and send the hello frame.
    Hello,
    /// Send a frame.
    Send(FromMachine),
    /// Prove the renewed certificate on this connection.
    Reauthenticate,
    /// Close the connection. [`Input::Lost`] does not follow.
    HangUp,
    /// Query the gateway's `GET /v1/self`: whether to renew, or why it ended the tunnel.
    RenewNow,
    /// The gateway ended a stream.
    Ended(String, Reason),
    /// A session that a program of this machine had opened has ended.
    ReachEnded(String, Reason),
    /// Write to the log.
    Tell(News),
}

/// Log events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The tunnel is up.
    Up,
    /// The gateway's clock, from a frame just received.
    Time(UnixTime),
    /// The tunnel is down: the reason, and the time to the next attempt.
    Down(String, Duration),
    /// The gateway is stopping; the time left for open streams.
    Draining(Duration),
    /// The gateway accepted the renewed certificate.
    Reauthenticated,
    /// The gateway refused the renewed certificate, with the reason.
    NotReauthenticated(String),
}

/// One machine's tunnel.
#[derive(Clone, Debug, PartialEq)]
pub struct Tunnel {
    phase: Phase,
    /// Failed attempts since the last welcome.
    failures: u32,
    /// The gateway's reconnect spread for a lost tunnel.
    within: Duration,
    streams: usize,
    number: u64,
    epoch: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// Waiting for the time of the next attempt.
    Down {
        until: Duration,
    },
    Connecting,
    /// The hello was sent.
    Greeting {
        until: Duration,
    },
    Up(Up),
}

#[derive(Clone, Debug, PartialEq)]
struct Up {
    every: Duration,
    heard: Duration,
    beat_at: Duration,
    /// Since when at least one stream has been open.
    busy_since: Duration,
}

impl Tunnel {
    /// Starts disconnected. The first attempt is due within `spread`: many machines may be switched on at the same time.
    #[must_use]
    pub fn new(now: Duration, spread: Duration, draw: u64) -> Self {
        let until = now + share(spread, draw);
        Self { phase: Phase::Down { until }, failures: 0, within: BACKOFF_FIRST, streams: 0, number: 0, epoch: 0 }
    }

    /// Whether the gateway has sent its welcome.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    /// The lock epoch that the gateway last sent.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Down { until } | Phase::Greeting { until } => Some(*until),
            Phase::Connecting => None,
            Phase::Up(up) => Some(up.beat_at.min(up.deadline(self.streams))),
        }
    }

    /// One step.
    #[must_use]
    pub fn step(mut self, input: Input, now: Duration, draw: u64) -> (Self, Vec<Output>) {
        let outputs = match input {
            Input::Streams(count) => self.streams(count, now, draw),
            Input::Tick => self.tick(now, draw),
            Input::Connected => match self.phase {
                Phase::Connecting => {
                    self.phase = Phase::Greeting { until: now + WELCOME_TIME };
                    vec![Output::Hello]
                }
                Phase::Down { .. } | Phase::Greeting { .. } | Phase::Up(_) => vec![],
            },
            Input::NotConnected(after) => match self.phase {
                Phase::Connecting => {
                    self.failures = self.failures.saturating_add(1);
                    let pause = after.unwrap_or_default().min(AWAY_MOST) + self.backoff(draw);
                    self.phase = Phase::Down { until: now + pause };
                    vec![]
                }
                Phase::Down { .. } | Phase::Greeting { .. } | Phase::Up(_) => vec![],
            },
            Input::Lost => self.lost("the connection broke", now, draw),
            Input::Renewed => match self.phase {
                Phase::Up(_) => vec![Output::Reauthenticate],
                // The next connection uses the new certificate.
                Phase::Down { .. } | Phase::Connecting | Phase::Greeting { .. } => vec![],
            },
            Input::Frame(frame) => self.frame(frame, now, draw),
        };
        (self, outputs)
    }

    fn tick(&mut self, now: Duration, draw: u64) -> Vec<Output> {
        match &mut self.phase {
            Phase::Down { until } if now >= *until => {
                self.phase = Phase::Connecting;
                vec![Output::Connect]
            }
            Phase::Greeting { until } if now >= *until => {
                self.give_up("the gateway did not answer the hello", now, draw)
            }
            Phase::Up(up) if now >= up.deadline(self.streams) => {
                let silent = now.saturating_sub(up.heard).as_secs();
                self.give_up(&format!("nothing heard for {silent} s"), now, draw)
            }
            Phase::Up(up) if now >= up.beat_at => {
                self.number += 1;
                up.beat_at = now + jittered(up.every(self.streams), draw);
                vec![Output::Send(FromMachine::Heartbeat { number: self.number })]
            }
            Phase::Down { .. } | Phase::Connecting | Phase::Greeting { .. } | Phase::Up(_) => vec![],
        }
    }

    fn streams(&mut self, count: usize, now: Duration, draw: u64) -> Vec<Output> {
        let was_idle = std::mem::replace(&mut self.streams, count) == 0;
        if let Phase::Up(up) = &mut self.phase
            && was_idle
            && count > 0
        {
            up.busy_since = now;
            up.beat_at = up.beat_at.min(now + jittered(BUSY_EVERY, draw));
        }
        vec![]
    }

    fn frame(&mut self, frame: ToMachine, now: Duration, draw: u64) -> Vec<Output> {
        if let Phase::Up(up) = &mut self.phase {
            up.heard = now;
        }
        match (frame, &mut self.phase) {
            (ToMachine::Welcome(welcome), Phase::Greeting { .. }) => {
                let every = Duration::from_millis(welcome.heartbeat_ms).clamp(Duration::from_secs(1), AWAY_MOST);
                self.failures = 0;
                self.epoch = welcome.epoch;
                // A gateway that has just started has few tunnels, and sends a short spread to the first ones. The longer of the
                // old and the new spread is used, in case all tunnels are lost again before it sends a longer one.
                self.within = self.within.max(spread(welcome.reconnect_within_ms));
                let beat_at = now + jittered(every, draw);
                self.phase = Phase::Up(Up { every, heard: now, beat_at, busy_since: now });
                vec![time(welcome.time), Output::Tell(News::Up)]
            }
            (ToMachine::Closing(closing), _) => self.closed(&closing, now, draw),
            (ToMachine::Heartbeat { epoch, time: at, reconnect_within_ms, .. }, Phase::Up(_)) => {
                self.epoch = epoch;
                self.within = spread(reconnect_within_ms);
                vec![time(at)]
            }
            (ToMachine::Reauthenticated { .. }, Phase::Up(_)) => vec![Output::Tell(News::Reauthenticated)],
            (ToMachine::ReauthenticationRefused { detail, .. }, Phase::Up(_)) => {
                vec![Output::Tell(News::NotReauthenticated(detail))]
            }
            (ToMachine::RenewNow, Phase::Up(_)) => vec![Output::RenewNow],
            (ToMachine::Ended { session, reason }, Phase::Up(_)) => vec![Output::Ended(session, reason)],
            (ToMachine::ReachEnded { session, reason }, Phase::Up(_)) => vec![Output::ReachEnded(session, reason)],
            (ToMachine::Drain { after_ms, reconnect_within_ms }, Phase::Up(_)) => {
                self.within = spread(reconnect_within_ms);
                vec![Output::Tell(News::Draining(Duration::from_millis(after_ms)))]
            }
            // Unexpected in this phase, or of a later version: ignored.
            (_, Phase::Down { .. } | Phase::Connecting | Phase::Greeting { .. } | Phase::Up(_)) => vec![],
        }
    }

    /// The gateway has sent a closing frame.
    fn closed(&mut self, closing: &Closing, now: Duration, draw: u64) -> Vec<Output> {
        let was_up = self.is_up();
        let asked = Duration::from_millis(closing.retry_after_ms).min(AWAY_MOST);
        let pause = match closing.reason {
            Reason::Replaced => REPLACED_AWAY.max(asked) + share(REPLACED_AWAY, draw),
            // A person must act first; after that the machine should be back soon.
            Reason::Locked | Reason::Policy => {
                self.failures = self.failures.saturating_add(1);
                asked.max(LOCKED_AWAY) + share(LOCKED_AWAY, draw)
            }
            Reason::Drained => asked + share(self.within, draw),
            Reason::Peer
            | Reason::Lost
            | Reason::Broken
            | Reason::Expired
            | Reason::Killed
            | Reason::Limit
            | Reason::Unknown => {
                if !was_up {
                    self.failures = self.failures.saturating_add(1);
                }
                asked + self.backoff(draw).max(share(self.within, draw))
            }
        };
        self.phase = Phase::Down { until: now + pause };
        let why = format!("the gateway closed it ({}): {}", closing.reason.as_str(), closing.detail);
        let mut outputs = vec![Output::HangUp, Output::Tell(News::Down(why, pause))];
        if matches!(closing.reason, Reason::Locked | Reason::Policy) {
            // The reply says who set the lock and why, and whether this machine was removed.
            outputs.push(Output::RenewNow);
        }
        outputs
    }

    fn give_up(&mut self, why: &str, now: Duration, draw: u64) -> Vec<Output> {
        let mut outputs = vec![Output::HangUp];
        outputs.extend(self.lost(why, now, draw));
        outputs
    }

    fn lost(&mut self, why: &str, now: Duration, draw: u64) -> Vec<Output> {
        let pause = match self.phase {
            Phase::Down { .. } | Phase::Connecting => return vec![],
            // The tunnel was up, so probably all machines have lost theirs: use the gateway's spread.
            Phase::Up(_) => share(self.within, draw),
            Phase::Greeting { .. } => {
                self.failures = self.failures.saturating_add(1);
                self.backoff(draw)
            }
        };
        self.phase = Phase::Down { until: now + pause };
        vec![Output::Tell(News::Down(why.to_owned(), pause))]
    }

    /// Full jitter: uniform from zero to an upper bound that doubles with each failure.
    fn backoff(&self, draw: u64) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        let ceiling = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MOST);
        // At least the gateway's spread: the failures may be caused by too many machines at once. Doubled, because the mean of a
        // draw is half of its bound.
        share(ceiling.max((2 * self.within).min(AWAY_MOST)), draw)
    }
}

impl Up {
    fn every(&self, streams: usize) -> Duration {
        if streams > 0 { self.every.min(BUSY_EVERY) } else { self.every }
    }

    /// The gateway is considered dead this long after its last frame: two and a half heartbeats, plus the jitter of a heartbeat.
    fn deadline(&self, streams: usize) -> Duration {
        let since = if streams > 0 { self.heard.max(self.busy_since) } else { self.heard };
        since + self.every(streams) * 27 / 10
    }
}

const fn time(secs: u64) -> Output {
    Output::Tell(News::Time(UnixTime::new(secs)))
}

/// A duration from the gateway, at most [`AWAY_MOST`].
fn spread(millis: u64) -> Duration {
    Duration::from_millis(millis).clamp(BACKOFF_FIRST, AWAY_MOST)
}

/// `draw / 2^64` of `span`.
#[expect(clippy::cast_precision_loss, reason = "a random share needs no 64 bits")]
fn share(span: Duration, draw: u64) -> Duration {
    span.mul_f64(draw as f64 / u64::MAX as f64)
}

/// A uniform draw from 80 % to 120 % of `span`.
fn jittered(span: Duration, draw: u64) -> Duration {
    span * 4 / 5 + share(span * 2 / 5, draw)
}

#[cfg(test)]
mod tests {
    use wire::tunnel::Welcome;

    use super::*;

    const LOW: u64 = 0;
    const HIGH: u64 = u64::MAX;

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn welcome(within: u64) -> Input {
        let welcome = Welcome { heartbeat_ms: 60_000, epoch: 4, time: 9, reconnect_within_ms: within * 1000 };
        Input::Frame(ToMachine::Welcome(welcome))
    }

    fn up() -> Tunnel {
        let mut tunnel = Tunnel::new(at(0), at(0), LOW);
        for input in [Input::Tick, Input::Connected, welcome(20)] {
            tunnel = tunnel.step(input, at(0), LOW).0;
        }
        assert!(tunnel.is_up());
        assert_eq!(tunnel.epoch(), 4);
        tunnel
    }

    fn closing(reason: Reason, retry_after: u64) -> Input {
        let closing = Closing { reason, detail: "d".into(), retry_after_ms: retry_after * 1000 };
        Input::Frame(ToMachine::Closing(closing))
    }

    #[test]
    fn it_connects_greets_and_is_up() {
        let tunnel = Tunnel::new(at(1), at(10), HIGH);
        assert_eq!(tunnel.deadline(), Some(at(11)));
        let (tunnel, outputs) = tunnel.step(Input::Tick, at(10), LOW);
        assert_eq!(outputs, []);
        let (tunnel, outputs) = tunnel.step(Input::Tick, at(11), LOW);
        assert_eq!(outputs, [Output::Connect]);
        assert_eq!(tunnel.deadline(), None);
        let (tunnel, outputs) = tunnel.step(Input::Connected, at(12), LOW);
        assert_eq!(outputs, [Output::Hello]);
        let (tunnel, outputs) = tunnel.step(welcome(20), at(13), LOW);
        assert_eq!(outputs, [time(9), Output::Tell(News::Up)]);
        assert_eq!(tunnel.deadline(), Some(at(61)), "a heartbeat, a fifth early");
    }

    #[test]
    fn heartbeats_go_out_and_silence_ends_it() {
        let (tunnel, outputs) = up().step(Input::Tick, at(48), HIGH);
        assert_eq!(outputs, [Output::Send(FromMachine::Heartbeat { number: 1 })]);
        assert_eq!(tunnel.deadline(), Some(at(120)), "a fifth late");
        let answer = ToMachine::Heartbeat { number: 1, epoch: 5, time: 9, reconnect_within_ms: 30_000 };
        let (heard, outputs) = tunnel.clone().step(Input::Frame(answer), at(100), HIGH);
        assert_eq!(outputs, [time(9)]);
        assert_eq!(heard.epoch(), 5);
        let (lost, outputs) = tunnel.step(Input::Tick, at(162), LOW);
        assert_eq!(
            outputs,
            [Output::HangUp, Output::Tell(News::Down("nothing heard for 162 s".into(), Duration::ZERO))]
        );
        assert!(!lost.is_up());
    }

    #[test]
    fn who_is_busy_is_heard_more_often() {
        let (busy, _) = up().step(Input::Streams(2), at(30), LOW);
        assert_eq!(busy.deadline(), Some(at(42)));
        let (idle, _) = busy.step(Input::Streams(0), at(31), LOW);
        let (idle, outputs) = idle.step(Input::Tick, at(42), LOW);
        assert_eq!(outputs.len(), 1);
        assert_eq!(idle.deadline(), Some(at(90)));
    }

    #[track_caller]
    fn away(tunnel: Tunnel, input: Input, draw: u64, want: u64) {
        let (tunnel, _) = tunnel.step(input.clone(), at(100), draw);
        assert_eq!(tunnel.deadline(), Some(at(100 + want)), "{input:?}");
    }

    #[test]
    fn how_long_it_stays_away() {
        away(up(), Input::Lost, LOW, 0);
        away(up(), Input::Lost, HIGH, 20);
        away(up(), closing(Reason::Drained, 3), HIGH, 23);
        away(up(), closing(Reason::Drained, 3), LOW, 3);
        away(up(), closing(Reason::Replaced, 0), LOW, 300);
        away(up(), closing(Reason::Locked, 60), LOW, 60);
        away(up(), closing(Reason::Limit, 9_999_999), LOW, 3_600);
        let connecting = || Tunnel::new(at(0), at(0), LOW).step(Input::Tick, at(0), LOW).0;
        away(connecting(), Input::NotConnected(None), HIGH, 2);
        away(connecting(), Input::NotConnected(Some(at(7))), LOW, 7);
        let mut tunnel = connecting();
        for _ in 0..40 {
            tunnel = tunnel.step(Input::NotConnected(None), at(0), LOW).0.step(Input::Tick, at(0), LOW).0;
        }
        away(tunnel, Input::NotConnected(None), HIGH, 300);
    }

    #[test]
    fn nobody_is_waited_for_without_end() {
        let (tunnel, _) = Tunnel::new(at(0), at(0), LOW).step(Input::Tick, at(0), LOW);
        let (tunnel, _) = tunnel.step(Input::Connected, at(0), LOW);
        let (tunnel, outputs) = tunnel.step(Input::Tick, at(15), LOW);
        assert_eq!(outputs.first(), Some(&Output::HangUp));
        assert!(tunnel.deadline().is_some());
    }

    #[test]
    fn a_renewed_certificate_is_shown_where_it_is_needed() {
        assert_eq!(up().step(Input::Renewed, at(1), LOW).1, [Output::Reauthenticate]);
        assert_eq!(Tunnel::new(at(0), at(0), LOW).step(Input::Renewed, at(0), LOW).1, []);
    }

    #[test]
    fn what_the_gateway_says() {
        for (frame, want) in [
            (ToMachine::RenewNow, vec![Output::RenewNow]),
            (
                ToMachine::Ended { session: "s".into(), reason: Reason::Killed },
                vec![Output::Ended("s".into(), Reason::Killed)],
            ),
            (
                ToMachine::ReachEnded { session: "s".into(), reason: Reason::Peer },
                vec![Output::ReachEnded("s".into(), Reason::Peer)],
            ),
            (
                ToMachine::Drain { after_ms: 30_000, reconnect_within_ms: 5_000 },
                vec![Output::Tell(News::Draining(at(30)))],
            ),
            (ToMachine::Reauthenticated { not_after: 1 }, vec![Output::Tell(News::Reauthenticated)]),
            (ToMachine::Unknown, vec![]),
        ] {
            assert_eq!(up().step(Input::Frame(frame), at(1), LOW).1, want);
        }
        let early = Tunnel::new(at(0), at(0), LOW);
        assert_eq!(early.step(Input::Frame(ToMachine::RenewNow), at(0), LOW).1, [], "out of its place");
    }
}
