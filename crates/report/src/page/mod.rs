//! The page: sections in the order in which a reader needs them.
mod classes;
mod context;
mod curves;
mod results;
mod settings;
mod similarity;

use crate::{
    Loaded,
    chart::{Lines, Size, legend},
    markup::escape,
};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn page(title: &str, intro: &str, groups: &[Loaded]) -> String {
    let paragraphs: String = intro
        .split("\n\n")
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .map(|p| format!("<p>{}</p>\n", escape(p)))
        .collect();
    let body = if groups.iter().all(|g| g.runs.is_empty()) {
        "<p class=\"empty\">There are no runs.</p>\n".to_owned()
    } else {
        [
            results::section(groups),
            classes::section(groups),
            curves::accuracy(groups),
            curves::losses(groups),
            curves::rates(groups),
            similarity::section_of(groups),
            results::speed(groups),
            context::section(groups),
            settings::section(groups),
        ]
        .concat()
    };
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light \
         dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n{paragraphs}{body}</main>\n</body>\n</html>\n"
    )
}

/// A section with a heading.
fn section(heading: &str, body: &str) -> String {
    format!("<section>\n<h2>{heading}</h2>\n{body}</section>\n")
}

/// A chart for wide windows and one for narrow windows; the style sheet shows one of them.
fn both(wide: &str, narrow: &str) -> String {
    format!("<div class=\"wide\">\n{wide}</div>\n<div class=\"narrow\">\n{narrow}</div>\n")
}

/// A line chart as wide as the column, with its legend.
fn full_width(lines: &Lines) -> String {
    let wide = lines.svg(Size { w: 880.0, h: 340.0 });
    let narrow = lines.svg(Size { w: 360.0, h: 280.0 });
    format!(
        "<figure>\n{}{}</figure>\n",
        both(&wide, &narrow),
        legend(lines.series.iter().map(|s| (s.look, s.name.as_str())))
    )
}
