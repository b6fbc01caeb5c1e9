//! Names, and what somebody probably meant.

/// Below this similarity (Jaro and Winkler's) a name is another word, not a slip; `learning_rate` still finds `lr`.
const SIMILAR: f64 = 0.74;

/// The known name that `name` is most like, if it is like any.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|known| (similarity(name, known), known));
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score >= SIMILAR).map(|(_, known)| known)
}

/// How alike two names are, from 0 to 1, whatever their case; one slip of the finger is very much alike.
fn similarity(a: &str, b: &str) -> f64 {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let slip = a.len().min(b.len()) >= 3 && strsim::osa_distance(&a, &b) == 1;
    strsim::jaro_winkler(&a, &b).max(if slip { 0.9 } else { 0.0 })
}

/// The message for an unknown name: `there is no method `kdd` (did you mean `kd`?); the methods are ..`.
#[must_use]
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    format!(
        "there is no {what} `{name}`{}; the {what}s are {}",
        did_you_mean(name, known.iter().copied()),
        known.join(", ")
    )
}

/// ` (did you mean `kd`?)`, or nothing.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |known| format!(" (did you mean `{known}`?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let near = |name| nearest(name, ["name", "lr", "momentum", "weight_decay", "sgd"]);
        assert_eq!(near("learning_rate"), Some("lr"));
        assert_eq!(near("lerning_rate"), Some("lr"));
        assert_eq!(near("weigth_decay"), Some("weight_decay"));
        assert_eq!(near("Momentum"), Some("momentum"));
        assert_eq!(near("sdg"), Some("sgd"));
        assert_eq!(near("xyz"), None);
    }
}
