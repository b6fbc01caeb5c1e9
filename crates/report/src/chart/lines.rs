//! Curves, each with a band from the lowest to the highest run.
use super::{Size, colour, marker, open, rule, scale::Scale, stroke, text, width};
use crate::markup::escape;

/// The mean and the range of the runs at one x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub mean: f64,
    pub lo: f64,
    pub hi: f64,
}

/// A curve.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    /// Selects the colour, dash and marker.
    pub look: usize,
    pub points: Vec<Point>,
}

/// A chart of curves.
#[derive(Clone, Debug)]
pub struct Lines {
    pub label: String,
    pub x: &'static str,
    pub y: &'static str,
    pub series: Vec<Series>,
    /// Whether y is logarithmic, if all values allow it.
    pub log: bool,
    /// Whether y is a percentage.
    pub percent: bool,
}

/// Longest curve with a marker at every point; a longer one has only a few markers, to identify it.
const MARKERS: usize = 24;
const FEW: usize = 6;
/// Number of points to which a curve is thinned.
const THIN: usize = 240;

impl Lines {
    /// The chart as SVG; a sentence if there is nothing to draw.
    pub fn svg(&self, size: Size) -> String {
        let all = || self.series.iter().flat_map(|s| &s.points);
        if all().next().is_none() {
            return "<p class=\"empty\">There are no measurements.</p>\n".to_owned();
        }
        let (top, bottom) = (26.0, size.h - 34.0);
        let y = Scale::over(all().flat_map(|p| [p.lo, p.hi]), bottom, top, self.log).padded(0.04);
        let y = if self.percent { y.capped(100.0) } else { y };
        let y_ticks = y.ticks(6);
        let left = 12.0 + y_ticks.iter().map(|(_, label)| width(label)).fold(14.0, f64::max);
        let x = Scale::over(all().map(|p| p.x), left, size.w - 14.0, false);

        let mut out = open(size, &self.label);
        out.push_str(&text(4.0, 14.0, "axis", self.y));
        for (value, label) in y_ticks {
            out.push_str(&rule(left, y.at(value), size.w - 14.0, y.at(value), "grid"));
            out.push_str(&text(left - 6.0, y.at(value) + 4.0, "tick end", &label));
        }
        out.push_str(&rule(left, bottom, size.w - 14.0, bottom, "base"));
        for (value, label) in x.ticks(if size.w < 500.0 { 4 } else { 8 }) {
            let px = x.at(value);
            out.push_str(&rule(px, bottom, px, bottom + 4.0, "base"));
            let half = width(&label) / 2.0;
            out.push_str(&text(px.min(size.w - 2.0 - half), bottom + 16.0, "tick mid", &label));
        }
        out.push_str(&text(size.w - 14.0, size.h - 4.0, "axis end", self.x));
        for series in &self.series {
            out.push_str(&curve(series, &x, &y));
        }
        out.push_str("</svg>\n");
        out
    }
}

fn curve(series: &Series, x: &Scale, y: &Scale) -> String {
    let points = &series.points;
    let path = |value: &dyn Fn(&Point) -> f64| {
        points.iter().map(|p| format!("{:.1},{:.1}", x.at(p.x), y.at(value(p)))).collect::<Vec<_>>()
    };
    let mut out = String::new();
    if points.len() > 1 {
        if points.iter().any(|p| p.hi > p.lo) {
            let mut outline = path(&|p| p.hi);
            outline.extend(path(&|p| p.lo).into_iter().rev());
            out.push_str(&format!(
                "<polygon class=\"band {}\" points=\"{}\"/>\n",
                colour(series.look),
                outline.join(" ")
            ));
        }
        let line = path(&|p| p.mean).join(" ");
        out.push_str(&format!(
            "<polyline class=\"{}\" points=\"{line}\"><title>{}</title></polyline>\n",
            stroke(series.look),
            escape(&series.name)
        ));
    }
    let stride = if points.len() <= MARKERS { 1 } else { points.len().div_ceil(FEW) };
    // Counted from the end, so the last point, which is the result, always has a marker.
    for (i, p) in points.iter().rev().enumerate() {
        if i % stride == 0 {
            let range = if p.hi > p.lo { format!(" ({} to {})", number(p.lo), number(p.hi)) } else { String::new() };
            let title = format!("{}, {}: {}{range}", series.name, number(p.x), number(p.mean));
            out.push_str(&marker(series.look, x.at(p.x), y.at(p.mean), 2.8, &title));
        }
    }
    out
}

