//! The gateway's notices about sessions of one connection, for the tasks that carry their bytes: they need the reason of an end to
//! know whether the data is complete ([`crate::core::ending`]).

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pki::Serial;
use tokio::sync::Notify;
use tokio::time::timeout;
use wire::tunnel::Reason;

use super::net::NetError;
use crate::core::offset::Offset;

/// Most reasons of ended sessions that are kept until a task asks for them.
const ENDED_KEPT: usize = 1_024;

/// How long to wait for the notice after the end of the bytes.
const NOTICE_TIME: Duration = Duration::from_secs(2);

/// The gateway's notices about the sessions of one connection.
#[derive(Default)]
pub struct SessionNotices {
    state: Mutex<NoticeState>,
    news: Notify,
}

/// The notices received so far.
#[derive(Default)]
pub(super) struct NoticeState {
    /// The gateway sends notices on this connection.
    pub speaks: bool,
    /// The gateway is stopping.
    pub drains: bool,
    /// Why the connection ended, until it is taken by [`SessionNotices::end`].
    pub end: Option<NetError>,
    /// The connection has ended.
    pub gone: bool,
    ended: VecDeque<(String, Reason)>,
    /// The serial number of the certificate that was proven here last.
    pub proven: Option<Serial>,
    /// The offset of its clock.
    pub offset: Option<Offset>,
}

impl SessionNotices {
    fn lock(&self) -> MutexGuard<'_, NoticeState> {
        // Poisoning is ignored: no code under this lock can panic in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a notice and wakes the waiting tasks.
    pub(super) fn update(&self, change: impl FnOnce(&mut NoticeState)) {
        change(&mut self.lock());
        self.news.notify_waiters();
    }

    /// A session has ended.
    pub(super) fn ended(&self, session: String, reason: Reason) {
        self.update(|state| {
            if state.ended.len() == ENDED_KEPT {
                state.ended.pop_front();
            }
            state.ended.push_back((session, reason));
        });
    }

    /// Waits for the reason of a session's end; `None` if the gateway does not send one.
    pub async fn why(&self, session: &str) -> Option<Reason> {
        let told = async {
            loop {
                let mut news = pin!(self.news.notified());
                // Registered before the check, so that a notice in between is not missed.
                news.as_mut().enable();
                {
                    let state = self.lock();
                    if let Some((_, reason)) = state.ended.iter().rev().find(|(ended, _)| ended == session) {
                        return Some(*reason);
                    }
                    if !state.speaks || state.gone {
                        return None;
                    }
                }
                news.await;
            }
        };
        timeout(NOTICE_TIME, told).await.ok().flatten()
    }

    /// Takes the reason why the connection ended.
    pub fn end(&self) -> Option<NetError> {
        self.lock().end.take()
    }

    /// Whether the gateway is stopping and refuses new streams.
    pub fn drains(&self) -> bool {
        self.lock().drains
    }

    /// The offset of the gateway's clock, if it was sent on this connection.
    pub fn offset(&self) -> Option<Offset> {
        self.lock().offset
    }

    /// The serial of the certificate last proven on this connection, if there was one after the handshake.
    pub fn proven(&self) -> Option<Serial> {
        self.lock().proven
    }
}
