//! One row per method, one dot per seed, a bar at the mean.
use super::{Size, colour, marker, open, rule, scale::Scale, text, width};

/// A method's row.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub look: usize,
    /// Accuracy and its seed.
    pub values: Vec<(f64, u64)>,
    /// The text next to the name.
    pub summary: String,
}

/// A dot plot.
#[derive(Clone, Debug)]
pub struct Dots {
    pub label: String,
    pub x: &'static str,
    pub rows: Vec<Row>,
    /// A reference value and its name.
    pub reference: Option<(f64, String)>,
}

const ROW: f64 = 46.0;
/// The part of a row that its labels take.
const LABEL: f64 = 21.0;

impl Dots {
    /// The plot as SVG of width `w` in pixels; a sentence if there is nothing to draw.
    pub fn svg(&self, w: f64) -> String {
        let all = || self.rows.iter().flat_map(|r| &r.values).map(|(value, _)| *value);
        if all().next().is_none() {
            return "<p class=\"empty\">No run has finished.</p>\n".to_owned();
        }
        let (left, right, top) = (14.0, w - 14.0, if self.reference.is_some() { 24.0 } else { 6.0 });
        let bottom = top + ROW * self.rows.len() as f64;
        let size = Size { w, h: bottom + 36.0 };
        let reference = self.reference.as_ref().map(|(value, _)| *value);
        let x = Scale::over(all().chain(reference), left, right, false).padded(0.06).capped(100.0);
        let mut out = open(size, &self.label);
        for (value, label) in x.ticks(if w < 500.0 { 4 } else { 8 }) {
            out.push_str(&rule(x.at(value), top, x.at(value), bottom, "grid"));
            out.push_str(&text(x.at(value), bottom + 16.0, "tick mid", &label));
        }
        if let Some((value, name)) = &self.reference {
            let px = x.at(*value);
            out.push_str(&rule(px, top - 6.0, px, top, "reference"));
            // Beside the marks alone, so that no label is struck through.
            for i in 0..self.rows.len() {
                let row = top + ROW * i as f64;
                out.push_str(&rule(px, row + LABEL, px, row + ROW, "reference"));
            }
            let name = shorten(name, ((right - left) / width("x")) as usize);
            let half = width(&name) / 2.0;
            let inside = px.max(left + half).min(right - half);
            out.push_str(&text(inside, top - 10.0, "tick mid", &name));
        }
        out.push_str(&rule(left, bottom, right, bottom, "base"));
        out.push_str(&text(right, bottom + 32.0, "axis end", self.x));
        for (i, row) in self.rows.iter().enumerate() {
            out.push_str(&draw_row(row, top + ROW * i as f64, left, right, &x));
        }
        out.push_str("</svg>\n");
        out
    }
}

fn draw_row(row: &Row, top: f64, left: f64, right: f64, x: &Scale) -> String {
    let y = top + 31.0;
    let room = ((right - left - width(&row.summary) - 16.0) / width("x")).max(6.0) as usize;
    let mut out = text(left, top + 16.0, "name halo", &shorten(&row.name, room));
    out.push_str(&text(right, top + 16.0, "value halo end", &row.summary));
    let values: Vec<f64> = row.values.iter().map(|(value, _)| *value).collect();
    if let Some(mean) = crate::stats::mean(&values) {
        let span = values.iter().map(|v| x.at(*v));
        let (lo, hi) = span.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
        out.push_str(&rule(lo, y, hi, y, &format!("span {}", colour(row.look))));
        out.push_str(&rule(x.at(mean), y - 8.0, x.at(mean), y + 8.0, &format!("mean {}", colour(row.look))));
    }
    for (value, seed) in &row.values {
        out.push_str(&marker(row.look, x.at(*value), y, 4.5, &format!("{}, seed {seed}: {value:.2} %", row.name)));
    }
    out
}

/// Shortens to at most `room` characters, with an ellipsis in place of the rest.
fn shorten(name: &str, room: usize) -> String {
    if name.chars().count() <= room {
        return name.to_owned();
    }
    let kept: String = name.chars().take(room.saturating_sub(1)).collect();
    format!("{kept}…")
}
