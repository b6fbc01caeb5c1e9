//! Names, and what somebody probably meant.

/// Below this similarity (Jaro-Winkler) a name is another word, not a slip.
const SIMILAR: f64 = 0.7;

/// The known name that `name` is most like, if it is like any.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let scored = known.into_iter().map(|known| (strsim::jaro_winkler(&name, &known.to_lowercase()), known));
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(similarity, _)| *similarity > SIMILAR).map(|(_, known)| known)
}

/// What is said of a name that is none of the known ones: `there is no method `kdd` (did you mean `kd`?); the methods are ..`.
#[must_use]
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let hint = nearest(name, known.iter().copied()).map_or_else(String::new, |known| format!(" (did you mean `{known}`?)"));
    format!("there is no {what} `{name}`{hint}; the {what}s are {}", known.join(", "))
}
