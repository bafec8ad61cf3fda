//! Measures the promised figures of speed and size: prints a table, and writes JSON to the path given.
//!
//! `tests/bench/run` builds everything and calls it. `--quick` uses small counts, for a test of the benchmark.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot be run fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use tests::bench::attested::Attested;
use tests::bench::fleet::{Cost, Site};
use tests::bench::meter::{float, median};
use tests::bench::nginx::Nginx;
use tests::bench::report::{Figure, Promise, Report, machine};
use tests::bench::{Size, WORKERS, connections, crypto, fleet, latency, memory};

fn main() {
    let mut size = Size::FULL;
    let mut path = None;
    let mut only = String::from("1234567");
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => size = Size::QUICK,
            "--only" => only = args.next().expect("--only takes the numbers of figures, such as 23"),
            other if other.starts_with('-') => {
                panic!("unknown argument `{other}`; usage: lychgate-bench [--quick] [--only FIGURES] [FILE]")
            }
            other => path = Some(other.to_owned()),
        }
    }
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let quick = size.renewals < Size::FULL.renewals;
    let figures = measure(size, &only);
    let report = Report { machine: machine(), build, quick, figures };
    println!("{}", report.table());
    if let Some(path) = path {
        std::fs::write(&path, serde_json::to_string_pretty(&report).unwrap() + "\n")
            .unwrap_or_else(|e| panic!("cannot write {path}: {e}"));
    }
}

/// Figure 1 is always measured, because others are compared with it.
fn measure(size: Size, only: &str) -> Vec<Figure> {
    let wanted = |figure: char| only.contains(figure);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    say("1: issuing in memory");
    let (issuing, pki_rate) = issuing(size);
    let mut figures = vec![issuing];
    runtime.block_on(async {
        let site = Site::new();
        let machines = site.machines(WORKERS, "kept").await;
        let mut last = None;
        if wanted('2') || wanted('6') {
            say("2: renewals over kept connections");
            let mut kept = fleet::connect(&site, &machines).await.unwrap();
            let mut costs = Vec::new();
            for _ in 0..size.rounds {
                let (cost, back) = fleet::renewals(&site, kept, size.renewals).await;
                kept = back;
                costs.push(cost);
            }
            figures.push(kept_renewals(&costs, pki_rate));
            if wanted('6') {
                say("6: latency at half the load");
                let saturating = median(&costs.iter().map(Cost::per_second).collect::<Vec<_>>());
                let seen = latency::steady(kept, saturating / 2.0, Duration::from_secs(size.steady_secs)).await;
                last = Some(late(&seen, saturating));
            }
        }
        if wanted('3') {
            say("3: enrollments");
            figures.push(enrollments(&site, size).await);
        }
        if wanted('4') {
            say("4: renewals on new connections");
            figures.extend(new_connections(&site, size).await);
        }
        drop(site);
        if wanted('7') {
            say("7: enrollments by evidence");
            figures.push(by_tpm(size).await);
        }
        if wanted('5') {
            say("5: memory");
            figures.extend(sizes(&memory::measure(size.idle).await, size.idle));
        }
        figures.extend(last);
    });
    figures
}

fn say(what: &str) {
    eprintln!("measuring {what}");
}

fn issuing(size: Size) -> (Figure, f64) {
    let subject = crypto::Subject::new();
    let _warm = subject.round(size.issues / 10);
    let rates: Vec<crypto::Rates> = (0..size.rounds).map(|_| subject.round(size.issues)).collect();
    let pki = median(&rates.iter().map(|rates| rates.pki).collect::<Vec<_>>());
    let raw = median(&rates.iter().map(|rates| rates.raw).collect::<Vec<_>>());
    let rounds: Vec<f64> = rates.iter().map(|rates| rates.pki / rates.raw).collect();
    let figure = Figure {
        number: "1",
        name: "issuing in pki / raw P-256 verify and sign",
        value: median(&rounds),
        unit: "",
        promise: Promise::AtLeast(0.8),
        rounds,
        from: format!("{pki:.0} / {raw:.0} per CPU-s"),
    };
    (figure, pki)
}

