//! Figures 3 and 4: operations on new connections, compared with handshakes alone.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::WORKERS;
use super::fleet::{Cost, Site, keys, measure};
use crate::device::{self, Held, Key, Outcome};
use crate::http::{Connection, Face, handshake};

/// A handshake alone: connect, handshake, close_notify, and wait for that of the server. Without the wait the server might not have
/// processed the client's last flight (RFC 8446 4.4.4).
async fn bare(face: &Face, config: &Arc<ClientConfig>) -> io::Result<()> {
    let mut stream = handshake(face, config).await?;
    stream.shutdown().await?;
    let mut rest = [0; 64];
    loop {
        match stream.read(&mut rest).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // A server may close without sending a close_notify after ours.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof || e.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(());
            }
            Err(e) => return Err(e),
        }
    }
}

/// One round of handshakes with a process. The configurations are used in rotation.
pub async fn handshakes(pid: u32, face: &Face, configs: &[Arc<ClientConfig>], count: usize) -> Cost {
    let each = count.div_ceil(WORKERS);
    measure(pid, each * WORKERS, async {
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let (face, config) = (face.clone(), Arc::clone(&configs[worker % configs.len()]));
            workers.spawn(async move {
                for _ in 0..each {
                    bare(&face, &config).await.unwrap();
                }
            });
        }
        workers.join_all().await;
    })
    .await
}

/// One round of complete enrollments: new connection, token, proof, certificate.
pub async fn enrollments(site: &Site, count: usize, prefix: &str) -> Cost {
    let tokens = site.tokens(count).await;
    let queue: VecDeque<(usize, String, Key)> =
        tokens.into_iter().zip(keys(count)).enumerate().map(|(i, (token, key))| (i, token, key)).collect();
    let queue = Arc::new(Mutex::new(queue));
    let config = site.anonymous();
    measure(site.id(), count, async {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let (queue, face, config) = (Arc::clone(&queue), site.enroll.clone(), Arc::clone(&config));
            let prefix = prefix.to_owned();
            workers.spawn(async move {
                while let Some((i, token, key)) = next(&queue) {
                    let request = device::request(&key, Some(&format!("{prefix}-{i}")), Some(&token));
                    let outcome = device::enroll(&face, &config, &key, &request).await.unwrap();
                    assert!(matches!(outcome, Outcome::Issued(_)), "not admitted: {outcome:?}");
                }
            });
        }
        workers.join_all().await;
    })
    .await
}

/// One round of renewals, each on a new connection with the certificate of the previous renewal, which it activates: what a machine does
/// once in a certificate's lifetime.
pub async fn renewals(site: &Site, machines: Vec<Held>, count: usize) -> (Cost, Vec<Held>) {
    let each = count.div_ceil(machines.len());
    let count = each * machines.len();
    let mut all = keys(count);
    let work: Vec<(Held, Vec<Key>)> =
        machines.into_iter().map(|held| (held, all.split_off(all.len() - each))).collect();
    let mut renewed = Vec::new();
    let cost = measure(site.id(), count, async {
        let mut workers = JoinSet::new();
        for (mut held, keys) in work {
            let face = site.manage.clone();
            workers.spawn(async move {
                for key in keys {
                    let mut connection = Connection::open(&face, &held.config()).await.unwrap();
                    let outcome = device::renew_on(&mut connection, &key).await.unwrap();
                    held = match outcome {
                        Outcome::Issued(reply) => Held { reply: *reply, key },
                        other => panic!("renewal refused: {other:?}"),
                    };
                }
                held
            });
        }
        renewed = workers.join_all().await;
    })
    .await;
    (cost, renewed)
}

pub(super) fn next<T>(queue: &Mutex<VecDeque<T>>) -> Option<T> {
    queue.lock().unwrap().pop_front()
}
