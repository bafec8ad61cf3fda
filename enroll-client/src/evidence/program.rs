//! Programs that are run for evidence, and `curl` among them: it knows the CAs and the proxy of the system. Addresses and secrets go to
//! its standard input, since arguments can be seen by other users.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// Time limit of a program.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Longest answer that is read, in bytes: a gateway takes tokens and documents of 16 KiB, and some come in JSON or in base64.
pub const ANSWER_MAX: u64 = 32 * 1024;

/// The system's shell, with a line to run.
#[cfg(unix)]
pub fn shell(line: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]);
    command
}

/// The same.
#[cfg(not(unix))]
pub fn shell(line: &str) -> Command {
    let mut command = Command::new("cmd");
    command.args(["/C", line]);
    command
}

/// Percent-encoded for a query (RFC 3986 2.3).
#[must_use]
pub fn in_url(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let encoded = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encoded).collect()
}

/// Where a URL leads.
#[derive(Copy, Clone, Debug)]
pub enum Leads {
    /// To an issuer in the internet, by whatever proxy the system has.
    Out,
    /// To this machine's own cloud, which no proxy may see.
    Inside,
}

/// What is done at a URL.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// PUT, of nothing.
    Put,
}

/// What a URL gives. Nothing is followed elsewhere.
pub async fn curl(method: Method, url: &str, leads: Leads, header: &str) -> Result<Vec<u8>, String> {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    if url.contains(['\r', '\n']) || header.contains(['\r', '\n']) {
        return Err("the address or the secret of the issuer has a line end".to_owned());
    }
    let input = format!("url = \"{}\"\nheader = \"{}\"\n", quoted(url), quoted(header));
    let mut command = Command::new("curl");
    let seconds = LIMIT.as_secs().to_string();
    command.args(["-q", "--silent", "--show-error", "--fail", "--max-time", &seconds, "--config", "-"]);
    match leads {
        Leads::Out => command.args(["--proto", "=https"]),
        Leads::Inside => command.args(["--proto", "=http", "--noproxy", "*"]),
    };
    if method == Method::Put {
        command.args(["--request", "PUT"]);
    }
    run(command, input.as_bytes(), "curl").await
}

/// What a program prints, which is given this on its standard input.
pub async fn run(mut command: Command, input: &[u8], called: &str) -> Result<Vec<u8>, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{called} cannot be run: {error}"))?;
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            // If the program has ended already, its status says so.
            let _ = stdin.write_all(input).await;
        }
        let (mut printed, mut told) = (Vec::new(), Vec::new());
        let out = child.stdout.take().ok_or_else(|| format!("{called} has no output"))?;
        let err = child.stderr.take().ok_or_else(|| format!("{called} has no output"))?;
        let (mut out, mut err) = (out.take(ANSWER_MAX), err.take(ANSWER_MAX));
        let (printed_all, told_all) = tokio::join!(out.read_to_end(&mut printed), err.read_to_end(&mut told));
        printed_all.and(told_all).map_err(|error| format!("{called}: {error}"))?;
        let status = child.wait().await.map_err(|error| format!("{called}: {error}"))?;
        if status.success() {
            return Ok(printed);
        }
        let told = String::from_utf8_lossy(&told);
        // the first line has the cause; what follows is advice
        let why = told.trim_start().lines().next().unwrap_or("no reason was given").to_owned();
        Err(format!("{called} failed ({status}): {why}"))
    };
    tokio::time::timeout(LIMIT, work)
        .await
        .unwrap_or_else(|_| Err(format!("{called} did not end within {} s", LIMIT.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_in_urls() {
        assert_eq!(in_url("lychgate://td.example/00ff"), "lychgate%3A%2F%2Ftd.example%2F00ff");
        assert_eq!(in_url("a b&c=\u{e4}~"), "a%20b%26c%3D%C3%A4~");
    }

    /// A server that answers one request with this, and gives what it was sent.
    async fn answering(answer: String) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (port, asked)
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn curl_asks_with_the_secret_and_follows_nobody() {
        let (port, asked) = answering(http("200 OK", "hello")).await;
        let url = format!("http://127.0.0.1:{port}/token?a=%22");
        assert_eq!(
            curl(Method::Get, &url, Leads::Inside, "Authorization: bearer a\"b\\c").await,
            Ok(b"hello".to_vec())
        );
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("GET /token?a=%22 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("\r\nAuthorization: bearer a\"b\\c\r\n"), "{asked}");
        for status in ["302 Found\r\nLocation: http://127.0.0.1:1/", "403 Forbidden"] {
            let (port, _) = answering(http(status, "moved")).await;
            let got = curl(Method::Get, &format!("http://127.0.0.1:{port}/"), Leads::Inside, "a: b").await;
            match got {
                Ok(text) => assert!(status.starts_with("302") && text == b"moved", "{text:?}"),
                Err(why) => assert!(status.starts_with("403") && why.contains("403"), "{why}"),
            }
        }
        let why = curl(Method::Get, "http://127.0.0.1:1/", Leads::Out, "a: b").await.unwrap_err();
        assert!(why.starts_with("curl failed"), "{why}");
        assert!(curl(Method::Get, "http://127.0.0.1:1/", Leads::Inside, "a: b\nc: d").await.is_err());
    }
}
