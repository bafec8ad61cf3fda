//! Simulation of one machine's tunnel: the product's two state machines, a clock that the test advances, and a link that delays, loses
//! and breaks. Frames cross the link encoded.

use std::collections::VecDeque;
use std::time::Duration;

use enroll_client::core::tunnel as client;
use gateway::edge::tunnel::conversation::{self as server, GatewayState};
use wire::tunnel::{Closing, Frames, FromMachine, Hello, Reason, Reauthenticate, ToMachine, encode};

/// A 64-bit generator (SplitMix64), whose seed determines a simulation.
#[derive(Clone)]
pub struct Draw(u64);

impl Draw {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub const fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }

    /// A duration from zero to `most`.
    pub fn within(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.next() % (u64::try_from(most.as_millis()).unwrap() + 1))
    }
}

/// Runs a simulation with many seeds. A failing seed is printed, and can be set in `TUNNEL_SEED`.
pub fn seeds(count: u64, story: impl Fn(u64)) {
    struct Told(u64);
    impl Drop for Told {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("again with TUNNEL_SEED={}", self.0);
            }
        }
    }
    let given = std::env::var("TUNNEL_SEED").ok().map(|text| text.parse().expect("TUNNEL_SEED is a number"));
    let range = given.map_or(0..count, |seed: u64| seed..seed + 1);
    for seed in range {
        let _told = Told(seed);
        story(seed);
    }
}

/// What crosses a link.
enum Item {
    Bytes(Vec<u8>),
    /// So many streams are open.
    Streams(usize),
    /// This side has closed.
    Fin,
}

/// What is on its way in one direction, with when it arrives.
#[derive(Default)]
struct Pipe(VecDeque<(Duration, Item)>);

impl Pipe {
    fn due(&self) -> Option<Duration> {
        self.0.front().map(|(at, _)| *at)
    }

    fn take(&mut self, now: Duration) -> Option<Item> {
        self.0.pop_front_if(|(at, _)| *at <= now).map(|(_, item)| item)
    }
}

/// One connection, with the gateway's end of it.
struct Link {
    number: usize,
    holder: usize,
    tunnel: server::TunnelConversation,
    is_up: bool,
    to_gateway: Pipe,
    to_machine: Pipe,
    heard: Frames,
    /// It loses everything, and neither end has noticed.
    is_dead: bool,
    gateway_holds: bool,
    /// When the verification of the renewed certificate ends.
    verifying: Option<Duration>,
}

/// A holder of the machine's certificate: the machine or a copy.
struct Holder {
    tunnel: client::Tunnel,
    link: Option<usize>,
    connecting: Option<Duration>,
    heard: Frames,
    streams: usize,
}

/// Events, for the assertions.
#[derive(Default)]
pub struct Seen {
    pub to_gateway: usize,
    pub to_machine: usize,
    /// When connections reached the gateway.
    pub arrivals: Vec<Duration>,
    /// When tunnels came up at the gateway.
    pub ups: Vec<Duration>,
    /// When a tunnel replaced another.
    pub replaced: Vec<Duration>,
    /// Closing frames of the gateway.
    pub closed: Vec<(Duration, Reason, String)>,
    /// When a holder lost its tunnel.
    pub downs: Vec<(Duration, String)>,
    pub renew_now: usize,
    pub reauthenticated: usize,
    pub not_reauthenticated: usize,
    pub ended: Vec<String>,
    pub draining: usize,
}

/// One machine, the gateway's end of its tunnel, and the network between them.
pub struct Pair {
    pub now: Duration,
    pub draw: Draw,
    pub seen: Seen,
    /// From one end of a link to the other.
    pub latency: Duration,
    /// Whether connections can be made.
    pub reachable: bool,
    /// Longest time until a connection attempt fails.
    pub patience: Duration,
    /// The refusal of all tunnels, if set.
    pub turned_away: Option<Closing>,
    /// Whether the next renewed certificate is accepted.
    pub verifies: bool,
    /// Other contents of the gateway's frames.
    pub about: GatewayState,
    links: Vec<Link>,
    holders: Vec<Holder>,
    made: usize,
}

impl Pair {
    pub fn new(seed: u64) -> Self {
        let mut pair = Self {
            now: Duration::ZERO,
            draw: Draw::new(seed),
            seen: Seen::default(),
            latency: Duration::from_millis(40),
            reachable: true,
            patience: Duration::from_secs(10),
            turned_away: None,
            verifies: true,
            about: GatewayState { epoch: 1, time: 1_700_000_000, reconnect_within: Duration::from_secs(5) },
            links: Vec::new(),
            holders: Vec::new(),
            made: 0,
        };
        pair.add_holder();
        pair
    }

