//! Medians, and how they are shown.

use std::collections::BTreeMap;
use std::fmt;

use super::design::Design;
use super::measure::Metric;

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Report {
    samples: BTreeMap<(Metric, Design), Vec<f64>>,
    designs: Vec<Design>,
}

impl Report {
    /// A report with a column for each design.
    pub fn new(designs: &[Design]) -> Self {
        Self {
            samples: BTreeMap::new(),
            designs: designs.to_vec(),
        }
    }

    /// The designs that are compared.
    pub fn designs(&self) -> &[Design] {
        &self.designs
    }

    /// Adds a sample.
    pub fn record(&mut self, design: Design, metric: Metric, value: f64) {
        self.samples.entry((metric, design)).or_default().push(value);
    }

    /// The medians, by metric and design.
    pub fn medians(&self) -> BTreeMap<Metric, BTreeMap<Design, f64>> {
        let mut rows: BTreeMap<Metric, BTreeMap<Design, f64>> = BTreeMap::new();
        for ((metric, design), samples) in &self.samples {
            rows.entry(*metric).or_default().insert(*design, median(samples));
        }
        rows
    }

    /// The median, over all rounds, of the ratio to the TLS relay pair in the same round: what
    /// slows the machine down for a while slows both. `None` where a quantity was not positive.
    pub fn ratio(&self, metric: Metric, design: Design) -> Option<f64> {
        let samples = self.samples.get(&(metric, design))?;
        let baseline = self.samples.get(&(metric, Design::Tls))?;
        if design == Design::Tls || samples.iter().chain(baseline).any(|sample| *sample <= 0.0) {
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
            .map(|((metric, design), samples)| {
                serde_json::json!({
                    "metric": metric,
                    "label": metric.label(),
                    "design": design.name(),
                    "median": median(samples),
                    "ratio": self.ratio(*metric, *design),
                    "samples": samples,
                })
            })
            .collect();
        serde_json::json!({ "measurements": samples })
    }
}

/// A table of medians, each with its ratio to the TLS relay pair.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<36}", "")?;
        for design in &self.designs {
            write!(f, "{:>18}", design.name())?;
        }
        writeln!(f)?;
        for (metric, row) in self.medians() {
            write!(f, "{:<36}", metric.label())?;
            for design in &self.designs {
                match (row.get(design), self.ratio(metric, *design)) {
                    (Some(value), Some(ratio)) => write!(f, "{value:>10.2} (x{ratio:.2})")?,
                    (Some(value), None) => write!(f, "{value:>10.2}        ")?,
                    (None, _) => write!(f, "{:>18}", "-")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