fn kept_renewals(costs: &[Cost], pki_rate: f64) -> Figure {
    let rates: Vec<f64> = costs.iter().map(Cost::per_cpu_second).collect();
    let rounds: Vec<f64> = rates.iter().map(|rate| rate / pki_rate).collect();
    Figure {
        number: "2",
        name: "durable renewals over kept mTLS connections / issuing in pki",
        value: median(&rounds),
        unit: "",
        promise: Promise::AtLeast(0.35),
        rounds,
        from: format!("{:.0} / {pki_rate:.0} per CPU-s", median(&rates)),
    }
}

async fn enrollments(site: &Site, size: Size) -> Figure {
    let config = [site.anonymous()];
    let mut pairs = Vec::new();
    for round in 0..size.rounds {
        let bare = connections::handshakes(site.id(), &site.enroll, &config, size.connections).await;
        let whole = connections::enrollments(site, size.connections, &format!("new-{round}")).await;
        pairs.push((whole.per_cpu_second(), bare.per_cpu_second()));
    }
    ratio("3", "complete enrollments / bare handshakes of the same server", Promise::AtLeast(0.4), &pairs)
}

async fn by_tpm(size: Size) -> Figure {
    let attested = Attested::new();
    let mut pairs = Vec::new();
    for round in 0..size.rounds {
        let tokens = connections::enrollments(&attested.site, size.connections, &format!("token-{round}")).await;
        let tpms = attested.by_tpm(size.connections, &format!("tpm-{round}")).await;
        pairs.push((tpms.per_cpu_second(), tokens.per_cpu_second()));
    }
    ratio("7", "enrollments by TPM, both rounds / by join token", Promise::AtLeast(0.5), &pairs)
}

async fn new_connections(site: &Site, size: Size) -> Option<Figure> {
    let mut machines = site.machines(WORKERS, "fresh").await;
    let mut trusted = site.roots.clone();
    trusted.extend(tests::tls::certificates(machines[0].reply.chain.as_bytes()));
    let Some(nginx) = Nginx::start(&trusted) else {
        eprintln!("figure 4 left out: no nginx here");
        return None;
    };
    nginx.check(&machines[0].identity()).await;
    let configs: Vec<Arc<_>> = machines.iter().map(|held| nginx.config(&held.identity())).collect();
    let mut pairs = Vec::new();
    for _ in 0..size.rounds {
        let bare = connections::handshakes(nginx.id(), nginx.face(), &configs, size.connections).await;
        let (whole, renewed) = connections::renewals(site, machines, size.connections).await;
        machines = renewed;
        pairs.push((whole.per_cpu_second(), bare.per_cpu_second()));
    }
    Some(ratio("4", "new mTLS connection and renewal / bare mTLS handshakes of nginx", Promise::AtLeast(1.0), &pairs))
}

fn ratio(number: &'static str, name: &'static str, promise: Promise, pairs: &[(f64, f64)]) -> Figure {
    let rounds: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
    let middle = |pick: fn(&(f64, f64)) -> f64| median(&pairs.iter().map(pick).collect::<Vec<_>>());
    let from = format!("{:.0} / {:.0} per CPU-s", middle(|pair| pair.0), middle(|pair| pair.1));
    Figure { number, name, value: median(&rounds), unit: "", promise, rounds, from }
}

fn sizes(memory: &memory::Memory, idle: usize) -> [Figure; 3] {
    let figure = |number, name, value, unit, promise, from| Figure {
        number,
        name,
        value,
        unit,
        promise,
        rounds: vec![value],
        from,
    };
    let mib = |kib: u64| float(kib) / 1024.0;
    let (idle_gateway, client) = (mib(memory.idle_gateway), mib(memory.client));
    let held = format!("{idle} held");
    [
        figure("5a", "gateway, idle after start", idle_gateway, "MiB", Promise::Below(40.0), String::new()),
        figure("5b", "each idle mTLS keep-alive connection", memory.connection, "KiB", Promise::AtMost(24.0), held),
        figure("5c", "client, `lychgate run`", client, "MiB", Promise::Below(16.0), String::new()),
    ]
}

fn late(seen: &latency::Latency, saturating: f64) -> Figure {
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    Figure {
        number: "6",
        name: "p99 of a renewal at half the saturating load",
        value: millis(seen.p99),
        unit: "ms",
        promise: Promise::Below(20.0),
        rounds: vec![millis(seen.p99)],
        from: format!(
            "{:.0} of {saturating:.0} per s, p50 {:.1} ms, max {:.1} ms, {} renewals",
            saturating / 2.0,
            millis(seen.p50),
            millis(seen.max),
            seen.count
        ),
    }
}