    /// One more holder of the same certificate, as a copied disk makes one.
    pub fn add_holder(&mut self) -> usize {
        let tunnel = client::Tunnel::new(self.now, Duration::from_secs(1), self.draw.next());
        self.holders.push(Holder { tunnel, link: None, connecting: None, heard: Frames::new(), streams: 0 });
        self.holders.len() - 1
    }

    /// Whether the machine and the gateway both hold the same tunnel, and it works.
    pub fn is_up(&self) -> bool {
        self.holders.iter().enumerate().any(|(at, _)| self.holder_is_up(at))
    }

    pub fn holder_is_up(&self, at: usize) -> bool {
        let holder = &self.holders[at];
        holder.tunnel.is_up()
            && self.links.iter().any(|link| Some(link.number) == holder.link && link.is_up && !link.is_dead)
    }

    /// Whether the machine believes that its tunnel is up.
    pub fn machine_believes(&self) -> bool {
        self.holders[0].tunnel.is_up()
    }

    /// Tunnels that are up as the gateway sees it.
    pub fn held(&self) -> usize {
        self.links.iter().filter(|link| link.gateway_holds && link.is_up).count()
    }

    pub fn epoch(&self) -> u64 {
        self.holders[0].tunnel.epoch()
    }

    fn next_event(&self) -> Option<Duration> {
        let links = self.links.iter().flat_map(|link| {
            let deadline = if link.gateway_holds { link.tunnel.deadline() } else { None };
            [deadline, link.to_gateway.due(), link.to_machine.due(), link.verifying]
        });
        let holders = self.holders.iter().flat_map(|holder| [holder.tunnel.deadline(), holder.connecting]);
        links.chain(holders).flatten().min().map(|at| at.max(self.now))
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.next_event().filter(|at| *at <= end) {
            self.advance(at);
        }
        self.now = end;
    }

    /// Lets time pass until `test` holds; returns the time it took.
    #[track_caller]
    pub fn run_until(&mut self, what: &str, most: Duration, test: impl Fn(&Self) -> bool) -> Duration {
        let begin = self.now;
        while !test(self) {
            let at = self.next_event().filter(|at| *at <= begin + most);
            let at = at.unwrap_or_else(|| panic!("{what}: not within {most:?}; {:?}", self.seen.downs));
            self.advance(at);
        }
        self.now - begin
    }

    #[track_caller]
    pub fn come_up(&mut self) {
        self.run_until("up", Duration::from_secs(10), Self::is_up);
    }

    /// Everything that is due at one moment.
    fn advance(&mut self, at: Duration) {
        self.now = at;
        for holder in 0..self.holders.len() {
            self.advance_holder(holder);
        }
        for link in self.links.iter().map(|link| link.number).collect::<Vec<_>>() {
            self.advance_link(link);
        }
        let alive = |link: &Link, holders: &[Holder]| {
            link.gateway_holds || !link.to_machine.0.is_empty() || holders[link.holder].link == Some(link.number)
        };
        let Self { links, holders, .. } = self;
        links.retain(|link| alive(link, holders));
        assert!(self.held() <= 1, "two tunnels of one machine are up at the gateway");
    }

    fn advance_holder(&mut self, at: usize) {
        if self.holders[at].connecting.is_some_and(|due| due <= self.now) {
            self.holders[at].connecting = None;
            if self.reachable { self.connected(at) } else { self.feed(at, client::Input::NotConnected(None)) }
        }
        if self.holders[at].tunnel.deadline().is_some_and(|due| due <= self.now) {
            self.feed(at, client::Input::Tick);
        }
    }

    fn connected(&mut self, holder: usize) {
        self.made += 1;
        self.seen.arrivals.push(self.now);
        self.links.push(Link {
            number: self.made,
            holder,
            tunnel: server::TunnelConversation::new(self.now, self.turned_away.clone()),
            is_up: false,
            to_gateway: Pipe::default(),
            to_machine: Pipe::default(),
            heard: Frames::new(),
            is_dead: false,
            gateway_holds: true,
            verifying: None,
        });
        self.holders[holder].link = Some(self.made);
        self.holders[holder].heard = Frames::new();
        self.feed(holder, client::Input::Connected);
    }

