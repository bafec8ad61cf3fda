//! `lychgate run` with an expired certificate: enrolls again with it as evidence.

use std::time::Duration;

use super::events::{EventObserver, Level};
use super::joining::{is_final, waiting};
use super::{Daemon, StopCause};
use crate::core::plan::{JoinRequest, denied_before};
use crate::core::record::Pending;
use crate::core::renew::ExpiryState;
use crate::edge::{clock, entropy};
use crate::flow::enroll::{EnrollmentAttempt, EnrollmentEnd, drive_enrollment, rejoin_pending};
use crate::flow::upkeep;
use crate::platform::StopSignal;
use crate::text::report::{Complaint, Exit};

impl Daemon<'_> {
    /// Enrolls again with the expired certificate as evidence, and waits if approval is needed.
    pub(super) async fn rejoin(&mut self, stop: &mut StopSignal) -> Result<Option<StopCause>, Complaint> {
        if self.clock_was_wrong().await {
            return Ok(None);
        }
        match self.try_rejoin(stop).await {
            Ok(EnrollmentEnd::Installed { credential, offset, .. }) => {
                // After an error the next query writes the offset again.
                let _ = upkeep::save_offset(self.store, &credential, offset);
                self.take(*credential, "rejoined");
                // As after a renewal: the scheduler repeats it when it fails.
                let _ = self.look().await;
                self.tell_tunnel().await;
                self.run_hooks("rejoined").await;
                Ok(None)
            }
            Ok(EnrollmentEnd::Waiting(notice)) => Err(waiting(&notice)),
            Ok(EnrollmentEnd::Stopped(_)) => Ok(Some(StopCause::Signal("a signal"))),
            Err(complaint) if is_final(&complaint) => Err(complaint),
            Err(complaint) => {
                let (now, draw) = (self.now(), entropy::draw());
                self.in_trouble = true;
                let locked = complaint.exit == Exit::Locked;
                upkeep::note_trouble(self.store, &self.credential, &complaint, locked);
                // The gateway will probably refuse again: retry at the interval for locks.
                self.scheduler = self.scheduler.locked(&self.credential.life, None, now, draw);
                let hint = complaint.hint.clone().unwrap_or_default();
                let fields = [("code", complaint.code.clone()), ("hint", hint)];
                self.events.tell(Level::Error, "rejoin-failed", &complaint.what, &fields);
                Err(complaint)
            }
        }
    }

    /// Whether the certificate only seemed to have expired, because the clock was set since the last contact.
    pub(super) async fn clock_was_wrong(&mut self) -> bool {
        let Ok(offset) = upkeep::ask_time(&self.credential).await else { return false };
        let wrong =
            !self.scheduler.is_told_expired() && !self.credential.life.is_over(offset.gateway_time(clock::now()));
        if wrong {
            let what = "the clock was set since the last contact; the certificate is not over by the gateway's";
            self.events.tell(Level::Warning, "clock", what, &[]);
            self.clock_was_set(offset);
            self.expiry = ExpiryState::InTime;
        }
        wrong
    }

    pub(super) async fn try_rejoin(&self, stop: &mut StopSignal) -> Result<EnrollmentEnd, Complaint> {
        let _lock = self.store.lock(Duration::from_secs(10)).await?;
        self.store.mend()?;
        if let Some(current) = self.store.credential()?.filter(|current| current.serial != self.credential.serial) {
            // Another process (`lychgate join`) has enrolled meanwhile.
            let (credential, offset) = (Box::new(current), self.offset);
            return Ok(EnrollmentEnd::Installed { credential, offset, offered: vec![] });
        }
        let earlier = self.store.pending()?;
        if let Some(Pending { denied: Some(denied), gateway, .. }) = &earlier {
            return Err(denied_before(denied, gateway));
        }
        let pending = rejoin_pending(&self.credential, earlier, None, &JoinRequest::default());
        let attempt = EnrollmentAttempt {
            store: self.store,
            pending,
            expected: self.credential.expected(),
            face: None,
            prior: Some(&self.credential),
            policy: self.options.policy(),
        };
        let mut observer = EventObserver::new(self.events);
        drive_enrollment(attempt, &mut observer, stop).await
    }
}
