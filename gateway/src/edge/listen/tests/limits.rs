//! How many connections there may be, and how they end when the gateway does.

use super::*;

#[tokio::test]
async fn one_prefix_has_so_many_connections() {
    let limits = Limits { connections_per_prefix: 2, ..Limits::default() };
    let rig = Rig::limited(SEPARATE, limits).await;
    let (first, second) = (rig.enroll().await, rig.manage(&rig.holder(Role::Machine, "a")).await);
    rig.open(2).await;
    let mut third = TcpStream::connect(rig.bound.enroll).await.unwrap();
    let mut byte = [0];
    assert!(matches!(timeout(SOON, third.read(&mut byte)).await.unwrap(), Ok(0) | Err(_)));
    rig.counted(r#"lychgate_turned_away_total{reason="prefix"} 1"#).await;
    drop((first, second));
    rig.open(0).await;
    body(&mut rig.enroll().await, "/who").await;
}

#[tokio::test]
async fn the_open_face_has_its_own_limit() {
    let limits = Limits { connections_enroll: 1, connections_enroll_per_prefix: 1, ..Limits::default() };
    let rig = Rig::limited(SHARED, limits).await;
    let mut first = rig.enroll().await;
    body(&mut first, "/who").await;
    assert!(rig.connect(rig.bound.enroll, JOIN, rig.client(None)).await.is_err());
    rig.counted(r#"lychgate_turned_away_total{reason="enroll-prefix"} 1"#).await;
    body(&mut rig.manage(&rig.holder(Role::Machine, "a")).await, "/who").await;
}

#[tokio::test]
async fn a_drain_lets_work_end_and_takes_no_more() {
    let rig = Rig::new(SEPARATE).await;
    let (mut idle, mut busy) = (rig.enroll().await, rig.manage(&rig.holder(Role::Machine, "a")).await);
    body(&mut idle, "/who").await;
    rig.begin(&mut busy, "/polite").await;
    let drain = tokio::spawn(rig.take().drain(SOON));
    let reply = answer(&mut busy).await.unwrap();
    assert!(reply.contains("connection: close") && reply.ends_with("drained"), "{reply}");
    ended(&mut idle).await;
    ended(&mut busy).await;
    assert_eq!(drain.await.unwrap(), Drained { open: 2, cut: 0 });
    assert!(TcpStream::connect(rig.bound.enroll).await.is_err());
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_end() {
    let rig = Rig::new(SEPARATE).await;
    let mut stuck = rig.enroll().await;
    rig.begin(&mut stuck, "/never").await;
    let silent = TcpStream::connect(rig.bound.enroll).await.unwrap();
    let begun = Instant::now();
    let drained = rig.take().drain(Duration::from_millis(100)).await;
    assert_eq!(drained, Drained { open: 1, cut: 1 });
    assert!(begun.elapsed() < AT_ONCE);
    ended(&mut stuck).await;
    drop(silent);
    assert!(rig.live.is_empty());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let rig = Rig::new(SEPARATE).await;
    let parts = ListenerDeps {
        tls: Arc::clone(&rig.tls),
        live: Arc::clone(&rig.live),
        clock: rig.clock.clone(),
        limits: Limits::default(),
        metrics: Arc::clone(&rig.metrics),
        balancers: vec![],
    };
    let error = Server::bind(Listen::Shared(rig.bound.enroll), parts).await.unwrap_err().to_string();
    let want = format!("cannot listen on {}: ", rig.bound.enroll);
    assert!(error.starts_with(&want) && error.ends_with("or stop what listens there"), "{error}");
}

#[tokio::test]
async fn silent_peers_hold_up_nobody_and_end_by_themselves() {
    let limits = Limits { handshake_time: Duration::from_secs(2), ..Limits::default() };
    let rig = Rig::limited(SEPARATE, limits).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(rig.bound.enroll).await.unwrap());
    }
    let mut client = rig.enroll().await;
    body(&mut client, "/who").await;
    for tcp in &mut silent {
        let mut byte = [0];
        // Closed: the end of the stream, or a reset.
        assert!(matches!(timeout(SOON, tcp.read(&mut byte)).await.unwrap(), Ok(0) | Err(_)));
    }
    rig.counted(r#"lychgate_handshakes_total{outcome="too-slow"} 20"#).await;
    body(&mut client, "/who").await;
}
