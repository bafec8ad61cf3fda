//! The gateway and clients are killed at random times under load. Afterwards every issued certificate is recorded, no serial was used
//! twice, no token was redeemed for two keys, and all clients work without intervention.
//!
//! `LYCHGATE_KILLS` sets the number of kills (100), `LYCHGATE_SEED` the times; a failure prints the seed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tests::cli::Lychgate;
use tests::device::{self, Held};
use tests::gateway::{Gateway, Setup};
use tests::load::{self, Dice, Load};
use tests::program::Program;
use tests::wait::{PATIENCE, eventually};

/// Concurrent clients that are killed too.
const REAL_CLIENTS: usize = 2;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Kills the gateway this often at random times; every start must succeed.
fn kill_repeatedly(gateway: &mut Gateway, kills: u64, dice: &mut Dice) {
    for _ in 0..kills {
        // From the middle of the start to well into the load.
        if dice.below(8) == 0 {
            std::thread::sleep(dice.millis(0, 100));
        } else {
            gateway.wait_healthy();
            std::thread::sleep(dice.millis(20, 900));
        }
        gateway.kill();
        gateway.launch();
    }
    gateway.wait_healthy();
}

/// A client program that is killed while it joins and renews.
fn batter(machine: &Lychgate, token: &str, load: &Load, dice: &mut Dice) {
    let run = |args: &[&str], dice: &mut Dice| {
        let mut program: Program = machine.start(args);
        let until = Instant::now() + dice.millis(5, 1_500);
        while program.runs() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        program.kill();
    };
    while !load.stopped() {
        if machine.file("cert.pem").exists() {
            run(&["renew", "--force"], dice);
        } else {
            run(&["join", token, "--name", machine.dir().file_name().unwrap().to_str().unwrap()], dice);
        }
    }
}

/// The result of the load.
struct Left {
    load: Arc<Load>,
    held: Vec<Held>,
    clients: Vec<Lychgate>,
}

async fn under_load(gateway: &mut Gateway, kills: u64, seed: u64) -> Left {
    let (alice, roots) = (gateway.first_person(), gateway.roots());
    let tokens = load::tokens(&gateway.manage(), &roots, &alice.identity(), 20 + 2 * kills).await;
    let load = Load::on(gateway.enroll(), gateway.manage(), &roots, tokens);
    let machines = load.start();
    let clients: Vec<Lychgate> = (0..REAL_CLIENTS).map(|i| gateway.client(&format!("real-{i}"))).collect();
    let mine: Vec<String> = clients.iter().map(|_| load.next_token().unwrap()).collect();
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for (i, (client, token)) in clients.iter().zip(&mine).enumerate() {
                let (load, mut dice) = (&load, Dice::new(seed.wrapping_add(i as u64 + 1)));
                scope.spawn(move || batter(client, token, load, &mut dice));
            }
            let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                kill_repeatedly(gateway, kills, &mut Dice::new(seed));
            }));
            // Also when a start failed, or the scope would wait for ever.
            load.stop();
            if let Err(panic) = killed {
                std::panic::resume_unwind(panic);
            }
        });
    });
    // A client that was never let finish its joining does so now, without help.
    for (client, token) in clients.iter().zip(&mine) {
        if !client.file("cert.pem").exists() {
            let name = client.dir().file_name().unwrap().to_str().unwrap().to_owned();
            client.ok(&["join", token, "--name", &name]);
        }
    }
    let finished = tokio::time::timeout(4 * PATIENCE, machines.join_all()).await;
    let held = finished.expect("the load does not come to an end").into_iter().flatten().collect();
    Left { load, held, clients }
}

async fn kill_and_check(engine: &str, kills: u64) {
    let seed = setting("LYCHGATE_SEED", u64::from_be_bytes(device::random()[..8].try_into().unwrap()));
    eprintln!("LYCHGATE_SEED={seed} LYCHGATE_KILLS={kills} ({engine})");
    let mut gateway = Setup::default().engine(engine).no_limits().cheap_keys().start();
    let left = under_load(&mut gateway, kills, seed).await;
    left.load.assert_everybody_gets_on(&left.held).await;
    for client in &left.clients {
        eventually("a real client renews", PATIENCE, || (client.run(&["renew", "--force"]).code == 0).then_some(()));
        client.ok(&["status"]);
        left.load.ledger.enter(&client.identity().chain[0]);
    }
    let renewed = left.load.renewed();
    eprintln!("{renewed} renewals, {} certificates held", left.load.ledger.len());
    assert!(renewed as u64 > kills, "hardly any load: {renewed} renewals");
    let _ = gateway.stop();
    left.load.ledger.assert_recorded(&gateway.export());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_a_hundred_times_on_sled() {
    kill_and_check("sled", setting("LYCHGATE_KILLS", 100)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_again_and_again_on_redb() {
    kill_and_check("redb", setting("LYCHGATE_KILLS", 100) / 4).await;
}
