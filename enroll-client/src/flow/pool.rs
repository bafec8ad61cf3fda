//! Connections to the proxy face that several programs share, and the reasons for which their sessions ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pki::Name;
use tokio::sync::Mutex;
use wire::tunnel::Reason;

use crate::core::services::Sealing;
use crate::edge::net::CallError;
use crate::edge::notices::SessionNotices;
use crate::edge::proxy::{Carries, ServiceStream, Streams};
use crate::flow::access::ProxyAccess;
use crate::text::report::Complaint;

/// Most sessions that are remembered for [`Pool::why`].
const OPENED_KEPT: usize = 1_024;

/// Connections to the proxy face, and the identity. A new stream uses a renewed certificate; open streams stay on their connection.
pub struct Pool {
    state: Mutex<(ProxyAccess, Vec<Arc<Streams>>)>,
    /// The last opened sessions, at most [`OPENED_KEPT`].
    opened: Mutex<VecDeque<OpenSession>>,
}

/// A session that was opened for a program.
struct OpenSession {
    session: String,
    /// The gateway's notices, with the reason of its end.
    notices: Arc<SessionNotices>,
    /// Whether it broke at this end.
    broke: Arc<AtomicBool>,
}

/// Why a session ended.
pub struct SessionEnd {
    /// The gateway's reason, if it sent one.
    pub reason: Option<Reason>,
    /// Whether it broke at this end.
    pub broke: bool,
}

impl Pool {
    /// Starts without connections.
    #[must_use]
    pub fn new(way: ProxyAccess) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((way, Vec::new())), opened: Mutex::default() })
    }

    /// Remembers a session; returns the flag to set when it breaks.
    pub async fn note(&self, service: &ServiceStream) -> Arc<AtomicBool> {
        let mut opened = self.opened.lock().await;
        if opened.len() == OPENED_KEPT {
            opened.pop_front();
        }
        let (session, notices, broke) =
            (service.session.clone(), Arc::clone(&service.notices), Arc::<AtomicBool>::default());
        opened.push_back(OpenSession { session, notices, broke: Arc::clone(&broke) });
        broke
    }

    /// Why a session ended, as far as it is known.
    pub async fn why(&self, session: &str) -> SessionEnd {
        let found = {
            let opened = self.opened.lock().await;
            let found = opened.iter().rev().find(|opened| opened.session == session);
            found.map(|opened| (Arc::clone(&opened.notices), Arc::clone(&opened.broke)))
        };
        let Some((notices, broke)) = found else { return SessionEnd { reason: None, broke: false } };
        SessionEnd { reason: notices.why(session).await, broke: broke.load(Ordering::SeqCst) }
    }

    /// Opens a stream to a service; returns it with the access data used.
    pub async fn reach(
        &self,
        service: &str,
        machine: &Name,
        sealing: Sealing,
    ) -> Result<(ServiceStream, ProxyAccess), Complaint> {
        match self.try_reach(service, machine, sealing).await {
            Ok(found) => Ok(found),
            // With an expired certificate the connection breaks, possibly before the alert with the cause is read.
            Err(complaint) => Err(self.state.lock().await.0.expired().unwrap_or(complaint)),
        }
    }

    async fn try_reach(
        &self,
        service: &str,
        machine: &Name,
        sealing: Sealing,
    ) -> Result<(ServiceStream, ProxyAccess), Complaint> {
        let (streams, way, fresh) = self.streams().await?;
        match streams.reach(service, machine, sealing).await {
            Ok(found) => Ok((found, way)),
            // An idle connection broke unnoticed: retry with a new one.
            Err(CallError::Net(error)) if !fresh && error.is_passing() => {
                self.forget(&streams).await;
                let (streams, way, _) = self.streams().await?;
                Ok((streams.reach(service, machine, sealing).await?, way))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A connection with a free stream, made with the certificate in use, and whether it is new.
    async fn streams(&self) -> Result<(Arc<Streams>, ProxyAccess, bool), Complaint> {
        let mut state = self.state.lock().await;
        let (way, open) = &mut *state;
        let current = way.credential.newest();
        open.retain(|streams| streams.has_room() || streams.open() > 0);
        let usable = |streams: &&Arc<Streams>| streams.has_room() && streams.serial() == current.serial;
        if let Some(streams) = open.iter().find(usable) {
            return Ok((Arc::clone(streams), way.clone(), false));
        }
        let streams = Arc::new(way.dial(Carries::Many).await?);
        open.push(Arc::clone(&streams));
        Ok((streams, way.clone(), true))
    }

    async fn forget(&self, broken: &Arc<Streams>) {
        self.state.lock().await.1.retain(|streams| !Arc::ptr_eq(streams, broken));
    }
}
