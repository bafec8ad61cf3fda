//! Stories of a signing key that is slow, away, and back: nothing is left behind, and a retry gets one certificate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use gateway::{
    core::refusal::Refusal,
    flow::asked::TokenWish,
    limits::{SIGNATURES_AT_ONCE, SIGNING_TIME},
};
use pki::{CaKey, KeyAlgorithm, SignError, SoftwareKey};

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use story::{Story, all};

/// Whether the device with the keys answers, and how many signatures it was asked for.
#[derive(Default)]
struct Device {
    away: Mutex<bool>,
    back: Condvar,
    asked: AtomicUsize,
}

impl Device {
    fn set_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
        self.asked.store(0, Ordering::SeqCst);
        self.back.notify_all();
    }

    async fn was_asked(&self, times: usize) {
        while self.asked.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
    }
}

/// A key in the device.
struct Held {
    key: SoftwareKey,
    device: Arc<Device>,
}

impl CaKey for Held {
    fn algorithm(&self) -> KeyAlgorithm {
        self.key.algorithm()
    }

    fn public_key(&self) -> &[u8] {
        self.key.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.device.asked.fetch_add(1, Ordering::SeqCst);
        let away = self.device.away.lock().unwrap();
        drop(self.device.back.wait_while(away, |away| *away).unwrap());
        self.key.sign(message)
    }
}

fn story() -> (Story, Arc<Device>) {
    let device = Arc::new(Device::default());
    let held = Arc::clone(&device);
    (Story::behind(move |key| Arc::new(Held { key, device: Arc::clone(&held) })), device)
}

/// Twice as many as may sign at once ask while the key is away, and some of them leave; then it is back.
#[tokio::test]
async fn a_key_that_is_away_leaves_nothing_behind_and_a_retry_gets_one_certificate() {
    let (story, device) = story();
    let uses = Some(u32::try_from(SIGNATURES_AT_ONCE * 2).unwrap());
    let token = story.token(TokenWish { uses, ..TokenWish::default() }).await;
    let strangers: Vec<_> = (0..SIGNATURES_AT_ONCE * 2).map(|_| story.stranger()).collect();
    let before = story.everything().await;

    device.set_away(true);
    tokio::time::pause();
    let name = |at: usize| format!("edge-{at}");
    let asking = all(strangers.iter().enumerate().map(|(at, stranger)| {
        let (name, token) = (name(at), token.clone());
        async move {
            let patience = if at % 4 == 0 { SIGNING_TIME / 2 } else { SIGNING_TIME * 2 };
            tokio::time::timeout(patience, stranger.join(&token, &name)).await
        }
    }));
    let passing = async {
        device.was_asked(SIGNATURES_AT_ONCE).await;
        tokio::time::advance(SIGNING_TIME / 2 + Duration::from_secs(1)).await;
        tokio::time::advance(SIGNING_TIME / 2).await;
    };
    let (refused, ()) = tokio::join!(asking, passing);
    tokio::time::resume();
    for (at, answer) in refused.into_iter().enumerate() {
        match answer {
            Ok(Err(Refusal::SignerUnavailable)) => assert_ne!(at % 4, 0),
            Err(_left) => assert_eq!(at % 4, 0),
            Ok(other) => panic!("{at}: {other:?}"),
        }
    }
    assert_eq!(story.everything().await, before, "nothing was written");

    device.set_away(false);
    for (at, stranger) in strangers.iter().enumerate() {
        let issued = stranger.join(&token, &name(at)).await.unwrap().issued();
        let again = stranger.join(&token, &name(at)).await.unwrap().issued();
        assert_eq!(issued.serial, again.serial, "one certificate");
    }
}
