//! A guarded connection: what is answered, and when it ends.

use super::*;

const TIMES: Times = Times {
    head: Duration::from_secs(10),
    body: Duration::from_secs(15),
    answer: Duration::from_secs(60),
    idle: Duration::from_secs(30),
    write: Duration::from_secs(20),
};

/// What the handler saw: the path and the body, or that the body broke off.
type Seen = Arc<Mutex<Vec<String>>>;

fn status_of(why: BadFraming) -> u16 {
    crate::edge::fronts::native::problem::problem(&why.into(), "i").status
}

/// A connection to the HTTP library behind the guard; the handler takes `think` to answer.
fn served(think: Duration, answer: &'static str) -> (DuplexStream, Seen, Arc<Metrics>) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let seen = Seen::default();
    let metrics = Arc::new(Metrics::new());
    let rules = Arc::new(Rules { times: TIMES, chunked: Chunked::Allowed, metrics: Arc::clone(&metrics) });
    let guarded = Guarded::new(server, rules);
    let log = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let log = Arc::clone(&log);
        async move {
            if let Some(why) = refused(request.method(), request.uri(), request.headers()) {
                let mut response = Response::new(Full::new(bytes::Bytes::new()));
                *response.status_mut() = http::StatusCode::from_u16(status_of(why)).unwrap();
                response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
                return Ok(response);
            }
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await;
            let body =
                body.map_or_else(|_| "broken".to_owned(), |body| String::from_utf8_lossy(&body.to_bytes()).into());
            log.lock().unwrap().push(format!("{path} {body}"));
            tokio::time::sleep(think).await;
            Ok::<_, io::Error>(Response::new(Full::new(bytes::Bytes::from_static(answer.as_bytes()))))
        }
    });
    tokio::spawn(async move {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.header_read_timeout(None).half_close(false).max_buf_size(HEAD_MAX);
        builder.serve_connection(TokioIo::new(guarded), service).await
    });
    (client, seen, metrics)
}

async fn rest(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // The guard may end the connection while we still send; what came before counts.
    let _ = client.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into()
}

async fn sent(client: &mut DuplexStream, bytes: &str) {
    // The guard may have closed already.
    let _ = client.write_all(bytes.as_bytes()).await;
}

const OK: &str = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";

