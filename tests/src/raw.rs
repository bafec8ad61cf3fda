//! Raw bytes over TLS, for requests that no HTTP library would send.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use socket2::{Domain, Socket, Type};

use crate::http::Face;

/// Time limit for the next bytes of the server.
const SILENCE: Duration = Duration::from_secs(20);

/// A TLS connection, blocking.
pub struct Raw {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// Bytes read beyond the last response: responses to pipelined requests may arrive together.
    ahead: Vec<u8>,
}

impl Raw {
    /// TCP connection and TLS handshake. `name` is the SNI; for an address none is sent.
    pub fn open(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, SILENCE)?, name, config)
    }

    /// Connects to a face, with the local address in it.
    pub fn to(face: &Face, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(source) = face.source {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.connect_timeout(&face.address.into(), SILENCE)?;
        Self::over(socket.into(), &face.name, config)
    }

    fn over(tcp: TcpStream, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(SILENCE))?;
        tcp.set_write_timeout(Some(SILENCE))?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream, ahead: Vec::new() })
    }

    /// Writes all of `bytes`.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Reads one response with a `Content-Length`: its status and body.
    pub fn response(&mut self) -> io::Result<(u16, String)> {
        self.full_response().map(|(status, _, body)| (status, body))
    }

    /// As [`Raw::response`], with the head.
    pub fn full_response(&mut self) -> io::Result<(u16, String, String)> {
        let mut bytes = std::mem::take(&mut self.ahead);
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            self.more(&mut bytes)?;
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let status = head.get(9..12).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {head}")))?;
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse::<usize>().ok())
            .unwrap_or(0);
        let end = head_end + 4 + length;
        while bytes.len() < end {
            self.more(&mut bytes)?;
        }
        self.ahead = bytes.split_off(end);
        Ok((status, head, String::from_utf8_lossy(&bytes[head_end + 4..]).into_owned()))
    }

    /// Reads `count` bytes.
    pub fn read_some(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.ahead);
        while bytes.len() < count {
            self.more(&mut bytes)?;
        }
        self.ahead = bytes.split_off(count);
        Ok(bytes)
    }

    /// Reads until the server has closed or reset the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.ahead);
        while self.more(&mut bytes).is_ok() {}
        bytes
    }

    /// The next bytes; empty at end of file.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.ahead);
        if bytes.is_empty() {
            bytes = vec![0; 64 * 1024];
            let read = self.stream.read(&mut bytes)?;
            bytes.truncate(read);
        }
        Ok(bytes)
    }

    /// Waits up to [`SILENCE`] for the server to close; whether it has.
    pub fn closed(&mut self) -> bool {
        if !self.ahead.is_empty() {
            return false;
        }
        let mut byte = [0; 1];
        match self.stream.read(&mut byte) {
            Ok(n) => n == 0,
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// The server's certificates.
    #[must_use]
    pub fn peer_chain(&self) -> Vec<Vec<u8>> {
        self.stream.conn.peer_certificates().unwrap_or_default().iter().map(|cert| cert.to_vec()).collect()
    }

    /// The TCP connection, to set its options.
    pub fn tcp(&self) -> &TcpStream {
        &self.stream.sock
    }

    fn more(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the response was complete")),
            n => {
                bytes.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }
}

/// One plain GET; `None` when there is no complete answer.
#[must_use]
pub fn get(address: SocketAddr, name: &str, config: &Arc<ClientConfig>, path: &str) -> Option<(u16, String)> {
    let mut raw = Raw::open(address, name, config).ok()?;
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    raw.response().ok()
}
