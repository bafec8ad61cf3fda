//! The control conversation of one tunnel, as the gateway holds it: who may hold one, what it exposes, whether it is still
//! there. Time is an argument, counted from any fixed moment: the wall clock may jump, a heartbeat may not.

use std::time::Duration;

use wire::tunnel::{
    Closing, FromMachine, Reason, Reauthenticate, SERVICES_MAX, ServiceOffer, ToMachine, Welcome, is_service_name,
};

use crate::core::frame_rate::{FRAMES_MAX, FRAMES_SPAN, FrameRate};

/// From the open connection to the first frame.
pub const HELLO_TIME: Duration = Duration::from_secs(10);

/// How often an idle machine says that it is there. NAT keeps a TCP mapping for hours (RFC 5382 5), so this is for us to
/// notice within minutes; 100,000 machines make 1,700 small records a second.
pub const HEARTBEAT: Duration = Duration::from_secs(60);

/// How often it does while streams are open: somebody sits at the other end and wants to know.
pub const HEARTBEAT_BUSY: Duration = Duration::from_secs(15);

/// What the gateway tells, as it stands at this moment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct GatewayState {
    /// The lock epoch.
    pub epoch: u64,
    /// Seconds since the Unix epoch.
    pub time: u64,
    /// Within which time a machine that lost its tunnel should come back.
    pub reconnect_within: Duration,
}

/// What happens to a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The machine said something.
    Frame(FromMachine),
    /// The deadline may have passed.
    Tick,
    /// So many streams are open in it, control aside.
    Streams(usize),
    /// The renewed certificate is good until then, seconds since the Unix epoch.
    Verified(u64),
    /// It is not: a problem's code, and words.
    Unverified(String, String),
    /// Somebody wants the machine to renew.
    RenewNow,
    /// A stream was ended by us.
    Ended(String, Reason),
    /// We are about to stop, and cut what is left after this time.
    Drain(Duration),
    /// It must end.
    End(Closing),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Say this.
    Send(Box<ToMachine>),
    /// It is up, and exposes this.
    Up(Vec<ServiceOffer>),
    /// It exposes this from now on.
    Services(Vec<ServiceOffer>),
    /// Check this, and come back with [`Input::Verified`] or [`Input::Unverified`].
    Verify(Box<Reauthenticate>),
    /// The machine's end of this session is gone.
    Abandoned(String),
    /// Say this and close.
    Close(Closing),
}

/// One tunnel.
#[derive(Debug)]
pub enum TunnelConversation {
    /// Nothing was said yet.
    AwaitHello(AwaitHello),
    /// It is up.
    Live(LiveTunnel),
    /// It is over.
    Closed,
}

/// See [`TunnelConversation::AwaitHello`].
#[derive(Debug)]
pub struct AwaitHello {
    until: Duration,
    /// Whoever comes with a certificate that holds no tunnel is told so once they speak.
    turned_away: Option<Closing>,
}

/// See [`TunnelConversation::Live`].
#[derive(Debug)]
pub struct LiveTunnel {
    heard: Duration,
    streams: usize,
    /// When the first of the open streams was opened.
    busy_since: Duration,
    verifying: bool,
    rate: FrameRate,
}

fn closing(reason: Reason, detail: impl Into<String>) -> Output {
    Output::Close(Closing { reason, detail: detail.into(), retry_after_ms: 0 })
}

/// Words for services that cannot be.
fn bad_services(services: &[ServiceOffer]) -> Option<String> {
    if services.len() > SERVICES_MAX {
        return Some(format!("{} services, where {SERVICES_MAX} are allowed", services.len()));
    }
    let mut seen = std::collections::HashSet::new();
    services.iter().find_map(|offer| {
        let name = &offer.name;
        if !is_service_name(name) {
            Some(format!("`{}` cannot name a service", name.escape_debug()))
        } else if !seen.insert(name) {
            Some(format!("the service `{name}` is named twice"))
        } else {
            None
        }
    })
}

impl TunnelConversation {
    /// A connection that was just made. `turned_away` says why its holder gets no tunnel, if so.
    #[must_use]
    pub const fn new(now: Duration, turned_away: Option<Closing>) -> Self {
        Self::AwaitHello(AwaitHello { until: now.saturating_add(HELLO_TIME), turned_away })
    }

