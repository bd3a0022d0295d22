//! A report as a picture: how each pair compares with the TLS relay pair.

use std::fmt;

use super::design::Design;
use super::measure::Metric;
use super::report::Report;

/// Sizes in pixels.
const WIDTH: f64 = 760.0;
const NAMES: f64 = 270.0;
const BAR: f64 = 11.0;
const GAP: f64 = 12.0;
const TOP: f64 = 78.0;

/// Ratios are drawn to this one; a longer bar ends in its number all the same.
const LONGEST: f64 = 2.0;

const COLOURS: [&str; 3] = ["#8d99ae", "#2a6f97", "#e07a5f"];

/// The report as an SVG picture: a row for each metric, a bar for each design, and a line where the
/// TLS relay pair stands.
pub struct Plot<'a>(pub &'a Report);

impl Plot<'_> {
    fn designs(&self) -> impl Iterator<Item = (Design, &'static str)> {
        let compared = self.0.designs().iter().filter(|design| **design != Design::Tls);
        compared.copied().zip(COLOURS)
    }

    fn legend(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut x = NAMES;
        for (design, colour) in self.designs() {
            writeln!(f, r#"<rect x="{x}" y="40" width="12" height="12" fill="{colour}"/>"#)?;
            writeln!(f, r#"<text x="{}" y="50">{}</text>"#, x + 17.0, design.name())?;
            x += 110.0;
        }
        Ok(())
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, metric: Metric, top: f64) -> fmt::Result {
        let mut y = top;
        for (design, colour) in self.designs() {
            let Some(ratio) = self.0.ratio(metric, design) else {
                continue;
            };
            let length = scaled(ratio.min(LONGEST));
            writeln!(
                f,
                r#"<rect x="{NAMES}" y="{y}" width="{length:.1}" height="{BAR}" fill="{colour}"/>"#
            )?;
            let (x, baseline) = (NAMES + length + 4.0, y + BAR - 2.0);
            writeln!(f, r#"<text x="{x:.1}" y="{baseline}" class="value">{ratio:.2}</text>"#)?;
            y += BAR;
        }
        let (x, middle) = (NAMES - 8.0, f64::midpoint(top, y) + 4.0);
        let label = metric.label();
        writeln!(f, r#"<text x="{x}" y="{middle}" text-anchor="end">{label}</text>"#)
    }
}

/// Pixels of a ratio.
fn scaled(ratio: f64) -> f64 {
    ratio / LONGEST * (WIDTH - NAMES - 60.0)
}

impl fmt::Display for Plot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metrics: Vec<_> = self.0.medians().into_keys().collect();
        let step = self.designs().count() as f64 * BAR + GAP;
        let height = TOP + step * metrics.len() as f64;
        writeln!(
            f,
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">
<style>text {{ fill: #222 }} .value {{ fill: #666; font-size: 10px }}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="{NAMES}" y="24" font-size="14">Ratio to a pair of plain TLS relays</text>"##
        )?;
        self.legend(f)?;
        for (row, metric) in metrics.into_iter().enumerate() {
            self.row(f, metric, TOP + step * row as f64)?;
        }
        let (x, y) = (NAMES + scaled(1.0), TOP - 8.0);
        writeln!(
            f,
            r##"<line x1="{x}" y1="{y}" x2="{x}" y2="{height}" stroke="#222" stroke-dasharray="3 3"/>
</svg>"##
        )
    }
}
