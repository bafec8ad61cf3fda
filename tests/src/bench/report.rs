//! Output of the benchmark as table and JSON.

use serde::{Deserialize, Serialize};

/// One figure and its promise.
#[derive(Serialize)]
pub struct Figure {
    /// Its number in the list of promises.
    pub number: &'static str,
    /// What it is.
    pub name: &'static str,
    /// Median of the rounds.
    pub value: f64,
    /// Its unit; empty for a ratio.
    pub unit: &'static str,
    /// The promise.
    pub promise: Promise,
    /// Value of each round.
    pub rounds: Vec<f64>,
    /// The measured numbers that it was computed from.
    pub from: String,
}

/// The promise about a figure.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// At least this.
    AtLeast(f64),
    /// Below this.
    Below(f64),
    /// At most this.
    AtMost(f64),
    /// None: for comparison with another figure.
    Beside(Better),
}

/// Which direction of a figure is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Other software, for comparison.
    Neither,
}

impl Promise {
    /// Which direction is the better one.
    #[must_use]
    pub const fn better(self) -> Better {
        match self {
            Self::AtLeast(_) => Better::Higher,
            Self::Below(_) | Self::AtMost(_) => Better::Lower,
            Self::Beside(better) => better,
        }
    }
}

impl Figure {
    /// Whether the promise is kept.
    #[must_use]
    pub fn kept(&self) -> bool {
        match self.promise {
            Promise::AtLeast(bound) => self.value >= bound,
            Promise::Below(bound) => self.value < bound,
            Promise::AtMost(bound) => self.value <= bound,
            Promise::Beside(_) => true,
        }
    }

    /// As a line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let (promise, bound) = match self.promise {
            Promise::AtLeast(bound) => (format!(">= {bound}"), Some(bound)),
            Promise::Below(bound) => (format!("<  {bound}"), Some(bound)),
            Promise::AtMost(bound) => (format!("<= {bound}"), Some(bound)),
            Promise::Beside(_) => (String::new(), None),
        };
        let verdict = match bound {
            None => String::new(),
            Some(_) if self.kept() => "kept".to_owned(),
            Some(bound) => format!("short by {:.0} %", (self.value - bound).abs() / bound * 100.0),
        };
        let value = if self.value.abs() < 100.0 { format!("{:.2}", self.value) } else { format!("{:.0}", self.value) };
        let measured = format!("{value} {}", self.unit);
        format!("{:<3} {:<62} {measured:>12} {promise:<8} {verdict:<14} {}", self.number, self.name, self.from)
    }
}

/// A run of the benchmark.
#[derive(Serialize)]
pub struct Report {
    /// Processor and number of cores.
    pub machine: String,
    /// `release` or `debug`.
    pub build: &'static str,
    /// Whether it was run with `--quick`.
    pub quick: bool,
    /// The figures.
    pub figures: Vec<Figure>,
}

impl Report {
    /// As a table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("{}, {} build{}\n", self.machine, self.build, if self.quick { ", quick" } else { "" });
        for figure in &self.figures {
            text.push_str(figure.line().trim_end());
            text.push('\n');
        }
        text
    }
}

/// The processor and the number of cores.
#[must_use]
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    format!("{} x {model}", std::thread::available_parallelism().map_or(1, usize::from))
}
