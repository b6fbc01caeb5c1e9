//! HTML from plain text and tables.
use std::fmt::Display;

/// Escapes `text` for HTML text and quoted attributes; control characters, which HTML forbids, become spaces.
pub fn escape(text: impl Display) -> String {
    let mut out = String::new();
    for c in text.to_string().chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('\n'),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A table that scrolls horizontally in a narrow window. Cells are HTML; the columns in `text` are left-aligned, others
/// right-aligned.
pub fn table(head: &[String], rows: &[Vec<String>], text: &[usize]) -> String {
    let side = |c: usize| if text.contains(&c) { " class=\"left\"" } else { "" };
    let mut out = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
    for (c, cell) in head.iter().enumerate() {
        out.push_str(&format!("<th scope=\"col\"{}>{cell}</th>", side(c)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (c, cell) in row.iter().enumerate() {
            out.push_str(&format!("<td{}>{cell}</td>", side(c)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}