    /// When [`Input::Tick`] is due next.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match self {
            Self::AwaitHello(wait) => Some(wait.until),
            Self::Live(live) => Some(live.deadline()),
            Self::Closed => None,
        }
    }

    /// One step. After [`Output::Close`] nothing more comes.
    #[must_use]
    pub fn step(self, input: Input, about: &GatewayState, now: Duration) -> (Self, Vec<Output>) {
        if let Input::End(closing) = input {
            return match self {
                Self::Closed => (Self::Closed, vec![]),
                Self::AwaitHello(_) | Self::Live(_) => (Self::Closed, vec![Output::Close(closing)]),
            };
        }
        match self {
            Self::AwaitHello(wait) => wait.step(input, about, now),
            Self::Live(live) => live.step(input, about, now),
            Self::Closed => (Self::Closed, vec![]),
        }
    }
}

impl AwaitHello {
    fn step(self, input: Input, about: &GatewayState, now: Duration) -> (TunnelConversation, Vec<Output>) {
        let close = |output| (TunnelConversation::Closed, vec![output]);
        match input {
            Input::Frame(FromMachine::Hello(hello)) => {
                if let Some(closing) = self.turned_away {
                    return close(Output::Close(closing));
                }
                if let Some(bad) = bad_services(&hello.services) {
                    return close(closing(Reason::Limit, bad));
                }
                let welcome = Welcome {
                    heartbeat_ms: millis(HEARTBEAT),
                    epoch: about.epoch,
                    time: about.time,
                    reconnect_within_ms: millis(about.reconnect_within),
                };
                let rate = FrameRate::new(now);
                let live = LiveTunnel { heard: now, streams: 0, busy_since: now, verifying: false, rate };
                let outputs = vec![Output::Up(hello.services), Output::Send(Box::new(ToMachine::Welcome(welcome)))];
                (TunnelConversation::Live(live), outputs)
            }
            Input::Frame(_) => close(closing(Reason::Peer, "the first frame must be a hello")),
            Input::Tick if now >= self.until => {
                close(closing(Reason::Peer, format!("no hello within {} s", HELLO_TIME.as_secs())))
            }
            Input::Drain(_) => close(closing(Reason::Drained, "the gateway stops")),
            Input::Tick
            | Input::Streams(_)
            | Input::Verified(_)
            | Input::Unverified(..)
            | Input::RenewNow
            | Input::Ended(..)
            | Input::End(_) => (TunnelConversation::AwaitHello(self), vec![]),
        }
    }
}

impl LiveTunnel {
    fn every(&self) -> Duration {
        if self.streams > 0 { HEARTBEAT_BUSY } else { HEARTBEAT }
    }

    /// Two and a half heartbeats after it was last heard; a machine that just became busy has that long from then.
    fn deadline(&self) -> Duration {
        let since = if self.streams > 0 { self.heard.max(self.busy_since) } else { self.heard };
        since.saturating_add(self.every() * 5 / 2)
    }

    fn step(mut self, input: Input, about: &GatewayState, now: Duration) -> (TunnelConversation, Vec<Output>) {
        let send = |frame| vec![Output::Send(Box::new(frame))];
        let outputs = match input {
            Input::Frame(frame) => match self.frame(frame, about, now) {
                Ok(outputs) => outputs,
                Err(close) => return (TunnelConversation::Closed, vec![close]),
            },
            Input::Tick if now >= self.deadline() => {
                let silent = now.saturating_sub(self.heard).as_secs();
                let close = closing(Reason::Peer, format!("nothing heard for {silent} s"));
                return (TunnelConversation::Closed, vec![close]);
            }
            Input::Tick | Input::End(_) => vec![],
            Input::Streams(count) => {
                if self.streams == 0 && count > 0 {
                    self.busy_since = now;
                }
                self.streams = count;
                vec![]
            }
            Input::Verified(not_after) => {
                self.verifying = false;
                send(ToMachine::Reauthenticated { not_after })
            }
            Input::Unverified(code, detail) => {
                self.verifying = false;
                send(ToMachine::ReauthenticationRefused { code, detail })
            }
            Input::RenewNow => send(ToMachine::RenewNow),
            Input::Ended(session, reason) => send(ToMachine::Ended { session, reason }),
            Input::Drain(after) => {
                send(ToMachine::Drain { after_ms: millis(after), reconnect_within_ms: millis(about.reconnect_within) })
            }
        };
        (TunnelConversation::Live(self), outputs)
    }

