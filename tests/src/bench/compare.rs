//! Compares the figures of two revisions.
//!
//! Each revision is measured by the benchmark program built from its own tree, because a load generator uses the protocol and the
//! programs of its version. Figures with the same number are compared.

use serde::{Deserialize, Serialize};

use super::meter::median;
use super::report::{Better, Promise};

/// Pairs of runs, of which the median is used: two disturbed pairs do not change the result.
pub const PAIRS: usize = 5;

/// Tolerated decline of a figure, as a ratio: the variation of the median of five pairs on an idle machine.
pub const WORSE_MAX: f64 = 0.05;

/// The output of one run of a benchmark program, as far as it is compared.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    /// The figures.
    pub figures: Vec<Measured>,
}

/// One figure of a run.
#[derive(Clone, Debug, Deserialize)]
pub struct Measured {
    /// Its number in the list of promises.
    pub number: String,
    /// What it is.
    pub name: String,
    /// Median of the rounds.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// The promise, which tells the better direction. Used from this tree's runs only.
    #[serde(default = "no_promise", deserialize_with = "known_promise")]
    pub promise: Promise,
}

const fn no_promise() -> Promise {
    Promise::Beside(Better::Neither)
}

/// Ignores promises in the format of another version.
fn known_promise<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Promise, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).unwrap_or(no_promise()))
}

/// One figure at both revisions.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Its number.
    pub number: String,
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The median at the other revision; absent when it was not measured there.
    pub before: Option<f64>,
    /// The median of this tree; absent when it is not measured any more.
    pub now: Option<f64>,
    /// The median of the pairs' ratios, now over before: a disturbance longer than a pair affects both runs alike.
    pub ratio: Option<f64>,
    /// Which direction is the better one.
    pub better: Better,
    /// Whether it is worse.
    pub verdict: Verdict,
}

/// The result of a comparison.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not worse by more than [`WORSE_MAX`].
    Held,
    /// Worse by more than [`WORSE_MAX`].
    Worse,
    /// Measured only at the other revision.
    Gone,
    /// Measured only in this tree.
    New,
    /// A figure of other software.
    Beside,
}

impl Verdict {
    /// Whether the comparison fails.
    #[must_use]
    pub const fn fails(self) -> bool {
        match self {
            Self::Worse | Self::Gone => true,
            Self::Held | Self::New | Self::Beside => false,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Worse => "WORSE",
            Self::Gone => "GONE",
            Self::New => "new",
            Self::Beside => "",
        }
    }
}

/// Compares pairs of runs: the other revision first, then this tree.
#[must_use]
pub fn compare(pairs: &[(Run, Run)]) -> Vec<Compared> {
    let mut seen: Vec<(usize, &Measured)> = Vec::new();
    for (before, now) in pairs {
        for figure in numbered(now).chain(numbered(before)) {
            if !seen.iter().any(|known| known.0 == figure.0 && known.1.number == figure.1.number) {
                seen.push(figure);
            }
        }
    }
    seen.into_iter().map(|(nth, figure)| one(nth, figure, pairs)).collect()
}

/// The figures of a run, each with the count of earlier ones with the same number: a figure measured at two sizes has one number.
fn numbered(run: &Run) -> impl Iterator<Item = (usize, &Measured)> {
    run.figures.iter().enumerate().map(|(at, figure)| {
        let before = run.figures.iter().take(at).filter(|other| other.number == figure.number).count();
        (before, figure)
    })
}

fn one(nth: usize, figure: &Measured, pairs: &[(Run, Run)]) -> Compared {
    let value = |run: &Run| run.figures.iter().filter(|other| other.number == figure.number).nth(nth).map(|f| f.value);
    let before: Vec<f64> = pairs.iter().filter_map(|(before, _)| value(before)).collect();
    let now: Vec<f64> = pairs.iter().filter_map(|(_, now)| value(now)).collect();
    let ratios: Vec<f64> = pairs.iter().filter_map(|(before, now)| Some(ratio(value(before)?, value(now)?))).collect();
    let middle = |values: &[f64]| (!values.is_empty()).then(|| median(values));
    let better = figure.promise.better();
    let ratio = middle(&ratios);
    let verdict = match (middle(&before), middle(&now), ratio) {
        (_, None, _) => Verdict::Gone,
        (None, Some(_), _) => Verdict::New,
        (Some(_), Some(_), Some(ratio)) => judge(better, ratio),
        // No pair of runs has both values.
        (Some(_), Some(_), None) => Verdict::Gone,
    };
    Compared {
        number: figure.number.clone(),
        name: figure.name.clone(),
        unit: figure.unit.clone(),
        before: middle(&before),
        now: middle(&now),
        ratio,
        better,
        verdict,
    }
}

