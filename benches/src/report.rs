//! Medians, and how they are shown.

use std::collections::BTreeMap;
use std::fmt;

/// A quantity that is measured.
pub trait Quantity: Copy + Ord + serde::Serialize {
    /// The row's name and unit.
    fn label(self) -> &'static str;
}

/// Everything that was measured of some designs, one of which the others are compared with.
#[derive(Debug)]
pub struct Report<Q> {
    samples: BTreeMap<(Q, &'static str), Vec<f64>>,
    designs: Vec<&'static str>,
    baseline: &'static str,
}

impl<Q: Quantity> Report<Q> {
    /// A report with a column for each design.
    pub fn new(designs: Vec<&'static str>, baseline: &'static str) -> Self {
        Self {
            samples: BTreeMap::new(),
            designs,
            baseline,
        }
    }

    /// Adds a sample.
    pub fn record(&mut self, design: &'static str, quantity: Q, value: f64) {
        self.samples.entry((quantity, design)).or_default().push(value);
    }

    /// The designs that are compared.
    pub fn designs(&self) -> &[&'static str] {
        &self.designs
    }

    /// The design that the others are compared with.
    pub fn baseline(&self) -> &'static str {
        self.baseline
    }

    /// What was measured of any design.
    pub fn quantities(&self) -> Vec<Q> {
        let mut quantities: Vec<_> = self.samples.keys().map(|(quantity, _)| *quantity).collect();
        quantities.dedup();
        quantities
    }

    /// The median of the samples, if there are any.
    pub fn median(&self, quantity: Q, design: &'static str) -> Option<f64> {
        self.samples.get(&(quantity, design)).map(|samples| median(samples))
    }

    /// The median, over all rounds, of the ratio to the baseline in the same round: what slows the
    /// machine down for a while slows both. `None` where there is nothing to compare with.
    pub fn ratio(&self, quantity: Q, design: &'static str) -> Option<f64> {
        let samples = self.samples.get(&(quantity, design))?;
        let baseline = self.samples.get(&(quantity, self.baseline))?;
        let is_absurd = samples.iter().any(|value| *value < 0.0) || baseline.iter().any(|value| *value <= 0.0);
        if design == self.baseline || is_absurd {
            return None;
        }
        let ratios: Vec<_> = samples.iter().zip(baseline).map(|(value, base)| value / base).collect();
        Some(median(&ratios))
    }

    /// The report for programs.
    pub fn to_json(&self) -> serde_json::Value {
        let samples: Vec<_> = self
            .samples
            .iter()
            .map(|((quantity, design), samples)| {
                serde_json::json!({
                    "metric": quantity,
                    "label": quantity.label(),
                    "design": design,
                    "median": median(samples),
                    "ratio": self.ratio(*quantity, design),
                    "samples": samples,
                })
            })
            .collect();
        serde_json::json!({ "measurements": samples })
    }

    /// Median, ratio to the baseline and range of the samples.
    fn cell(&self, quantity: Q, design: &'static str) -> String {
        let Some(samples) = self.samples.get(&(quantity, design)) else {
            return "-".to_owned();
        };
        let median = shown(median(samples));
        let ratio = match self.ratio(quantity, design) {
            Some(ratio) => format!(" x{ratio:.2}"),
            None => String::new(),
        };
        let (low, high) = samples
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(*value), high.max(*value))
            });
        format!("{median}{ratio} [{}, {}]", shown(low), shown(high))
    }
}

/// A table in Markdown: of each design the median, its ratio to the baseline, and the range.
impl<Q: Quantity> fmt::Display for Report<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<Vec<String>> = self
            .quantities()
            .into_iter()
            .map(|quantity| {
                let cells = self.designs.iter().map(|design| self.cell(quantity, design));
                std::iter::once(quantity.label().to_owned()).chain(cells).collect()
            })
            .collect();
        let mut heads = vec!["median, ratio, range"];
        heads.extend(&self.designs);
        let widths: Vec<usize> = heads
            .iter()
            .enumerate()
            .map(|(column, head)| rows.iter().map(|row| row[column].len()).fold(head.len(), usize::max))
            .collect();
        line(f, heads.iter().copied(), &widths)?;
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        line(f, rules.iter().map(String::as_str), &widths)?;
        for row in &rows {
            line(f, row.iter().map(String::as_str), &widths)?;
        }
        Ok(())
    }
}

/// A number with as many decimals as it has use for.
pub fn shown(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn line<'a>(f: &mut fmt::Formatter<'_>, cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> fmt::Result {
    for (cell, width) in cells.zip(widths) {
        write!(f, "| {cell:<width$} ")?;
    }
    writeln!(f, "|")
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
