//! Checks the HTML that this crate writes: every tag is closed in order, and there is no stray `<` or `&` and no
//! duplicate attribute.

const VOID: [&str; 3] = ["meta", "br", "hr"];

/// The first error, if any.
pub fn check(html: &str) -> Result<(), String> {
    let mut rest = html.strip_prefix("<!DOCTYPE html>").ok_or("no doctype")?;
    let mut open: Vec<&str> = Vec::new();
    while let Some(at) = rest.find('<') {
        text(&rest[..at])?;
        rest = &rest[at + 1..];
        let end = tag_end(rest).ok_or_else(|| format!("a tag without end: <{:.60}", rest))?;
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let last = open.pop();
            if last != Some(name) {
                return Err(format!("</{name}> closes {last:?}"));
            }
            continue;
        }
        let closed = tag.ends_with('/');
        let name = attributes(tag.trim_end_matches('/'))?;
        if name == "style" {
            rest = rest.split_once("</style>").ok_or("unclosed style")?.1;
        } else if !closed && !VOID.contains(&name) {
            open.push(name);
        }
    }
    text(rest)?;
    if open.is_empty() { Ok(()) } else { Err(format!("never closed: {open:?}")) }
}

/// The end of the tag: the first `>` outside quotes.
fn tag_end(rest: &str) -> Option<usize> {
    let mut quoted = false;
    rest.char_indices().find_map(|(i, c)| {
        quoted ^= c == '"';
        (c == '>' && !quoted).then_some(i)
    })
}

fn attributes(tag: &str) -> Result<&str, String> {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(format!("not a tag: <{tag}>"));
    }
    let mut seen = Vec::new();
    while !rest.trim().is_empty() {
        let (key, after) = rest.trim_start().split_once("=\"").ok_or_else(|| format!("attributes of <{tag}>"))?;
        let (value, after) = after.split_once('"').ok_or_else(|| format!("quotes of <{tag}>"))?;
        if seen.contains(&key) || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(format!("attribute `{key}` of <{tag}>"));
        }
        if value.contains('<') || value.contains("NaN") || value.contains("inf ") {
            return Err(format!("`{key}` is {value}"));
        }
        text(value)?;
        seen.push(key);
        rest = after;
    }
    Ok(name)
}

/// Text has only entities that this crate writes.
fn text(text: &str) -> Result<(), String> {
    for (i, _) in text.match_indices('&') {
        if !["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"].iter().any(|e| text[i..].starts_with(e)) {
            return Err(format!("a bare & in {text:?}"));
        }
    }
    Ok(())
}

#[test]
fn the_checker_finds_faults() {
    let page = |body: &str| check(&format!("<!DOCTYPE html><html>{body}</html>"));
    assert_eq!(page("<p class=\"a\" title=\"x > y\">1 &lt; 2</p><line x=\"1\"/><meta charset=\"u\">"), Ok(()));
    for bad in [
        "<p>",
        "<p></b>",
        "a & b",
        "<p a=\"1\" a=\"2\"></p>",
        "<p a=1></p>",
        "< 3",
        "<p title=\"<b>\"></p>",
        "<i x=\"NaN\"/>",
    ] {
        assert!(page(bad).is_err(), "{bad}");
    }
}
