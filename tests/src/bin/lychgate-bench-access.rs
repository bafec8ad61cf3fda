//! Measures access to services: tunnels, their streams, and Ansible; prints a table, and writes JSON to the path given.
//!
//! `tests/bench/run --access` builds everything and calls it. `--quick` uses small counts, for a test of the benchmark.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot be run fails by panicking"
)]

use std::path::Path;
use std::time::Duration;

use tests::bench::access::ansible::{Controller, Via};
use tests::bench::access::haproxy::Haproxy;
use tests::bench::access::idle::Fleet;
use tests::bench::access::keystrokes::{Bulk, Typed, TypingStage};
use tests::bench::access::rathole::Rathole;
use tests::bench::access::relay::Line;
use tests::bench::access::service::{Direction, Kind, Service};
use tests::bench::access::ssh::SshStage;
use tests::bench::access::stage::Stage;
use tests::bench::access::throughput::{self, Carried};
use tests::bench::access::{AccessSize, herd, idle, opening, storm};
use tests::bench::meter::{float, median};
use tests::bench::report::{Better, Figure, Promise, Report, machine};
use tests::gateway::Setup;

fn main() {
    let mut size = AccessSize::FULL;
    let mut quick = false;
    let mut path = None;
    let mut only = String::from("12345678");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tests::program::raise_descriptor_limit();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => (size, quick) = (AccessSize::QUICK, true),
            "--only" => only = args.next().expect("--only takes the numbers of figures, such as 23"),
            // Child process of this program.
            "--herd" => return runtime.block_on(herd::work(Path::new(&args.next().unwrap()))),
            other if other.starts_with('-') => {
                panic!("unknown argument `{other}`; usage: lychgate-bench-access [--quick] [--only FIGURES] [FILE]")
            }
            other => path = Some(other.to_owned()),
        }
    }
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let figures = runtime.block_on(measure(size, &only));
    let report = Report { machine: machine(), build, quick, figures };
    println!("{}", report.table());
    if let Some(path) = path {
        std::fs::write(&path, serde_json::to_string_pretty(&report).unwrap() + "\n")
            .unwrap_or_else(|e| panic!("cannot write {path}: {e}"));
    }
}

async fn measure(size: AccessSize, only: &str) -> Vec<Figure> {
    let wanted = |figure: char| only.contains(figure);
    let mut figures = Vec::new();
    let mut note = |more: Vec<Figure>| {
        for figure in more {
            eprintln!("{}", figure.line().trim_end());
            figures.push(figure);
        }
    };
    if wanted('1') || wanted('5') {
        let most = if wanted('1') { size.tunnels[1] } else { size.tunnels[0] };
        say(&format!("{most} machines join"));
        let mut fleet = Fleet::new(most).await;
        if wanted('1') {
            say("1: idle tunnels");
            for tunnels in size.tunnels {
                note(memory(&idle::measure(&mut fleet, tunnels, size).await));
            }
        }
        if wanted('5') {
            say("5: a storm");
            note(stormy(&storm::measure(&mut fleet, size.tunnels[0]).await, size.tunnels[0]));
        }
    }
    if wanted('2') {
        say("2: throughput");
        note(carried(size).await);
    }
    if wanted('3') {
        say("3: opening a stream");
        note(opened(size).await);
    }
    if wanted('4') {
        say("4: Ansible");
        note(played(size));
    }
    if wanted('6') {
        say("6: rathole");
        note(peers(size).await);
    }
    if wanted('8') {
        say("8: scp");
        note(copied(size).await);
    }
    if wanted('7') {
        say("7: typing beside a transfer");
        note(typed(size).await);
    }
    figures
}

fn say(what: &str) {
    eprintln!("measuring {what}");
}

fn figure(number: &'static str, name: String, rounds: Vec<f64>, unit: &'static str, promise: Promise) -> Figure {
    Figure { number, name: name.leak(), value: median(&rounds), unit, promise, rounds, from: String::new() }
}

