//! Two ends over pipes in memory whose capacity, chunk size and loss the test chooses.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use proptest::prelude::*;

use super::*;

/// One direction of a carrier.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// Capacity in bytes.
    room: usize,
    ended: bool,
    /// Its content is discarded, and no more is accepted.
    cut: bool,
}

/// One end of a carrier.
#[derive(Clone, Debug)]
struct End {
    from: Rc<RefCell<Pipe>>,
    to: Rc<RefCell<Pipe>>,
    /// Most bytes in one read or write.
    piece: usize,
}

fn carrier(room: usize, piece: usize) -> (End, End) {
    let pipe = || Rc::new(RefCell::new(Pipe { room, ..Pipe::default() }));
    let (there, back) = (pipe(), pipe());
    (End { from: Rc::clone(&back), to: Rc::clone(&there), piece }, End { from: there, to: back, piece })
}

impl End {
    /// As when a multiplexed connection is lost: the reader sees an end of file and no error.
    fn cut(&self) {
        for pipe in [&self.from, &self.to] {
            let mut pipe = pipe.borrow_mut();
            pipe.bytes.clear();
            pipe.cut = true;
        }
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.from.borrow_mut();
        let most = buf.len().min(self.piece).min(pipe.bytes.len());
        if most == 0 && !buf.is_empty() {
            return if pipe.ended || pipe.cut { Poll::Ready(Ok(0)) } else { Poll::Pending };
        }
        for (place, byte) in buf.iter_mut().zip(pipe.bytes.drain(..most)) {
            *place = byte;
        }
        Poll::Ready(Ok(most))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.to.borrow_mut();
        if pipe.cut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        assert!(!pipe.ended, "written after the end");
        let most = buf.len().min(self.piece).min(pipe.room - pipe.bytes.len());
        if most == 0 {
            return Poll::Pending;
        }
        pipe.bytes.extend(&buf[..most]);
        Poll::Ready(Ok(most))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to.borrow_mut().ended = true;
        Poll::Ready(Ok(()))
    }
}

fn is_cut(end: &End) -> bool {
    end.from.borrow().cut
}

/// Is ready with the new carrier after a number of polls.
#[derive(Debug)]
struct After(usize, Option<Arrival<End>>);

impl Arrive for After {
    type Carrier = End;

    fn poll_arrive(&mut self, _carried: u64, _cx: &mut Context<'_>) -> Poll<Arrival<End>> {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                Poll::Pending
            }
            None => Poll::Ready(self.1.take().expect("asked once more after it was there")),
        }
    }

    // The carrier always arrives.
    fn withdraw(&mut self) {}
}

/// The application at one end: writes all its data, ends, and reads to the end.
struct User {
    stream: Moving<End, After>,
    send: Vec<u8>,
    sent: usize,
    closed: bool,
    finished: bool,
    got: Vec<u8>,
    outcome: Option<io::Result<()>>,
}

impl User {
    fn new(stream: Moving<End, After>, send: Vec<u8>) -> Self {
        Self { stream, send, sent: 0, closed: false, finished: false, got: vec![], outcome: None }
    }

    /// One write and one read; whether either made progress.
    fn turn(&mut self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut moved = false;
        let stream = &mut self.stream;
        if self.sent < self.send.len() {
            match Pin::new(&mut *stream).poll_write(cx, &self.send[self.sent..]) {
                Poll::Ready(Ok(written)) => {
                    self.sent += written;
                    moved = true;
                }
                Poll::Ready(Err(error)) => {
                    self.outcome.get_or_insert(Err(error));
                }
                Poll::Pending => {}
            }
        } else if !self.closed && Pin::new(&mut *stream).poll_close(cx).is_ready() {
            self.closed = true;
            moved = true;
        }
        if self.closed && matches!(self.outcome, Some(Ok(()))) && !self.finished {
            self.finished = Pin::new(&mut *stream).poll_finish(cx).is_ready();
            moved |= self.finished;
        }
        if self.outcome.is_none() {
            let mut buf = [0; 64];
            match Pin::new(stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(0)) => self.outcome = Some(Ok(())),
                Poll::Ready(Ok(read)) => self.got.extend_from_slice(&buf[..read]),
                Poll::Ready(Err(error)) => self.outcome = Some(Err(error)),
                Poll::Pending => return moved,
            }
            moved = true;
        }
        moved
    }
}

/// What the ends send, the shape of the carriers, and when the new one arrives.
#[derive(Clone, Debug)]
struct Case {
    lengths: [usize; 2],
    rooms: [usize; 2],
    pieces: [usize; 2],
    arrives: [usize; 2],
    /// The old carrier is lost at this turn.
    cut: Option<usize>,
}

fn bytes(length: usize, salt: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n * 7 + salt + n / 256) % 256).unwrap()).collect()
}

/// Runs both ends until neither makes progress.
fn run(case: &Case) -> [User; 2] {
    let old = carrier(case.rooms[0], case.pieces[0]);
    let new = carrier(case.rooms[1], case.pieces[1]);
    let here = |at: usize, end: End| After(case.arrives[at], Some(Arrival::Here(end)));
    let mut users = [
        User::new(Moving::new(old.0.clone(), is_cut, here(0, new.0)), bytes(case.lengths[0], 1)),
        User::new(Moving::new(old.1, is_cut, here(1, new.1)), bytes(case.lengths[1], 100)),
    ];
    let mut idle = 0;
    for turn in 0.. {
        if case.cut == Some(turn) {
            old.0.cut();
        }
        let moved = users.each_mut().map(User::turn).contains(&true);
        idle = if moved { 0 } else { idle + 1 };
        // The carrier may take some polls to arrive, and a cut some turns.
        if idle > 500 {
            break;
        }
    }
    users
}

