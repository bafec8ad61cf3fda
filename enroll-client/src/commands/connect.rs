//! `connect` and `forward`: connections to a service on a machine.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use wire::tunnel::Reason;

use crate::cli::{ConnectArgs, ForwardArgs};
use crate::commands::helper;
use crate::core::ending::Ending;
use crate::core::place::ServiceAddress;
use crate::core::services::Sealing;
use crate::edge::keystore::Keystore;
use crate::edge::proxy::{Carries, ServiceStream};
use crate::edge::relay::{pass_on, relay, show_end};
use crate::edge::serve::reset;
use crate::edge::terminal::{self, Format};
use crate::flow::access::{EndedSession, ProxyAccess, explain_refusal, report_end};
use crate::flow::pool::Pool;
use crate::text::disconnect;
use crate::text::report::{Complaint, Exit};

/// Time limit for ending our own direction after the other has ended.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// `connect`: standard input and output are the service's.
pub async fn connect(store: &Keystore, args: &ConnectArgs) -> Result<Exit, Complaint> {
    let place = ServiceAddress::read(&args.place, args.service.as_deref(), Some("ssh"))?;
    let outcome =
        if args.helper { helper::connect(store, &place, args).await } else { alone(store, place.clone(), args).await };
    if let Err(complaint) = &outcome
        && place.service == "ssh"
        && !args.fdpass
        // Another error may come after bytes were relayed.
        && complaint.code != helper::CODE
        && terminal::to_program(&disconnect::message(&format!("lychgate: {complaint}")))
    {
        terminal::until_program_leaves(CLOSE_TIME).await;
    }
    outcome
}

/// Connects without a helper.
async fn alone(store: &Keystore, place: ServiceAddress, args: &ConnectArgs) -> Result<Exit, Complaint> {
    let ServiceAddress { service, machine: name } = place;
    let way = ProxyAccess::find(store).await?;
    let streams = way.dial(Carries::One).await?;
    let service = match streams.reach(&service, &name, Sealing::from_flag(args.raw)).await {
        Ok(service) => service,
        Err(error) => return Err(explain_refusal(&way, &name, error.into()).await),
    };
    let (session, notices) = (service.session.clone(), Arc::clone(&service.notices));
    let ending = stdio(service).await;
    let said = notices.why(&session).await;
    Ok(report_end(Some(&way), EndedSession { session: &session, machine: &name, ending, said }).await)
}

/// Relays between standard input and output and a connection, until the other end has closed its direction.
pub async fn stdio<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> Ending {
    let (mut from, mut to) = tokio::io::split(io);
    let (mut stdin, mut stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let ending = {
        let outwards = async {
            let _ = copy(&mut stdin, &mut to).await;
            let _ = to.shutdown().await;
        };
        let inwards = pass_on(&mut from, &mut stdout);
        tokio::pin!(inwards);
        tokio::select! {
            biased;
            ending = &mut inwards => ending.unwrap_or(Ending::Finished),
            // Our direction has ended; the service may still send.
            () = outwards => inwards.await.unwrap_or(Ending::Closed),
        }
    };
    // The session ends when both directions have ended.
    let _ = tokio::time::timeout(CLOSE_TIME, to.shutdown()).await;
    ending
}

/// `forward`: a local listener.
pub async fn forward(store: &Keystore, args: &ForwardArgs, format: Format) -> Result<(), Complaint> {
    let ServiceAddress { service, machine: name } = ServiceAddress::read(&args.place, args.service.as_deref(), None)?;
    let way = ProxyAccess::find(store).await?;
    let listen = listen_at(&args.listen);
    let listener = TcpListener::bind(&listen).await.map_err(|error| {
        Complaint::new(Exit::Usage, "listen", format!("cannot listen on {listen}: {error}"))
            .hint("choose another address with --listen")
    })?;
    let at = listener.local_addr().map(|at| at.to_string()).unwrap_or_default();
    match format {
        Format::Text => terminal::say(&format!("{at} forwards to {service}@{name}")),
        Format::Json => {
            terminal::result(format, &json!({ "listen": at, "service": service, "machine": name.as_str() }), "")
        }
    }
    let pool = Pool::new(way);
    let sealing = Sealing::from_flag(args.raw);
    loop {
        let Ok((mut program, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            continue;
        };
        let _ = program.set_nodelay(true);
        let (pool, service, name) = (Arc::clone(&pool), service.clone(), name.clone());
        tokio::spawn(async move {
            match pool.reach(&service, &name, sealing).await {
                Ok((mut found, way)) => {
                    let session = found.session.clone();
                    let over = serve_program(&mut program, &mut found).await;
                    drop(found);
                    let Some((ending, said)) = over else { return };
                    let _ =
                        report_end(Some(&way), EndedSession { session: &session, machine: &name, ending, said }).await;
                }
                Err(complaint) => {
                    // A reset, so that the program does not take this for a service that sent nothing.
                    reset(&program);
                    // The lines are escaped already.
                    terminal::show(&complaint.lines());
                }
            }
        });
    }
}

/// The address to listen on: a port alone means the loopback address.
fn listen_at(text: &str) -> String {
    let port = text.strip_prefix(':').unwrap_or(text);
    if port.parse::<u16>().is_ok() { format!("127.0.0.1:{port}") } else { text.to_owned() }
}

/// Relays between a program's connection and a service, and ends the connection as the session ended. Returns how it ended and the
/// gateway's reason; `None` when the program has closed its connection.
async fn serve_program(program: &mut TcpStream, service: &mut ServiceStream) -> Option<(Ending, Option<Reason>)> {
    let (session, notices) = (service.session.clone(), Arc::clone(&service.notices));
    let ending = relay(program, service).await;
    match &ending {
        Ending::Unwanted | Ending::Unwritten(_) => {
            service.abandon().await;
            return None;
        }
        Ending::Finished | Ending::Closed => service.finish().await,
        Ending::Broke(_) => service.abandon().await,
    }
    let said = notices.why(&session).await;
    show_end(program, &ending.judge(said)).await;
    Some((ending, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen() {
        for (text, want) in [
            ("8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("127.0.0.2:80", "127.0.0.2:80"),
            ("[::1]:80", "[::1]:80"),
            ("65536", "65536"),
        ] {
            assert_eq!(listen_at(text), want);
        }
    }
}