    fn frame(&mut self, frame: FromMachine, about: &GatewayState, now: Duration) -> Result<Vec<Output>, Output> {
        self.heard = now;
        if !self.rate.allows(now) {
            let detail = format!("more than {FRAMES_MAX} frames in {} s", FRAMES_SPAN.as_secs());
            return Err(closing(Reason::Limit, detail));
        }
        match frame {
            FromMachine::Hello(_) => Err(closing(Reason::Peer, "a second hello")),
            FromMachine::Heartbeat { number } => Ok(vec![Output::Send(Box::new(ToMachine::Heartbeat {
                number,
                epoch: about.epoch,
                time: about.time,
                reconnect_within_ms: millis(about.reconnect_within),
            }))]),
            FromMachine::Reauthenticate(_) if self.verifying => {
                Err(closing(Reason::Limit, "a renewed certificate before the one before was answered"))
            }
            FromMachine::Reauthenticate(chain) => {
                self.verifying = true;
                Ok(vec![Output::Verify(Box::new(chain))])
            }
            FromMachine::Services { services } => match bad_services(&services) {
                Some(bad) => Err(closing(Reason::Limit, bad)),
                None => Ok(vec![Output::Services(services)]),
            },
            FromMachine::Abandoned { session } => Ok(vec![Output::Abandoned(session)]),
            FromMachine::Unknown => Ok(vec![]),
        }
    }
}

