//! Charts as SVG: axes, ticks, labels and markers. A marker's shape carries the same information as its colour. Colours
//! are classes of the page's style sheet.
pub mod dots;
pub mod heat;
pub mod lines;
mod scale;

pub use dots::{Dots, Row};
pub use heat::Heat;
pub use lines::{Lines, Series};

use crate::markup::escape;

/// Width and height in CSS pixels.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub w: f64,
    pub h: f64,
}

/// Number of colours in the palette; further series repeat them with a dashed line.
const COLOURS: usize = 7;

/// The class of the `n`th series' colour.
fn colour(n: usize) -> String {
    format!("c{}", n % COLOURS)
}

/// The class of the `n`th series' line.
fn stroke(n: usize) -> String {
    let dash = ["", " dash1", " dash2"][(n / COLOURS) % 3];
    format!("line {}{dash}", colour(n))
}

/// The `n`th series' marker around (x, y).
fn marker(n: usize, x: f64, y: f64, r: f64, title: &str) -> String {
    let class = format!("mark {}", colour(n));
    let at = |points: &[(f64, f64)]| {
        let list: Vec<String> = points.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx * r, y + dy * r)).collect();
        format!("<polygon class=\"{class}\" points=\"{}\">", list.join(" "))
    };
    let (open, close) = match n % 5 {
        0 => (format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r:.1}\">"), "</circle>"),
        1 => (at(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]), "</polygon>"),
        2 => (at(&[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)]), "</polygon>"),
        3 => (at(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]), "</polygon>"),
        _ => (at(&[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)]), "</polygon>"),
    };
    let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
    format!("{open}{title}{close}\n")
}

/// The opening tag of a chart that shrinks with its column and never grows beyond its size.
fn open(size: Size, label: &str) -> String {
    let Size { w, h } = size;
    format!("<svg viewBox=\"0 0 {w} {h}\" style=\"max-width:{w}px\" role=\"img\" aria-label=\"{}\">\n", escape(label))
}

fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>\n", escape(content))
}

fn rule(x1: f64, y1: f64, x2: f64, y2: f64, class: &str) -> String {
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>\n")
}

/// The approximate width of `text` in the charts' 12 px type.
fn width(text: &str) -> f64 {
    6.7 * text.chars().count() as f64
}

/// The legend of a chart: names with their lines and markers. Series with the same name and look appear once.
pub fn legend<'s>(entries: impl Iterator<Item = (usize, &'s str)>) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    for (n, name) in entries {
        out.push_str("<li><svg viewBox=\"0 0 26 12\" width=\"26\" height=\"12\" aria-hidden=\"true\">");
        out.push_str(&rule(1.0, 6.0, 25.0, 6.0, &stroke(n)));
        out.push_str(&marker(n, 13.0, 6.0, 3.6, ""));
        out.push_str(&format!("</svg>{}</li>\n", escape(name)));
    }
    out.push_str("</ul>\n");
    out
}