    fn link(&mut self, number: usize) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.number == number)
    }

    fn advance_link(&mut self, number: usize) {
        let now = self.now;
        while let Some(item) = self.link(number).and_then(|link| link.to_gateway.take(now)) {
            self.reaches_gateway(number, item);
        }
        let Some(holder) = self.link(number).map(|link| link.holder) else { return };
        while let Some(item) = self.link(number).and_then(|link| link.to_machine.take(now)) {
            if self.holders[holder].link == Some(number) {
                self.reaches_machine(holder, item);
            }
        }
        let Some(link) = self.link(number) else { return };
        if link.verifying.take_if(|due| *due <= now).is_some() {
            let verified = match self.verifies {
                true => server::Input::Verified(self.about.time + 3_600),
                false => server::Input::Unverified("bad-proof".into(), "it is not good".into()),
            };
            self.tell(number, verified);
        }
        let due = |link: &&mut Link| link.gateway_holds && link.tunnel.deadline().is_some_and(|at| at <= now);
        if self.link(number).as_ref().is_some_and(due) {
            self.tell(number, server::Input::Tick);
        }
    }

    fn reaches_gateway(&mut self, number: usize, item: Item) {
        let Some(link) = self.link(number).filter(|link| link.gateway_holds) else { return };
        match item {
            Item::Bytes(bytes) => {
                link.heard.feed(&bytes);
                while let Some(frame) =
                    self.link(number).and_then(|link| link.heard.next_frame::<FromMachine>().unwrap())
                {
                    self.seen.to_gateway += 1;
                    self.tell(number, server::Input::Frame(frame));
                }
            }
            Item::Streams(_) => {}
            Item::Fin => {
                link.gateway_holds = false;
                link.is_up = false;
            }
        }
    }

    fn reaches_machine(&mut self, holder: usize, item: Item) {
        match item {
            Item::Bytes(bytes) => {
                self.holders[holder].heard.feed(&bytes);
                while let Some(frame) = self.holders[holder].heard.next_frame::<ToMachine>().unwrap() {
                    self.seen.to_machine += 1;
                    self.feed(holder, client::Input::Frame(frame));
                }
            }
            Item::Streams(count) => {
                self.holders[holder].streams = count;
                self.feed(holder, client::Input::Streams(count));
            }
            Item::Fin => {
                self.hang_up(holder);
                self.feed(holder, client::Input::Lost);
            }
        }
    }

    /// Feeds the machine's end, and carries out its outputs.
    fn feed(&mut self, at: usize, input: client::Input) {
        let holder = &mut self.holders[at];
        let (tunnel, outputs) = holder.tunnel.clone().step(input, self.now, self.draw.next());
        holder.tunnel = tunnel;
        for output in outputs {
            match output {
                client::Output::Connect => {
                    let wait = if self.reachable { 3 * self.latency } else { self.draw.within(self.patience) };
                    self.holders[at].connecting = Some(self.now + wait);
                }
                client::Output::Hello => {
                    let hello = Hello { client: "1".into(), services: vec![] };
                    self.send_up(at, &FromMachine::Hello(hello));
                }
                client::Output::Send(frame) => self.send_up(at, &frame),
                client::Output::Reauthenticate => {
                    let renewed = Reauthenticate { chain: vec!["leaf".into()], proof: "proof".into() };
                    self.send_up(at, &FromMachine::Reauthenticate(renewed));
                }
                client::Output::HangUp => self.hang_up(at),
                client::Output::RenewNow => self.seen.renew_now += 1,
                client::Output::Ended(session, _) => self.seen.ended.push(session),
                client::Output::ReachEnded(session, _) => panic!("no program here opened the session {session}"),
                client::Output::Tell(news) => self.heard_news(news),
            }
        }
    }

    fn heard_news(&mut self, news: client::News) {
        match news {
            client::News::Up | client::News::Time(_) => {}
            client::News::Down(why, _) => self.seen.downs.push((self.now, why)),
            client::News::Draining(_) => self.seen.draining += 1,
            client::News::Reauthenticated => self.seen.reauthenticated += 1,
            client::News::NotReauthenticated(_) => self.seen.not_reauthenticated += 1,
        }
    }

    fn hang_up(&mut self, at: usize) {
        let holder = &mut self.holders[at];
        holder.connecting = None;
        holder.streams = 0;
        let number = holder.link.take();
        let due = self.now + self.latency;
        if let Some(link) = number.and_then(|number| self.link(number))
            && !link.is_dead
        {
            link.to_gateway.0.push_back((due, Item::Fin));
        }
        // As the driver does after each event: the streams went with the connection.
        self.feed(at, client::Input::Streams(0));
    }

    fn send_up(&mut self, at: usize, frame: &FromMachine) {
        let (bytes, due) = (encode(frame).unwrap(), self.now + self.latency);
        if let Some(link) = self.holders[at].link.and_then(|number| self.link(number))
            && !link.is_dead
        {
            link.to_gateway.0.push_back((due, Item::Bytes(bytes)));
        }
    }

    /// Feeds the gateway's end, and carries out its outputs.
    fn tell(&mut self, number: usize, input: server::Input) {
        let (about, now, due) = (self.about, self.now, self.now + self.latency);
        let Some(link) = self.link(number).filter(|link| link.gateway_holds) else { return };
        let state = std::mem::replace(&mut link.tunnel, server::TunnelConversation::Closed);
        let (state, outputs) = state.step(input, &about, now);
        link.tunnel = state;
        for output in outputs {
            match output {
                server::Output::Send(frame) => self.send_down(number, &frame, due),
                server::Output::Up(_) => self.up(number),
                server::Output::Services(_) | server::Output::Abandoned(_) => {}
                server::Output::Verify(_) => {
                    let due = now + self.draw.within(Duration::from_millis(500));
                    self.link(number).unwrap().verifying = Some(due);
                }
                server::Output::Close(closing) => {
                    self.seen.closed.push((now, closing.reason, closing.detail.clone()));
                    self.send_down(number, &ToMachine::Closing(closing), due);
                    let link = self.link(number).unwrap();
                    (link.gateway_holds, link.is_up) = (false, false);
                    if !link.is_dead {
                        link.to_machine.0.push_back((due, Item::Fin));
                    }
                }
            }
        }
    }

    fn send_down(&mut self, number: usize, frame: &ToMachine, due: Duration) {
        let bytes = encode(frame).unwrap();
        if let Some(link) = self.link(number)
            && !link.is_dead
        {
            link.to_machine.0.push_back((due, Item::Bytes(bytes)));
        }
    }

    /// As in the gateway's table: the newest connection replaces the other, which gets a closing frame.
    fn up(&mut self, number: usize) {
        let standing = self.links.iter().find(|link| link.is_up && link.gateway_holds).map(|link| link.number);
        let loser = match standing {
            Some(standing) if standing > number => Some(number),
            Some(standing) => Some(standing),
            None => None,
        };
        if loser != Some(number) {
            self.link(number).unwrap().is_up = true;
            self.seen.ups.push(self.now);
        }
        if let Some(loser) = loser {
            self.seen.replaced.push(self.now);
            let closing = Closing { reason: Reason::Replaced, detail: "another".into(), retry_after_ms: 0 };
            self.tell(loser, server::Input::End(closing));
        }
    }

    fn current(&self) -> Option<usize> {
        self.links.iter().find(|link| link.gateway_holds).map(|link| link.number)
    }

    /// An input of the gateway's end of the tunnel.
    pub fn gateway_does(&mut self, input: server::Input) {
        if let Some(number) = self.current() {
            self.tell(number, input);
        }
    }

    /// The machine has a renewed certificate.
    pub fn renewed(&mut self) {
        self.feed(0, client::Input::Renewed);
    }

    /// The gateway opens streams: `count` are open at both ends.
    pub fn streams(&mut self, count: usize) {
        let due = self.now + self.latency;
        let Some(number) = self.current() else { return };
        self.tell(number, server::Input::Streams(count));
        let link = self.link(number).unwrap();
        if !link.is_dead {
            link.to_machine.0.push_back((due, Item::Streams(count)));
        }
    }

    /// The link loses everything from now on, and what is in transit. Neither end notices.
    pub fn go_silent(&mut self) {
        for link in self.links.iter_mut() {
            link.is_dead = true;
            (link.to_gateway, link.to_machine) = (Pipe::default(), Pipe::default());
        }
    }

    /// The link breaks; each end may notice at once, or not.
    pub fn cut(&mut self, machine_notices: bool, gateway_notices: bool) {
        self.go_silent();
        if gateway_notices {
            for link in &mut self.links {
                (link.gateway_holds, link.is_up) = (false, false);
            }
        }
        if machine_notices {
            for at in 0..self.holders.len() {
                if self.holders[at].connecting.take().is_some() {
                    self.feed(at, client::Input::NotConnected(None));
                } else if self.holders[at].link.is_some() {
                    self.hang_up(at);
                    self.feed(at, client::Input::Lost);
                }
            }
        }
    }

    /// The machine loses its end, while its earlier frames are still in transit.
    pub fn lose_at_the_machine(&mut self) {
        self.holders[0].link = None;
        self.feed(0, client::Input::Lost);
    }
}