fn millis(span: Duration) -> u64 {
    span.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use wire::tunnel::{Hello, Mode};

    use super::*;

    const ABOUT: GatewayState = GatewayState { epoch: 3, time: 1_000, reconnect_within: Duration::from_secs(4) };

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn offer(name: &str) -> ServiceOffer {
        ServiceOffer { name: name.to_owned(), mode: Mode::Raw }
    }

    fn hello(services: Vec<ServiceOffer>) -> Input {
        Input::Frame(FromMachine::Hello(Hello { client: "1".into(), services }))
    }

    fn live() -> TunnelConversation {
        TunnelConversation::new(at(0), None).step(hello(vec![]), &ABOUT, at(0)).0
    }

    /// How a tunnel ends, if this makes it end.
    #[track_caller]
    fn ends(tunnel: TunnelConversation, input: Input, now: Duration) -> Option<(Reason, String)> {
        let (tunnel, outputs) = tunnel.step(input, &ABOUT, now);
        match outputs.as_slice() {
            [Output::Close(closing)] => {
                assert!(matches!(tunnel, TunnelConversation::Closed));
                assert_eq!(tunnel.deadline(), None);
                Some((closing.reason, closing.detail.clone()))
            }
            _ => None,
        }
    }

    #[test]
    fn a_hello_brings_it_up() {
        let (tunnel, outputs) = TunnelConversation::new(at(5), None).step(hello(vec![offer("ssh")]), &ABOUT, at(6));
        let welcome = Welcome { heartbeat_ms: 60_000, epoch: 3, time: 1_000, reconnect_within_ms: 4_000 };
        assert_eq!(outputs, [Output::Up(vec![offer("ssh")]), Output::Send(Box::new(ToMachine::Welcome(welcome)))]);
        assert_eq!(tunnel.deadline(), Some(at(156)));
    }

    #[test]
    fn who_does_not_come_up() {
        let away = Closing { reason: Reason::Policy, detail: "people".into(), retry_after_ms: 9 };
        assert_eq!(
            ends(TunnelConversation::new(at(0), Some(away)), hello(vec![]), at(1)),
            Some((Reason::Policy, "people".into()))
        );
        let fresh = || TunnelConversation::new(at(0), None);
        assert_eq!(ends(fresh(), Input::Tick, at(9)), None);
        assert_eq!(ends(fresh(), Input::Tick, at(10)), Some((Reason::Peer, "no hello within 10 s".into())));
        let beat = Input::Frame(FromMachine::Heartbeat { number: 1 });
        assert_eq!(ends(fresh(), beat, at(1)), Some((Reason::Peer, "the first frame must be a hello".into())));
        for (services, detail) in [
            (vec![offer("a"), offer("a")], "the service `a` is named twice"),
            (vec![offer("a b")], "`a b` cannot name a service"),
            (vec![offer("a"); SERVICES_MAX + 1], "65 services, where 64 are allowed"),
        ] {
            assert_eq!(ends(fresh(), hello(services.clone()), at(1)), Some((Reason::Limit, detail.into())));
            let changed = Input::Frame(FromMachine::Services { services });
            assert_eq!(ends(live(), changed, at(1)), Some((Reason::Limit, detail.into())));
        }
    }

    #[test]
    fn silence_ends_it() {
        assert_eq!(ends(live(), Input::Tick, at(149)), None);
        assert_eq!(ends(live(), Input::Tick, at(150)), Some((Reason::Peer, "nothing heard for 150 s".into())));
        let (busy, _) = live().step(Input::Streams(1), &ABOUT, at(50));
        // Not at once, although 50 s without a word would be too long for a busy one.
        assert_eq!(busy.deadline(), Some(Duration::from_millis(87_500)));
        let (heard, outputs) = busy.step(Input::Frame(FromMachine::Heartbeat { number: 9 }), &ABOUT, at(60));
        let answer = ToMachine::Heartbeat { number: 9, epoch: 3, time: 1_000, reconnect_within_ms: 4_000 };
        assert_eq!(outputs, [Output::Send(Box::new(answer))]);
        assert_eq!(heard.deadline(), Some(Duration::from_millis(97_500)));
        let (idle, _) = heard.step(Input::Streams(0), &ABOUT, at(61));
        assert_eq!(idle.deadline(), Some(at(210)));
    }

    #[test]
    fn floods_end_it() {
        let mut tunnel = live();
        for _ in 0..FRAMES_MAX {
            let (next, outputs) = tunnel.step(Input::Frame(FromMachine::Unknown), &ABOUT, at(1));
            assert_eq!(outputs, []);
            tunnel = next;
        }
        let detail = format!("more than {FRAMES_MAX} frames in 10 s");
        assert_eq!(ends(tunnel, Input::Frame(FromMachine::Unknown), at(2)), Some((Reason::Limit, detail)));
        assert_eq!(ends(live(), hello(vec![]), at(2)), Some((Reason::Peer, "a second hello".into())));
    }

    #[test]
    fn one_renewed_certificate_at_a_time() {
        let renewed = || Reauthenticate { chain: vec!["c".into()], proof: "p".into() };
        let frame = || Input::Frame(FromMachine::Reauthenticate(renewed()));
        let (tunnel, outputs) = live().step(frame(), &ABOUT, at(1));
        assert_eq!(outputs, [Output::Verify(Box::new(renewed()))]);
        let (tunnel, outputs) = tunnel.step(Input::Unverified("bad-proof".into(), "no".into()), &ABOUT, at(2));
        let refused = ToMachine::ReauthenticationRefused { code: "bad-proof".into(), detail: "no".into() };
        assert_eq!(outputs, [Output::Send(Box::new(refused))]);
        let (tunnel, _) = tunnel.step(frame(), &ABOUT, at(3));
        assert!(ends(tunnel, frame(), at(3)).is_some_and(|(reason, _)| reason == Reason::Limit));
    }

    #[test]
    fn an_end_that_is_gone_is_passed_on() {
        let gone = Input::Frame(FromMachine::Abandoned { session: "s".into() });
        assert_eq!(live().step(gone, &ABOUT, at(1)).1, [Output::Abandoned("s".into())]);
    }

    #[test]
    fn what_the_gateway_has_to_say() {
        for (input, frame) in [
            (Input::RenewNow, ToMachine::RenewNow),
            (Input::Verified(7), ToMachine::Reauthenticated { not_after: 7 }),
            (Input::Drain(at(30)), ToMachine::Drain { after_ms: 30_000, reconnect_within_ms: 4_000 }),
            (
                Input::Ended("s".into(), Reason::Killed),
                ToMachine::Ended { session: "s".into(), reason: Reason::Killed },
            ),
        ] {
            let (_, outputs) = live().step(input, &ABOUT, at(1));
            assert_eq!(outputs, [Output::Send(Box::new(frame))]);
        }
        let closing = Closing { reason: Reason::Locked, detail: "stolen".into(), retry_after_ms: 0 };
        assert_eq!(ends(live(), Input::End(closing.clone()), at(1)), Some((Reason::Locked, "stolen".into())));
        let (closed, outputs) = TunnelConversation::Closed.step(Input::End(closing), &ABOUT, at(1));
        assert!(matches!(closed, TunnelConversation::Closed) && outputs.is_empty());
    }
}
