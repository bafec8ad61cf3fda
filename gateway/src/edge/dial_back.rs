//! Dial-backs: a stream that carries much moves to a connection of its own, so that what is typed on its neighbours does not
//! wait behind it. Whoever is at the other end of a tunnel or of a helper's connection sees the same bytes as we do, and
//! decides; the connections that streams move to come in here. Which may move stands in [`crate::registry::dial_back`].

use std::sync::Arc;

use pki::Role;
use tokio::{io::AsyncWriteExt as _, time::timeout};
use transport::frame::{read_frame, write_frame};
use wire::tunnel::{DialBack, DialedBack};

use super::proxy::ProxyDeps;
use crate::{
    core::{
        admission::Use,
        refusal::{Missing, Refusal, Unreached},
        replica::given_elsewhere,
    },
    edge::fronts::native::problem,
    flow::admit::admit,
    limits::CUT_GRACE,
    ports::rate::Class,
    registry::{
        dial_back::{DialBackTarget, Io},
        live::HolderGuard,
    },
};

/// Serves a connection that a stream is to move to: finds the stream, and holds the connection's place until its session ends.
///
/// Its certificate is judged when it comes and not again: what ends the session ends this too, and a machine may renew
/// meanwhile.
pub async fn serve<IO>(parts: Arc<ProxyDeps>, mut io: IO, seat: HolderGuard)
where
    IO: Io + 'static,
{
    let conn = Arc::clone(seat.conn());
    let asked = tokio::select! {
        biased;
        _ = conn.told_to_end() => return,
        asked = timeout(parts.head_time, read_frame::<DialBack, _>(&mut io)) => asked,
    };
    let Ok(Ok(DialBack { ticket })) = asked else { return };
    let instance = parts.instance();
    match found(&parts, &seat, &ticket, &instance).await {
        Ok(DialBackTarget { session, to }) => {
            if write_frame(&mut io, &DialedBack::Ok).await.is_err() {
                return;
            }
            let own: Box<dyn Io> = Box::new(io);
            if to.send(own).is_ok() {
                session.dialed_back();
                parts.shell.metrics.dial_back("done");
                session.ended().await;
            }
        }
        Err(refusal) => {
            parts.shell.metrics.dial_back("refused");
            tracing::info!(instance, source = %conn.source(), %refusal, "dial-back refused");
            let problem = Box::new(problem::problem(&refusal, &instance));
            let _ = write_frame(&mut io, &DialedBack::Refused { problem }).await;
            let _ = timeout(CUT_GRACE, io.shutdown()).await;
        }
    }
}

async fn found(parts: &ProxyDeps, seat: &HolderGuard, ticket: &str, instance: &str) -> Result<DialBackTarget, Refusal> {
    let peer = seat.peer();
    let class = match peer.identity.role {
        Role::Person => Class::Connect,
        Role::Machine | Role::Gateway => Class::Machine,
    };
    parts.rates.check(class, seat.conn().source())?;
    admit(&parts.shell, peer, Use::Read, instance).await?;
    if let Some(gateway) = given_elsewhere(&parts.shell.replica.name, ticket) {
        return Err(Unreached::StreamElsewhere { gateway }.into());
    }
    // One answer for what never was, what is spent, and what is somebody else's.
    parts.shell.dial_backs.take(ticket, &peer.identity).ok_or(Refusal::NotFound(Missing::Stream))
}
