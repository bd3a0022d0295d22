//! A report as a picture: how each design compares with the baseline.

use std::fmt;

use super::report::{Quantity, Report, shown};

/// Sizes in pixels.
const WIDTH: f64 = 760.0;
const NAMES: f64 = 270.0;
const BAR: f64 = 11.0;
const GAP: f64 = 12.0;
const TOP: f64 = 78.0;

const COLOURS: [&str; 3] = ["#8d99ae", "#2a6f97", "#e07a5f"];

/// The report as an SVG picture: a row for each quantity, a bar for each design, and a line where the
/// baseline stands. Each bar has its ratio, and the median that it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Plot<'a, Q> {
    /// What is drawn.
    pub report: &'a Report<Q>,
    /// What stands above it.
    pub title: &'a str,
    /// Ratios are drawn to this one; a longer bar ends in its number all the same.
    pub longest: f64,
}

impl<Q: Quantity> Plot<'_, Q> {
    fn designs(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let baseline = self.report.baseline();
        let compared = self.report.designs().iter().filter(move |design| **design != baseline);
        compared.copied().zip(COLOURS)
    }

    /// What has a bar.
    fn quantities(&self) -> Vec<Q> {
        let mut quantities = self.report.quantities();
        quantities.retain(|quantity| {
            self.designs()
                .any(|(design, _)| self.report.ratio(*quantity, design).is_some())
        });
        quantities
    }

    fn legend(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut x = NAMES;
        for (design, colour) in self.designs() {
            writeln!(f, r#"<rect x="{x}" y="40" width="12" height="12" fill="{colour}"/>"#)?;
            writeln!(f, r#"<text x="{}" y="50">{design}</text>"#, x + 17.0)?;
            x += 110.0;
        }
        Ok(())
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, quantity: Q, top: f64) -> fmt::Result {
        let mut y = top;
        for (design, colour) in self.designs() {
            let Some((ratio, median)) = self
                .report
                .ratio(quantity, design)
                .zip(self.report.median(quantity, design))
            else {
                continue;
            };
            let length = self.scaled(ratio.min(self.longest));
            writeln!(
                f,
                r#"<rect x="{NAMES}" y="{y}" width="{length:.1}" height="{BAR}" fill="{colour}"/>"#
            )?;
            let (x, baseline) = (NAMES + length + 4.0, y + BAR - 2.0);
            let median = shown(median);
            writeln!(
                f,
                r#"<text x="{x:.1}" y="{baseline}" class="value">{ratio:.2} ({median})</text>"#
            )?;
            y += BAR;
        }
        let (x, middle) = (NAMES - 8.0, f64::midpoint(top, y) + 4.0);
        let label = quantity.label();
        writeln!(f, r#"<text x="{x}" y="{middle}" text-anchor="end">{label}</text>"#)
    }

    /// Pixels of a ratio.
    fn scaled(&self, ratio: f64) -> f64 {
        ratio / self.longest * (WIDTH - NAMES - 90.0)
    }
}

impl<Q: Quantity> fmt::Display for Plot<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantities = self.quantities();
        let step = self.designs().count() as f64 * BAR + GAP;
        let height = TOP + step * quantities.len() as f64;
        let title = self.title;
        writeln!(
            f,
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">
<style>text {{ fill: #222 }} .value {{ fill: #666; font-size: 10px }}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="{NAMES}" y="24" font-size="14">{title}</text>"##
        )?;
        self.legend(f)?;
        for (row, quantity) in quantities.into_iter().enumerate() {
            self.row(f, quantity, TOP + step * row as f64)?;
        }
        let (x, y) = (NAMES + self.scaled(1.0), TOP - 8.0);
        writeln!(
            f,
            r##"<line x1="{x}" y1="{y}" x2="{x}" y2="{height}" stroke="#222" stroke-dasharray="3 3"/>
</svg>"##
        )
    }
}