fn ratio(before: f64, now: f64) -> f64 {
    // Zero in both is unchanged.
    if before == 0.0 && now == 0.0 { 1.0 } else { now / before }
}

fn judge(better: Better, ratio: f64) -> Verdict {
    let held = match better {
        Better::Higher => ratio >= 1.0 - WORSE_MAX,
        Better::Lower => ratio <= 1.0 + WORSE_MAX,
        Better::Neither => return Verdict::Beside,
    };
    if held { Verdict::Held } else { Verdict::Worse }
}

impl Compared {
    /// As a line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let show = |value: Option<f64>| match value {
            None => "-".to_owned(),
            Some(value) if value.abs() < 100.0 => format!("{value:.2}"),
            Some(value) => format!("{value:.0}"),
        };
        let ratio = self.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let better = match self.better {
            Better::Higher => "higher",
            Better::Lower => "lower",
            Better::Neither => "",
        };
        format!(
            "{:<3} {:<62} {:>10} {:>10} {:<4} {ratio:>7} {better:<6} {}",
            self.number,
            self.name,
            show(self.before),
            show(self.now),
            self.unit,
            self.verdict.text()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(value: Option<f64>, promise: &str) -> Run {
        let figure = |value| format!(r#"{{"number":"1","name":"n","unit":"","value":{value},"promise":{promise}}}"#);
        let figures = value.map(figure).unwrap_or_default();
        serde_json::from_str(&format!(r#"{{"machine":"m","figures":[{figures}]}}"#)).unwrap()
    }

    #[track_caller]
    fn check(promise: &str, before: [Option<f64>; 3], now: [Option<f64>; 3], want: Verdict) {
        let pairs: Vec<(Run, Run)> =
            before.into_iter().zip(now).map(|(a, b)| (run(a, r#""of another form""#), run(b, promise))).collect();
        let compared = compare(&pairs);
        assert_eq!(compared.len(), 1, "{compared:?}");
        assert_eq!(compared[0].verdict, want, "{compared:?}");
    }

    #[test]
    fn verdicts() {
        let (rate, size) = (r#"{"at_least":0.8}"#, r#"{"below":40.0}"#);
        let all = |value| [Some(value); 3];
        check(rate, all(1.0), all(0.96), Verdict::Held);
        check(rate, all(1.0), all(0.94), Verdict::Worse);
        check(rate, all(1.0), all(9.0), Verdict::Held);
        check(size, all(20.0), all(20.9), Verdict::Held);
        check(size, all(20.0), all(21.1), Verdict::Worse);
        check(r#"{"at_most":1.1}"#, all(1.0), all(0.5), Verdict::Held);
        check(r#"{"beside":"lower"}"#, all(1.0), all(2.0), Verdict::Worse);
        check(r#"{"beside":"neither"}"#, all(1.0), all(2.0), Verdict::Beside);
    }

    #[test]
    fn the_middle_pair_decides() {
        let rate = r#"{"at_least":0.8}"#;
        check(rate, [Some(1.0); 3], [Some(0.1), Some(1.0), Some(1.0)], Verdict::Held);
        // The machine was slow during the last pair, for both revisions.
        check(rate, [Some(1.0), Some(1.0), Some(0.5)], [Some(1.0), Some(1.0), Some(0.5)], Verdict::Held);
    }

    #[test]
    fn what_is_measured_on_one_side_alone() {
        let rate = r#"{"at_least":0.8}"#;
        check(rate, [None; 3], [Some(1.0); 3], Verdict::New);
        check(rate, [Some(1.0); 3], [None; 3], Verdict::Gone);
        check(rate, [Some(1.0), None, None], [Some(1.0); 3], Verdict::Held);
    }

    #[test]
    fn nothing_is_no_worse_than_nothing() {
        let size = r#"{"below":40.0}"#;
        check(size, [Some(0.0); 3], [Some(0.0); 3], Verdict::Held);
        check(size, [Some(0.0); 3], [Some(1.0); 3], Verdict::Worse);
    }
}
