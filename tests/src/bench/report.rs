//! The table and the JSON.

use serde::Serialize;

/// One figure against what is promised.
#[derive(Serialize)]
pub struct Figure {
    /// Its number in the list of promises.
    pub number: &'static str,
    /// What it is.
    pub name: &'static str,
    /// What was measured: a median.
    pub value: f64,
    /// Its unit; empty for a ratio.
    pub unit: &'static str,
    /// The promise.
    pub promise: Promise,
    /// What each round gave.
    pub rounds: Vec<f64>,
    /// The numbers it was worked out from.
    pub from: String,
}

/// What is promised of a figure.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// At least this.
    AtLeast(f64),
    /// Below this.
    Below(f64),
    /// At most this.
    AtMost(f64),
    /// Nothing: it stands beside another figure.
    Beside,
}

impl Figure {
    /// Whether the promise is kept.
    #[must_use]
    pub fn kept(&self) -> bool {
        match self.promise {
            Promise::AtLeast(bound) => self.value >= bound,
            Promise::Below(bound) => self.value < bound,
            Promise::AtMost(bound) => self.value <= bound,
            Promise::Beside => true,
        }
    }

    /// As a line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let (promise, bound) = match self.promise {
            Promise::AtLeast(bound) => (format!(">= {bound}"), bound),
            Promise::Below(bound) => (format!("<  {bound}"), bound),
            Promise::AtMost(bound) => (format!("<= {bound}"), bound),
            Promise::Beside => (String::new(), f64::NAN),
        };
        let short = (self.value - bound).abs() / bound * 100.0;
        let verdict = match self.promise {
            Promise::Beside => String::new(),
            _ if self.kept() => "kept".to_owned(),
            _ => format!("short by {short:.0} %"),
        };
        let value = if self.value.abs() < 100.0 { format!("{:.2}", self.value) } else { format!("{:.0}", self.value) };
        let measured = format!("{value} {}", self.unit);
        format!("{:<3} {:<62} {measured:>12} {promise:<8} {verdict:<14} {}", self.number, self.name, self.from)
    }
}

/// The whole run.
#[derive(Serialize)]
pub struct Report {
    /// What the machine is.
    pub machine: String,
    /// `release` or `debug`.
    pub build: &'static str,
    /// Whether the counts were the small ones.
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

/// The processor and how many of it.
#[must_use]
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    format!("{} x {model}", std::thread::available_parallelism().map_or(1, usize::from))
}
