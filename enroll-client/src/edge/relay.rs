//! Relays between a local program and a service: `forward` for a person's programs, `run --reach` for a machine's.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, copy_buf};
use tokio::net::TcpStream;

use super::serve::{BUFFER, reset};
use crate::core::ending::{Completeness, Ending};

/// Relays until the service has ended its direction, or either side fails.
pub async fn relay<IO: AsyncRead + AsyncWrite + Unpin>(program: &mut TcpStream, service: &mut IO) -> Ending {
    let (mut from_program, mut to_program) = program.split();
    let (mut from_service, mut to_service) = tokio::io::split(service);
    let outwards = async {
        let sent = copy_buf(&mut BufReader::with_capacity(BUFFER, &mut from_program), &mut to_service).await;
        (sent.is_ok() && to_service.shutdown().await.is_ok()).then_some(())
    };
    tokio::pin!(outwards);
    let ended = {
        let inwards = pass_on(&mut from_service, &mut to_program);
        tokio::pin!(inwards);
        tokio::select! {
            biased;
            ending = &mut inwards => ending.unwrap_or(Ending::Finished),
            _ = &mut outwards => inwards.await.unwrap_or(Ending::Closed),
        }
    };
    if let Ending::Finished = ended {
        // Only the service's direction has ended; the program may still send.
        let _ = to_program.shutdown().await;
        let _ = outwards.await;
    }
    ended
}

/// Ends a program's connection. If the data is incomplete by a TCP reset, because the program would take an orderly end for the end
/// of the data.
pub async fn show_end(program: &mut TcpStream, judged: &Completeness) {
    if *judged == Completeness::Complete {
        let _ = program.shutdown().await;
    } else {
        reset(program);
    }
}

/// Copies until end of file; returns the reason if it stopped before.
pub async fn pass_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> Option<Ending> {
    let mut space = vec![0; BUFFER];
    loop {
        let read = match from.read(&mut space).await {
            Ok(0) => return None,
            Ok(read) => read,
            Err(error) => return Some(Ending::Broke(error)),
        };
        let piece = space.get(..read).unwrap_or_default();
        let written: io::Result<()> = async {
            to.write_all(piece).await?;
            to.flush().await
        }
        .await;
        if let Err(error) = written {
            return Some(Ending::unwritten(error));
        }
    }
}
