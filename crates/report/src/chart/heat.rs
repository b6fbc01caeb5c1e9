//! A heat map of values between 0 and 1, with the number in each cell.
use super::{Size, open, text, width};
use crate::markup::escape;

/// A matrix.
#[derive(Clone, Debug)]
pub struct Heat<'a> {
    pub label: String,
    /// The name of the rows, and the label of each.
    pub rows: (&'a str, Vec<String>),
    pub columns: (&'a str, Vec<String>),
    pub values: &'a [Vec<Option<f64>>],
}

impl Heat<'_> {
    /// The chart as SVG. An unknown value is shown as a dash without a shade.
    pub fn svg(&self, size: Size) -> String {
        let left = 16.0 + self.rows.1.iter().map(|name| width(name)).fold(0.0, f64::max);
        let top = 44.0;
        let (cell_w, cell_h) = (
            (size.w - left - 4.0) / self.columns.1.len().max(1) as f64,
            (size.h - top - 4.0) / self.rows.1.len().max(1) as f64,
        );
        let mut out = open(size, &self.label);
        out.push_str(&text(4.0, 14.0, "name", &format!("{} ↓   {} →", self.rows.0, self.columns.0)));
        for (j, name) in self.columns.1.iter().enumerate() {
            out.push_str(&text(left + (j as f64 + 0.5) * cell_w, top - 8.0, "tick mid", name));
        }
        for (i, (name, row)) in self.rows.1.iter().zip(self.values).enumerate() {
            let y = top + i as f64 * cell_h;
            out.push_str(&text(left - 8.0, y + cell_h / 2.0 + 4.0, "tick end", name));
            for (j, value) in row.iter().enumerate() {
                let x = left + j as f64 * cell_w;
                let shade = value.unwrap_or(0.0).clamp(0.0, 1.0);
                let number = value.map_or_else(|| "–".to_owned(), |v| format!("{v:.2}"));
                let column = self.columns.1.get(j).map_or("", String::as_str);
                out.push_str(&format!(
                    "<rect class=\"heat\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                     fill-opacity=\"{shade:.3}\"><title>{}</title></rect>\n",
                    x + 1.0,
                    y + 1.0,
                    cell_w - 2.0,
                    cell_h - 2.0,
                    escape(format!("{} {name}, {} {column}: {number}", self.rows.0, self.columns.0))
                ));
                let class = if shade > 0.55 { "on-dark mid" } else { "value mid" };
                out.push_str(&text(x + cell_w / 2.0, y + cell_h / 2.0 + 4.0, class, &number));
            }
        }
        out.push_str("</svg>\n");
        out
    }
}
