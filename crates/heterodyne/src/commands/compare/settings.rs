//! The settings of a comparison as text: `KEY=VALUE`, `KEY=A,B` and `KEY=VALUE, KEY=VALUE`.
use anyhow::{Result, bail};

/// Settings, each `KEY=VALUE`.
pub type Settings = Vec<String>;

/// `--set` arguments: those for all rows, and the combinations of those that list several values.
pub fn spread(sets: &[String]) -> Result<(Settings, Vec<Settings>)> {
    let (mut fixed, mut points) = (Vec::new(), vec![Vec::new()]);
    for set in sets {
        let (key, value) = set.split_once('=').unwrap_or((set, ""));
        if key.trim() == "seed" {
            bail!("--set {set}: the seeds of a comparison are set by --seeds or --seed-list");
        }
        let values = split(value);
        if values.len() < 2 {
            fixed.push(set.clone());
            continue;
        }
        if values.iter().any(|value| value.is_empty()) {
            bail!("--set {set}: a value in the list is empty\n  hint: quote a text that contains a comma");
        }
        let with = |point: &Settings, value: &&str| [point.as_slice(), &[format!("{}={value}", key.trim())]].concat();
        points = points.iter().flat_map(|point| values.iter().map(move |value| with(point, value))).collect();
    }
    Ok((fixed, points))
}

/// The settings of a variant; an empty text has none.
pub fn variant(text: &str) -> Settings {
    split(text).into_iter().filter(|set| !set.is_empty()).map(str::to_owned).collect()
}

/// Splits at commas outside of brackets and quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => escaped = true,
            (Some(open), _) => {
                if c == open && !escaped {
                    quote = None;
                }
                escaped = false;
            }
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// The method whose table a setting belongs to: `uhkd` for `methods.uhkd.k=3`.
pub fn method_of(set: &str) -> Option<&str> {
    set.split('=').next()?.trim().strip_prefix("methods.")?.split('.').next()
}

/// Whether a setting is the teacher's.
pub fn is_teachers(set: &str) -> bool {
    set.split('=').next().is_some_and(|key| key.trim() == "teacher" || key.trim().starts_with("teacher."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_separate_outside_of_brackets_and_quotes() {
        assert_eq!(split("0.1, 0.2"), ["0.1", "0.2"]);
        assert_eq!(split("[1,2],[3,[4,5]]"), ["[1,2]", "[3,[4,5]]"]);
        assert_eq!(split(r#"{a=1,b=2}, "x,\",y", 'z,"', "#), ["{a=1,b=2}", r#""x,\",y""#, r#"'z,"'"#, ""]);
        assert_eq!(split(""), [""]);
        assert_eq!(variant("a.b=[1,2], c="), ["a.b=[1,2]", "c="]);
        assert_eq!(variant(""), Settings::new());
    }

    #[test]
    fn listed_values_are_combined() {
        let sets = ["a=1", "b=2,3", "c=[4,5]", "d=x,y"].map(str::to_owned);
        let (fixed, points) = spread(&sets).unwrap();
        assert_eq!(fixed, ["a=1", "c=[4,5]"]);
        assert_eq!(points, [["b=2", "d=x"], ["b=2", "d=y"], ["b=3", "d=x"], ["b=3", "d=y"]]);
        assert_eq!(spread(&[]).unwrap(), (Settings::new(), vec![Settings::new()]));
        assert!(spread(&["a=1,".to_owned()]).is_err() && spread(&["seed=1,2".to_owned()]).is_err());
    }

    #[test]
    fn settings_know_whose_they_are() {
        assert_eq!(method_of("methods.uhkd.k=3"), Some("uhkd"));
        assert_eq!(method_of("methods.kd={weight=2}"), Some("kd"));
        assert_eq!((method_of("optim.lr=1"), method_of("name=\"methods.x\"")), (None, None));
        assert!(is_teachers("teacher.img=112") && is_teachers("teacher=") && !is_teachers("data.path=teacher.x"));
    }
}
