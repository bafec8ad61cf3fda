//! What the gateway says about the sessions on one connection, for whoever reads their bytes: an end is an end only when it says
//! so, or when our own direction was still open.

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

/// Ended sessions that are remembered: those of whoever asks a moment later.
const ENDED_KEPT: usize = 1_024;

/// How long a notice may be behind the end of the bytes.
const NOTICE_TIME: Duration = Duration::from_secs(2);

/// What the gateway says about the sessions on one connection.
#[derive(Default)]
pub struct SessionNotices {
    state: Mutex<NoticeState>,
    news: Notify,
}

/// What it said so far.
#[derive(Default)]
pub(super) struct NoticeState {
    /// It speaks here at all.
    pub speaks: bool,
    /// It is about to stop.
    pub drains: bool,
    /// Why the connection ended, until somebody is told.
    pub end: Option<NetError>,
    /// The connection has ended.
    pub gone: bool,
    ended: VecDeque<(String, Reason)>,
    /// The serial number of the certificate that was proven here last.
    pub proven: Option<Serial>,
    /// How far its clock is ahead.
    pub offset: Option<Offset>,
}

impl SessionNotices {
    fn lock(&self) -> MutexGuard<'_, NoticeState> {
        // Nothing under this lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It said something.
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

    /// Why a session ended, if this gateway says so here.
    pub async fn why(&self, session: &str) -> Option<Reason> {
        let told = async {
            loop {
                let mut news = pin!(self.news.notified());
                // Listening begins before the look, so what is said in between is not missed.
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

    /// Why the connection ended, once.
    pub fn end(&self) -> Option<NetError> {
        self.lock().end.take()
    }

    /// Whether new streams may still be asked for.
    pub fn drains(&self) -> bool {
        self.lock().drains
    }

    /// How far the gateway's clock is ahead, if it said so here.
    pub fn offset(&self) -> Option<Offset> {
        self.lock().offset
    }

    /// The certificate that was proven here last, if another than the first.
    pub fn proven(&self) -> Option<Serial> {
        self.lock().proven
    }
}
