//! A tunnel that is up: the one outbound connection that a machine holds. It has a task of its own, which alone moves its bytes; here
//! stands what others may know of it, and ask of it.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pki::{BACKDATE, Identity, Peer, UnixTime};
use tokio::sync::{mpsc, oneshot};
use transport::{
    mux::{LastHeard, Stream},
    streams::{StreamCount, StreamGuard},
};

use crate::core::{
    refusal::Unreached,
    session::{EndReason, Mode, Offer},
};

/// What may wait to be done by a tunnel's task.
pub const COMMANDS: usize = 16;

/// What others want of a tunnel's task. Small: each tunnel has room for [`COMMANDS`].
#[derive(Debug)]
pub enum TunnelCommand {
    /// A new stream.
    Open(oneshot::Sender<Stream>),
    /// Answer, if the connection is still there.
    IsUp(oneshot::Sender<()>),
    /// Ask the machine to renew its certificate.
    RenewNow,
    /// Tell the machine that a stream to it was ended.
    Ended(Box<Ended>),
    /// Tell the machine that a stream which it opened is over.
    ReachEnded(Box<Ended>),
    /// End.
    End(Box<TunnelEnd>),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its id.
    pub session: String,
    /// Why.
    pub reason: EndReason,
}

/// How a tunnel is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelEnd {
    /// Why.
    pub reason: EndReason,
    /// For people.
    pub detail: String,
}

/// What a tunnel's task tells of it when it comes up.
#[derive(Debug)]
pub struct NewTunnel {
    /// See [`Tunnels::number`](super::tunnel_table::Tunnels::number).
    pub number: u64,
    /// The lineage of its certificate.
    pub lineage: String,
    /// Where it comes from.
    pub source: IpAddr,
    /// Since when it is up.
    pub since: UnixTime,
    /// The certificate it proved.
    pub peer: Arc<Peer>,
    /// What it exposes.
    pub services: Vec<Offer>,
    /// To its task.
    pub commands: mpsc::Sender<TunnelCommand>,
    /// Streams that are open in it, control aside.
    pub streams: StreamCount,
    /// When it was last heard.
    pub heard: Arc<LastHeard>,
}

/// A tunnel that is up.
#[derive(Debug)]
pub struct Tunnel {
    number: u64,
    identity: Identity,
    lineage: String,
    source: IpAddr,
    since: UnixTime,
    peer: Mutex<Arc<Peer>>,
    services: Mutex<Arc<[Offer]>>,
    renewal_asked: Mutex<Option<UnixTime>>,
    commands: mpsc::Sender<TunnelCommand>,
    streams: StreamCount,
    heard: Arc<LastHeard>,
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tunnel {
    /// One that has just come up.
    #[must_use]
    pub fn new(new: NewTunnel) -> Arc<Self> {
        let NewTunnel { number, lineage, source, since, peer, services, commands, streams, heard } = new;
        Arc::new(Self {
            number,
            identity: peer.identity.clone(),
            lineage,
            source,
            since,
            peer: Mutex::new(peer),
            services: Mutex::new(services.into()),
            renewal_asked: Mutex::new(None),
            commands,
            streams,
            heard,
        })
    }

    /// Its number; never used twice in one run of the gateway, and larger than those of connections made before.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whose it is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The lineage of its certificate.
    #[must_use]
    pub fn lineage(&self) -> &str {
        &self.lineage
    }

    /// Where it comes from.
    #[must_use]
    pub const fn source(&self) -> IpAddr {
        self.source
    }

    /// Since when it is up.
    #[must_use]
    pub const fn since(&self) -> UnixTime {
        self.since
    }

    /// The certificate it last proved.
    #[must_use]
    pub fn peer(&self) -> Arc<Peer> {
        Arc::clone(&guard(&self.peer))
    }

    /// It has proven a renewed certificate.
    pub fn renewed(&self, peer: Arc<Peer>) {
        *guard(&self.peer) = peer;
    }

    /// How long nothing was heard of it.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.heard.silence()
    }

    /// What it exposes.
    #[must_use]
    pub fn services(&self) -> Arc<[Offer]> {
        Arc::clone(&guard(&self.services))
    }

    /// It exposes this from now on.
    pub fn exposes(&self, services: Vec<Offer>) {
        *guard(&self.services) = services.into();
    }

    /// How a service wants to be spoken to, if it is exposed.
    ///
    /// # Errors
    /// [`Unreached::NotExposed`].
    pub fn mode(&self, service: &str) -> Result<Mode, Unreached> {
        let services = self.services();
        services.iter().find(|offer| offer.name == service).map(|offer| offer.mode).ok_or_else(|| {
            Unreached::NotExposed {
                machine: self.identity.name.to_string(),
                service: service.to_owned(),
                exposed: services.iter().map(|offer| offer.name.clone()).collect(),
            }
        })
    }

    /// Takes the place of one stream, unless `most` are open.
    #[must_use]
    pub fn take_stream(&self, most: usize) -> Option<StreamGuard> {
        self.streams.take(most)
    }

    /// A stream of ours; nothing when the tunnel has ended.
    pub async fn stream(&self) -> Option<Stream> {
        let (to, stream) = oneshot::channel();
        self.commands.send(TunnelCommand::Open(to)).await.ok()?;
        stream.await.ok()
    }

    /// Whether its connection is still there. Its task answers, which sees the end of a connection no later than any stream in it.
    pub async fn is_up(&self) -> bool {
        let (to, answered) = oneshot::channel();
        self.commands.send(TunnelCommand::IsUp(to)).await.is_ok() && answered.await.is_ok()
    }

    /// Somebody asked for a renewal at this time: the machine hears of it, once, unless it has renewed since.
    pub fn renewal_asked(&self, at: UnixTime) {
        let is_new = guard(&self.renewal_asked).replace(at) != Some(at);
        if is_new && guard(&self.peer).not_before.plus(BACKDATE) <= at {
            self.command(TunnelCommand::RenewNow);
        }
    }

    /// Tells the machine that a stream to it was ended.
    pub fn ended(&self, ended: Ended) {
        self.command(TunnelCommand::Ended(Box::new(ended)));
    }

    /// Tells the machine that a stream which it opened is over.
    pub fn reach_ended(&self, ended: Ended) {
        self.command(TunnelCommand::ReachEnded(Box::new(ended)));
    }

    /// Ends it.
    pub fn end(&self, reason: EndReason, detail: &str) {
        self.command(TunnelCommand::End(Box::new(TunnelEnd { reason, detail: detail.to_owned() })));
    }

    /// Lets the tunnel's task do something, as soon as it has done what waits. One that has ended has no use for it.
    fn command(&self, command: TunnelCommand) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.commands.try_send(command) {
            let commands = self.commands.clone();
            tokio::spawn(async move { commands.send(command).await });
        }
    }
}
