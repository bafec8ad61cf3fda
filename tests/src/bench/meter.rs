//! CPU time and memory of a process, from the kernel.

use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// CPU time, user and system, that a process has used so far (proc(5), `stat`, fields 14 and 15).
#[must_use]
pub fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The program's name is in parentheses and may contain blanks; the third field follows it.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_secs_f64(float(ticks) / float(rustix::param::clock_ticks_per_second()))
}

/// CPU time of the calling thread.
#[must_use]
pub fn cpu_of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// Resident memory of a process, in KiB.
#[must_use]
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Resident memory in KiB once it is stable: within 1 % over a second, or after ten seconds.
#[must_use]
pub fn settled_kib(pid: u32) -> u64 {
    let began = Instant::now();
    let mut last = resident_kib(pid);
    let mut since = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(100));
        let now = resident_kib(pid);
        if now.abs_diff(last) > last / 100 {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > Duration::from_secs(1) {
            return now;
        }
    }
    last
}

/// The median.
#[must_use]
pub fn median(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// A count as a float; none here comes near 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
#[must_use]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// The rate per second.
#[must_use]
pub fn rate(count: usize, time: Duration) -> f64 {
    float(count as u64) / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (rounds, want) in [(&[3.0, 1.0, 2.0][..], 2.0), (&[4.0, 1.0, 2.0, 3.0], 2.5), (&[7.0], 7.0)] {
            assert!((median(rounds) - want).abs() < f64::EPSILON, "{rounds:?}");
        }
    }

    #[test]
    fn this_process_has_used_cpu_and_memory() {
        let before = cpu_of_this_thread();
        let sum: u64 = (0..1_000_000_u64).map(std::hint::black_box).sum();
        assert!(sum > 0 && cpu_of_this_thread() > before);
        assert!(cpu_of(std::process::id()) > Duration::ZERO || resident_kib(std::process::id()) > 100);
    }
}