#[track_caller]
fn check(case: &Case) {
    let users = run(case);
    for at in 0..2 {
        let wanted = &users[1 - at].send;
        assert_eq!(&users[at].got, wanted, "{case:?}: end {at}");
        assert!(matches!(users[at].outcome, Some(Ok(()))), "{case:?}: end {at}: {:?}", users[at].outcome);
    }
}

const PLAIN: Case = Case { lengths: [3_000, 2_000], rooms: [50, 70], pieces: [13, 17], arrives: [40, 60], cut: None };

#[test]
fn moved_in_the_middle() {
    check(&PLAIN);
}

#[test]
fn moved_before_the_first_byte() {
    check(&Case { arrives: [0, 0], ..PLAIN });
}

#[test]
fn one_end_moves_long_before_the_other() {
    check(&Case { arrives: [0, 300], ..PLAIN });
    check(&Case { arrives: [300, 0], ..PLAIN });
}

#[test]
fn moved_after_one_direction_had_ended() {
    check(&Case { lengths: [0, 5_000], ..PLAIN });
    check(&Case { lengths: [5_000, 1], ..PLAIN });
}

#[test]
fn one_end_is_through_before_it_moves() {
    check(&Case { lengths: [1_654, 1], rooms: [22, 1], pieces: [22, 1], arrives: [80, 3], cut: None });
}

#[test]
fn moved_with_nothing_to_say() {
    check(&Case { lengths: [0, 0], ..PLAIN });
}

#[test]
fn who_never_gets_the_new_carrier_stays() {
    let old = carrier(50, 13);
    let mut users =
        [old.0, old.1].map(|end| User::new(Moving::new(end, is_cut, After(5, Some(Arrival::Never))), bytes(1_000, 3)));
    while users.each_mut().map(User::turn).contains(&true) {}
    for user in &users {
        assert_eq!(user.got, bytes(1_000, 3));
        assert!(!user.stream.has_moved());
    }
}

#[test]
fn who_cannot_follow_breaks() {
    let (one, _other) = carrier(50, 13);
    let broken = Arrival::Broken(io::Error::other("no answer"));
    let mut user = User::new(Moving::new(one, is_cut, After(0, Some(broken))), bytes(10, 3));
    user.turn();
    assert_eq!(user.outcome.unwrap().unwrap_err().to_string(), "no answer");
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(matches!(Pin::new(&mut user.stream).poll_write(cx, b"x"), Poll::Ready(Err(_))));
    assert!(matches!(Pin::new(&mut user.stream).poll_read(cx, &mut [0; 4]), Poll::Ready(Err(_))));
}

#[test]
fn a_lost_carrier_is_no_end_of_the_data() {
    let (one, other) = carrier(50, 13);
    other.to.borrow_mut().bytes.extend(b"ab");
    let mut stream = Moving::new(one, is_cut, After(1_000, None));
    let cx = &mut Context::from_waker(Waker::noop());
    let mut buf = [0; 8];
    assert!(matches!(Pin::new(&mut stream).poll_read(cx, &mut buf), Poll::Ready(Ok(2))));
    other.cut();
    let Poll::Ready(Err(error)) = Pin::new(&mut stream).poll_read(cx, &mut buf) else {
        panic!("an end like any other")
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// What the reading end does with a new carrier whose bytes the test wrote.
#[track_caller]
fn from_stranger(said: &[u8], by_old: &[u8], want: &str) {
    let (old, old_peer) = carrier(100, 100);
    let (new, new_peer) = carrier(100, 100);
    old_peer.to.borrow_mut().bytes.extend(by_old);
    new_peer.to.borrow_mut().bytes.extend(said);
    new_peer.to.borrow_mut().ended = true;
    let mut user = User::new(Moving::new(old, is_cut, After(0, Some(Arrival::Here(new)))), vec![]);
    while user.turn() {}
    assert_eq!(user.outcome.unwrap().unwrap_err().to_string(), want);
}

#[test]
fn counts_that_cannot_be() {
    from_stranger(&[0, 0, 0], b"", "the new connection ended before it began");
    from_stranger(b"", b"ab", "the new connection ended before it began");
    // Read before the count was known, because the count came late.
    let (old, old_peer) = carrier(100, 100);
    let (new, new_peer) = carrier(100, 100);
    old_peer.to.borrow_mut().bytes.extend(b"abc");
    let mut user = User::new(Moving::new(old, is_cut, After(0, Some(Arrival::Here(new)))), vec![]);
    while user.turn() {}
    new_peer.to.borrow_mut().bytes.extend(2_u64.to_be_bytes());
    user.turn();
    let error = user.outcome.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "more came by the old connection than was sent there");
}

proptest! {
    #[test]
    fn whenever_it_moves_every_byte_arrives_once_and_in_order(
        lengths in [0_usize..4_000, 0_usize..4_000],
        rooms in [1_usize..300, 1_usize..300],
        pieces in [1_usize..80, 1_usize..80],
        arrives in [0_usize..400, 0_usize..400],
    ) {
        check(&Case { lengths, rooms, pieces, arrives, cut: None });
    }

    /// The old carrier may be lost at any time. What arrives is then a prefix of what was sent.
    #[test]
    fn a_lost_carrier_makes_no_gap(
        lengths in [0_usize..2_000, 0_usize..2_000],
        rooms in [1_usize..100, 1_usize..100],
        pieces in [1_usize..40, 1_usize..40],
        arrives in [0_usize..200, 0_usize..200],
        cut in 0_usize..400,
    ) {
        let users = run(&Case { lengths, rooms, pieces, arrives, cut: Some(cut) });
        for at in 0..2 {
            prop_assert!(users[1 - at].send.starts_with(&users[at].got), "end {at}");
        }
    }
}