/// Statuses answered to these bytes in pieces, and what the handler saw.
fn answers(pieces: &[&[u8]]) -> (Vec<String>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (answers, seen) = runtime.block_on(async {
        let (mut client, seen, _) = served(Duration::ZERO, "done");
        for piece in pieces {
            // The guard may have closed already.
            let _ = client.write_all(piece).await;
            // Until everybody has done what can be done: time stands still otherwise.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let answers = rest(&mut client).await;
        (answers, seen.lock().unwrap().clone())
    });
    let statuses = answers.split("HTTP/1.").skip(1).filter_map(|answer| answer.get(2..5)).map(str::to_owned);
    (statuses.collect(), seen)
}

/// The same answers however the bytes are cut: whole, in two at each byte, byte by byte.
#[track_caller]
fn served_row(bytes: &str, statuses: &[&str], handled: &[&str]) {
    let want = (
        statuses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        handled.iter().map(ToString::to_string).collect::<Vec<_>>(),
    );
    let bytes = bytes.as_bytes();
    assert_eq!(answers(&[bytes]), want, "{:?}", bytes.escape_ascii().to_string());
    // Long ones are cut at fewer places; 251 has no divisor in common with any buffer.
    let step = if bytes.len() > 1_000 { 251 } else { 1 };
    for at in (1..bytes.len()).step_by(step) {
        let (first, second) = bytes.split_at(at);
        assert_eq!(answers(&[first, second]), want, "cut at {at}: {:?}", bytes.escape_ascii().to_string());
    }
    if step == 1 {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(answers(&single), want, "byte by byte: {:?}", bytes.escape_ascii().to_string());
    }
}

/// Every rule broken once, by its own name: the answer, and nothing handled.
fn refused_rows() -> Vec<(BadFraming, u16, String)> {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
    let row = |why, status, text: &str| (why, status, text.to_owned());
    vec![
        row(BadFraming::BareLf, 400, "GET / HTTP/1.1\nHost: a\n\n"),
        row(BadFraming::BareLf, 400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
        row(BadFraming::BareLf, 400, "\n"),
        row(BadFraming::BareCr, 400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz: b\r\n\r\n"),
        row(BadFraming::Control, 400, "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
        row(BadFraming::Folded, 400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
        row(BadFraming::RequestLine, 400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        row(BadFraming::RequestLine, 400, "\u{16}\u{3}\u{1}"),
        row(BadFraming::Version, 505, "GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
        row(BadFraming::Version, 505, "GET / HTTP/1.0\r\n\r\n"),
        row(BadFraming::Version, 505, "PRI * HTTP/2.0\r\n\r\n"),
        row(BadFraming::Version, 505, "POST /healthz HTTP/1.0\r\n\r\n"),
        row(BadFraming::Version, 505, "GET /healthz HTTP/1.0\r\nContent-Length: 1\r\n\r\nx"),
        row(BadFraming::Target, 400, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
        row(BadFraming::Target, 400, "GET * HTTP/1.1\r\nHost: refused\r\nlychgate-refused: slow\r\n\r\n"),
        row(BadFraming::Target, 400, "GET /a`b HTTP/1.1\r\nHost: a\r\n\r\n"),
        row(BadFraming::Target, 400, "GET /a<b> HTTP/1.1\r\nHost: a\r\n\r\n"),
        row(BadFraming::FieldName, 400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        row(BadFraming::NoHost, 400, "GET / HTTP/1.1\r\nX: a\r\n\r\n"),
        row(BadFraming::TwoHosts, 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        row(BadFraming::BadHost, 400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        row(BadFraming::HostDiffers, 400, "GET https://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (BadFraming::ContentLength, 400, with("Host: a\r\nContent-Length: +1") + "x"),
        (BadFraming::TwoContentLengths, 400, with("Host: a\r\nContent-Length: 1\r\nContent-Length: 1") + "x"),
        (BadFraming::LengthTooLarge, 413, with("Host: a\r\nContent-Length: 18446744073709551615")),
        (BadFraming::LengthTooLarge, 413, with("Host: a\r\nContent-Length: 4294967297")),
        (BadFraming::LengthAndEncoding, 400, with("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked")),
        (BadFraming::TransferEncoding, 400, with("Host: a\r\nTransfer-Encoding: gzip, chunked")),
        (BadFraming::HeadTooLarge, 431, with(&format!("Host: a\r\nX: {}", "x".repeat(20_000)))),
        (BadFraming::TooManyFields, 431, with(&format!("Host: a{}", "\r\nX: y".repeat(FIELDS_MAX)))),
    ]
}

#[test]
fn a_malformed_head_gets_one_answer_however_it_is_cut() {
    for (why, status, request) in refused_rows() {
        let mut framer = Framer::new(Chunked::Allowed);
        assert_eq!(framer.feed(request.as_bytes()).map_err(|refused| refused.why), Err(why), "{request:?}");
        let status = status.to_string();
        served_row(&request, &[&status], &[]);
        // What came before is served; what comes after is not.
        served_row(&format!("{OK}{request}{OK}"), &["200", &status], &["/ok "]);
    }
}

/// Each rule is in the table above, but for what breaks a body and what comes too slowly.
#[test]
fn every_rule_about_heads_has_its_row() {
    let rows: Vec<BadFraming> = refused_rows().iter().map(|row| row.0).collect();
    for why in BadFraming::ALL {
        assert!(rows.contains(&why) || matches!(why, BadFraming::Chunk | BadFraming::Slow), "{why:?}");
        let request = String::from_utf8(stand_in(why)).unwrap();
        assert!(request.contains(why.code()), "{request}");
    }
}

#[test]
fn good_requests_are_served() {
    const CHUNKED: &str = "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    served_row(&format!("{OK}{OK}"), &["200", "200"], &["/ok ", "/ok "]);
    served_row("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", &["200"], &["/p hello"]);
    served_row(&format!("{CHUNKED}2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n{OK}"), &["200", "200"], &["/p hello", "/ok "]);
    // Whoever reads the body is told, and nothing after it is read.
    served_row(&format!("{CHUNKED}2;x=y\r\nhe\r\n0\r\n\r\n{OK}"), &["200"], &["/p broken"]);
    served_row(&format!("{CHUNKED}2\r\nhe\r\n0\r\nX: y\r\n\r\n{OK}"), &["200"], &["/p broken"]);
}

/// Balancers look with HTTP/1.0, without `Host`; whatever they send beside it reaches nobody.
#[test]
fn older_clients_may_look_whether_anybody_is_there() {
    served_row("GET /healthz HTTP/1.0\r\n\r\n", &["200"], &["/healthz "]);
    served_row("HEAD /readyz HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n", &["200"], &["/readyz "]);
    served_row(
        &format!("GET /readyz HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n{OK}"),
        &["200"],
        &["/readyz "],
    );
}

/// Sends pieces a second apart; what came back and after how long the connection ended.
async fn slowly(client: &mut DuplexStream, pieces: impl IntoIterator<Item = &str>) -> (String, Duration) {
    let begun = Instant::now();
    for piece in pieces {
        if client.write_all(piece.as_bytes()).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    (rest(client).await, begun.elapsed())
}

fn letters(text: &str) -> impl Iterator<Item = &str> {
    text.split("").filter(|letter| !letter.is_empty())
}

#[tokio::test(start_paused = true)]
async fn a_head_of_one_byte_a_second_ends_after_its_time() {
    let (mut client, seen, metrics) = served(Duration::ZERO, "");
    let (answer, took) = slowly(&mut client, letters("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(seen.lock().unwrap().len(), 0);
    assert!((10..=12).contains(&took.as_secs()), "{took:?}");
    assert!(metrics.render().contains(r#"lychgate_timeouts_total{reason="head"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_body_of_one_byte_a_second_ends_after_its_time() {
    let (mut client, seen, metrics) = served(Duration::ZERO, "");
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n";
    let body = "x".repeat(100);
    let (_, took) = slowly(&mut client, [head].into_iter().chain(letters(&body))).await;
    assert_eq!(*seen.lock().unwrap(), ["/ broken"]);
    assert!((15..=17).contains(&took.as_secs()), "{took:?}");
    assert!(metrics.render().contains(r#"lychgate_timeouts_total{reason="body"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_ends_after_its_time() {
    let (mut client, _, metrics) = served(Duration::ZERO, "");
    let (answer, took) = slowly(&mut client, []).await;
    assert_eq!((answer.as_str(), took.as_secs()), ("", 30));
    assert!(metrics.render().contains(r#"lychgate_timeouts_total{reason="idle"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn the_idle_clock_starts_anew_with_each_answer() {
    let (mut client, seen, _) = served(Duration::ZERO, "");
    let begun = Instant::now();
    for _ in 0..3 {
        sent(&mut client, OK).await;
        tokio::time::sleep(Duration::from_secs(25)).await;
    }
    let answers = rest(&mut client).await;
    assert_eq!((answers.matches("200 OK").count(), seen.lock().unwrap().len()), (3, 3));
    assert_eq!(begun.elapsed().as_secs(), 80);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_is_not_idle() {
    let (mut client, _, _) = served(Duration::from_secs(50), "late");
    let (answer, took) = slowly(&mut client, [OK]).await;
    assert!(answer.ends_with("late"), "{answer}");
    assert_eq!(took.as_secs(), 80);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_answers_is_given_up() {
    let (mut client, _, metrics) = served(Duration::from_secs(1_000), "late");
    let (answer, took) = slowly(&mut client, [OK]).await;
    assert_eq!((answer.as_str(), took.as_secs()), ("", 60));
    assert!(metrics.render().contains(r#"lychgate_timeouts_total{reason="answer"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_ends_after_its_time() {
    static LARGE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| "x".repeat(1024 * 1024));
    let (mut client, _, metrics) = served(Duration::ZERO, LARGE.as_str());
    sent(&mut client, OK).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(metrics.render().contains(r#"lychgate_timeouts_total{reason="write"} 1"#));
    assert!(rest(&mut client).await.len() < LARGE.len());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_but_reads_gets_everything() {
    static LARGE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| "x".repeat(1024 * 1024));
    let (mut client, _, _) = served(Duration::ZERO, LARGE.as_str());
    sent(&mut client, OK).await;
    let (mut buffer, mut got) = (vec![0; 32 * 1024], 0);
    loop {
        match client.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => got += count,
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(got > LARGE.len());
}

#[tokio::test(start_paused = true)]
async fn a_refused_peer_can_read_the_answer_while_it_still_sends() {
    let (client, server) = tokio::io::duplex(1024);
    let metrics = Arc::new(Metrics::new());
    let rules = Arc::new(Rules { times: TIMES, chunked: Chunked::Refused, metrics });
    let mut guarded = Guarded::new(server, rules);
    let (mut reading, mut writing) = tokio::io::split(client);
    let sender = tokio::spawn(async move { writing.write_all(&[b'\n'; 10_000]).await });
    let mut buffer = vec![0; 4096];
    let read = guarded.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], stand_in(BadFraming::BareLf), "the stand-in");
    guarded.write_all(b"400").await.unwrap();
    let mut closing = pin!(guarded.shutdown());
    tokio::select! {
        biased;
        sent = sender => sent.unwrap().unwrap(),
        closed = &mut closing => panic!("closed with {closed:?} while the peer was sending"),
    }
    let mut answer = [0; 3];
    reading.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"400");
    let begun = Instant::now();
    closing.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 1, "and not for ever");
}