/// A number with few digits.
fn number(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e9 {
        format!("{value}")
    } else if (1e-2..1e5).contains(&size) {
        format!("{value:.2}")
    } else {
        format!("{value:.2e}")
    }
}

/// Combines the curves of several runs: mean and range of the runs that have values at each x. A run is interpolated
/// between its points, and does not count before its first or after its last point. Long curves are first thinned by
/// averaging neighbours.
pub fn bundle(runs: &[Vec<(f64, f64)>]) -> Vec<Point> {
    let runs: Vec<Vec<(f64, f64)>> = runs.iter().map(|run| thin(run)).collect();
    let mut xs: Vec<f64> = runs.iter().flatten().map(|(x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let stride = xs.len().div_ceil(THIN).max(1);
    let last = xs.len().saturating_sub(1);
    let xs = xs.iter().enumerate().filter(|(i, _)| (last - i).is_multiple_of(stride)).map(|(_, x)| *x);
    xs.filter_map(|x| {
        let values: Vec<f64> = runs.iter().filter_map(|run| interpolate(run, x)).collect();
        let mean = crate::stats::mean(&values)?;
        let (lo, hi) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
        Some(Point { x, mean, lo, hi })
    })
    .collect()
}

/// Averages neighbours until at most [`THIN`] points are left; each is placed at the x of its last neighbour.
fn thin(run: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let stride = run.len().div_ceil(THIN).max(1);
    run.chunks(stride)
        .filter_map(|chunk| {
            Some((chunk.last()?.0, crate::stats::mean(&chunk.iter().map(|(_, y)| *y).collect::<Vec<_>>())?))
        })
        .collect()
}

fn interpolate(run: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = run.partition_point(|(px, _)| *px < x);
    let (x1, y1) = *run.get(after)?;
    if x1 == x {
        return Some(y1);
    }
    let (x0, y0) = *run.get(after.checked_sub(1)?)?;
    Some(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_with_the_same_x_are_averaged_with_their_range() {
        let a = vec![(1.0, 10.0), (2.0, 20.0)];
        let b = vec![(1.0, 30.0), (2.0, 20.0)];
        assert_eq!(
            bundle(&[a, b]),
            [Point { x: 1.0, mean: 20.0, lo: 10.0, hi: 30.0 }, Point { x: 2.0, mean: 20.0, lo: 20.0, hi: 20.0 }]
        );
    }

    #[test]
    fn a_run_is_interpolated_between_its_points_and_silent_outside() {
        let a = vec![(0.0, 0.0), (4.0, 8.0)];
        let b = vec![(2.0, 10.0), (6.0, 10.0)];
        let means: Vec<(f64, f64)> = bundle(&[a, b]).iter().map(|p| (p.x, p.mean)).collect();
        assert_eq!(means, [(0.0, 0.0), (2.0, 7.0), (4.0, 9.0), (6.0, 10.0)]);
        assert_eq!(bundle(&[]), []);
        assert_eq!(bundle(&[vec![]]), []);
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_mean_and_end() {
        let run: Vec<(f64, f64)> = (1..=10_000).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let points = bundle(&[run]);
        assert!(points.len() <= THIN, "{}", points.len());
        assert_eq!(points.last().map(|p| p.x), Some(10_000.0));
        assert!(points.iter().all(|p| (p.mean - 0.5).abs() < 0.05));
    }
}