fn from(mut figure: Figure, from: String) -> Figure {
    figure.from = from;
    figure
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The percentile `hundredths`.
fn at(sorted: &[Duration], hundredths: usize) -> Duration {
    sorted[(sorted.len() * hundredths / 100).min(sorted.len() - 1)]
}

fn memory(seen: &idle::TunnelMemory) -> Vec<Figure> {
    let tunnels = seen.tunnels;
    let mib = |kib: u64| float(kib) / 1024.0;
    let each = figure(
        "1a",
        format!("gateway memory of each of {tunnels} idle tunnels"),
        vec![seen.each()],
        "KiB",
        Promise::AtMost(20.0),
    );
    let left = figure(
        "1b",
        "  resident after they left / before they came".to_owned(),
        vec![seen.left()],
        "",
        Promise::AtMost(1.1),
    );
    let told = format!("{:.0} MiB before, {:.0} with, {:.0} after", mib(seen.before), mib(seen.with), mib(seen.after));
    let grown = figure(
        "1c",
        "  resident after they came and left again / the first time".to_owned(),
        vec![seen.grown()],
        "",
        Promise::AtMost(1.05),
    );
    vec![from(each, told), left, grown]
}

fn stormy(seen: &storm::Storm, tunnels: usize) -> Vec<Figure> {
    let window = seen.window.as_secs_f64();
    let [half, most, all] = seen.back.map(|time| time.as_secs_f64());
    let back = figure(
        "5a",
        format!("{tunnels} lost tunnels all back / window they are told"),
        vec![all / window],
        "",
        Promise::AtMost(1.1),
    );
    let told = format!(
        "{half:.1} s half, {most:.1} s 99 %, {all:.1} s all, of {window:.0} s; away {:.1} s, {} failed attempts",
        seen.away.as_secs_f64(),
        seen.failed
    );
    let slowest = seen.calls.last().copied().unwrap_or_default();
    let calls = figure(
        "5b",
        "slowest CONNECT to a first byte meanwhile".to_owned(),
        vec![slowest.as_secs_f64()],
        "s",
        Promise::Below(2.0),
    );
    let counted = format!(
        "{} calls, p50 {:.0} ms, p99 {:.0} ms",
        seen.calls.len(),
        millis(at(&seen.calls, 50)),
        millis(at(&seen.calls, 99))
    );
    vec![from(back, told), from(calls, counted)]
}

async fn carried(size: AccessSize) -> Vec<Figure> {
    let stage = Stage::set(Setup::default()).await;
    let Some(haproxy) = Haproxy::start(stage.carrier.at()).await else {
        eprintln!("figure 2 left out: no haproxy here");
        return vec![];
    };
    let mut figures = Vec::new();
    for (number, direction, streams) in
        [("2a", Direction::Down, 1), ("2b", Direction::Down, 32), ("2c", Direction::Up, 1), ("2d", Direction::Up, 32)]
    {
        // The first round grows buffers and windows on both sides, and is not counted.
        let pairs = throughput::measure(&stage, &haproxy, direction, streams, size.rounds + 1, size.bytes).await;
        let pairs = &pairs[1..];
        let ratios = pairs.iter().map(|(ours, theirs)| ours.rate() / theirs.rate()).collect();
        let direction = if direction == Direction::Down { "to the person" } else { "to the service" };
        let name = format!("{streams} stream{} {direction} / haproxy pair", if streams == 1 { "" } else { "s" });
        let one = figure(number, name, ratios, "", Promise::AtLeast(0.8));
        figures.push(from(one, rates(pairs)));
    }
    figures
}

fn rates(pairs: &[(Carried, Carried)]) -> String {
    let middle = |pick: &dyn Fn(&(Carried, Carried)) -> f64| median(&pairs.iter().map(pick).collect::<Vec<_>>());
    format!(
        "{:.0} / {:.0} MB/s; CPU-s per GB {:.1} + {:.1} / {:.1} + {:.1}",
        middle(&|pair| pair.0.rate()),
        middle(&|pair| pair.1.rate()),
        middle(&|pair| pair.0.cpu()[0]),
        middle(&|pair| pair.0.cpu()[1]),
        middle(&|pair| pair.1.cpu()[0]),
        middle(&|pair| pair.1.cpu()[1])
    )
}

async fn copied(size: AccessSize) -> Vec<Figure> {
    let stage = SshStage::start(1);
    let haproxy = Haproxy::start(stage.sshd()).await;
    let file = stage.gateway.room().join("copied");
    std::fs::File::create(&file).unwrap().set_len(size.bytes).unwrap();
    let rate = |config: &Path| float(size.bytes) / 1e6 / stage.copy(config, &file).as_secs_f64();
    let mut routes = vec![("8a", "scp through the gateway / scp over TCP", stage.direct.clone())];
    if let Some(haproxy) = &haproxy {
        routes.push(("8b", "scp through the gateway / haproxy pair and openssl", stage.by(&haproxy.command())));
    }
    let mut figures = Vec::new();
    for (number, name, theirs) in routes {
        let pairs: Vec<(f64, f64)> = (0..size.rounds).map(|_| (rate(&stage.through), rate(&theirs))).collect();
        let ratios = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
        let middle = |pick: fn(&(f64, f64)) -> f64| median(&pairs.iter().map(pick).collect::<Vec<_>>());
        let told = format!("{:.0} / {:.0} MB/s", middle(|pair| pair.0), middle(|pair| pair.1));
        figures.push(from(figure(number, name.to_owned(), ratios, "", Promise::AtLeast(0.8)), told));
    }
    figures
}

async fn opened(size: AccessSize) -> Vec<Figure> {
    let stage = Stage::set(Setup::default()).await;
    let _warm = opening::measure(&stage, size.opened / 10).await;
    let seen = opening::measure(&stage, size.opened).await;
    let (ours, theirs) = (at(&seen.through, 50), at(&seen.direct, 50));
    let told = format!(
        "p50 {:.1} / {:.1} ms, p99 {:.1} / {:.1} ms",
        millis(ours),
        millis(theirs),
        millis(at(&seen.through, 99)),
        millis(at(&seen.direct, 99))
    );
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let name = "CONNECT to a first byte / mTLS to the service, p50".to_owned();
    vec![from(figure("3", name, vec![ratio], "", Promise::AtMost(2.5)), told)]
}

fn played(size: AccessSize) -> Vec<Figure> {
    let stage = SshStage::start(size.machines);
    let Some(controller) = Controller::new(&stage) else {
        eprintln!("figure 4 left out: no Ansible here");
        return vec![];
    };
    let _warm = controller.ping(Via::Straight);
    let compare = |number, what: &str, rounds: usize, run: &dyn Fn(Via) -> Duration| {
        let pairs: Vec<(Duration, Duration)> = (0..rounds).map(|_| (run(Via::Gateway), run(Via::Straight))).collect();
        let ratios = pairs.iter().map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect();
        let middle = |pick: fn(&(Duration, Duration)) -> Duration| {
            median(&pairs.iter().map(|pair| pick(pair).as_secs_f64()).collect::<Vec<_>>())
        };
        let told = format!("{:.1} / {:.1} s", middle(|pair| pair.0), middle(|pair| pair.1));
        let name = format!("Ansible, {what} {} machines / straight", size.machines);
        from(figure(number, name, ratios, "", Promise::AtMost(1.3)), told)
    };
    vec![
        compare("4a", "ping of", 3, &|via| controller.ping(via)),
        compare("4b", "20 tasks on", 1, &|via| controller.play(via)),
    ]
}

async fn peers(size: AccessSize) -> Vec<Figure> {
    let carrier = Service::start(Kind::Carrier, None).await;
    let Some(rathole) = Rathole::start(size.peers, &carrier).await else {
        eprintln!("figure 6 left out: no rathole here");
        return vec![];
    };
    let idle = figure(
        "6a",
        format!("rathole, server memory of each of {} idle clients", size.peers),
        vec![rathole.each()],
        "KiB",
        Promise::Beside(Better::Neither),
    );
    drop(rathole);
    let stage = Stage::set(Setup::default()).await;
    let rathole = Rathole::start(1, &stage.carrier).await.unwrap();
    let ours = throughput::Route::Gateway(stage.proxy.clone(), stage.config.clone());
    let theirs = throughput::Route::Tcp(rathole.at());
    let mut figures = vec![idle];
    for (number, streams) in [("6b", 1), ("6c", 32)] {
        let mut pairs = Vec::new();
        for _ in 0..=size.rounds {
            let ids = [stage.gateway.id(), stage.machine_id()];
            let one = throughput::carry(&ours, ids, Direction::Down, streams, size.bytes).await;
            let other = throughput::carry(&theirs, rathole.ids(), Direction::Down, streams, size.bytes).await;
            pairs.push((one, other));
        }
        let pairs = &pairs[1..];
        let ratios = pairs.iter().map(|(ours, theirs)| ours.rate() / theirs.rate()).collect();
        let name = format!("{streams} stream{} / rathole with TLS", if streams == 1 { "" } else { "s" });
        figures.push(from(figure(number, name, ratios, "", Promise::Beside(Better::Higher)), rates(pairs)));
    }
    figures
}

async fn typed(size: AccessSize) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (line, where_, numbers) in
        [(None, "loopback", ["7a", "7b", "7c"]), (Some(Line::SLOW), "20 Mbit/s, 20 ms", ["7d", "7e", "7f"])]
    {
        let stage = TypingStage::set(line).await;
        let bulk = if line.is_some() { Bulk::Seconds(size.slow_secs) } else { Bulk::Bytes(size.bulk) };
        for (number, direction, what) in [
            (numbers[0], None, "alone"),
            (numbers[1], Some(Direction::Down), "beside a download"),
            (numbers[2], Some(Direction::Up), "beside an upload"),
        ] {
            let (ours, theirs) = (stage.through_gateway(direction, bulk).await, stage.directly(direction, bulk).await);
            figures.push(keys(number, format!("key p99, {where_}, {what}"), &ours, &theirs));
        }
    }
    figures
}

fn keys(number: &'static str, name: String, ours: &Typed, theirs: &Typed) -> Figure {
    let told = |typed: &Typed| {
        let rate = if typed.rate > 0.0 { format!(", {:.0} MB/s", typed.rate / 1e6) } else { String::new() };
        format!("p50 {:.1}, p99 {:.1}{rate}", millis(at(&typed.keys, 50)), millis(at(&typed.keys, 99)))
    };
    let one = figure(number, name, vec![millis(at(&ours.keys, 99))], "ms", Promise::Beside(Better::Lower));
    from(one, format!("{}; direct {}", told(ours), told(theirs)))
}
