//! Suggests the name that the user probably meant.

/// Below this similarity (Jaro-Winkler), a name counts as a different word, not a typo; `learning_rate` still finds
/// `lr`.
const SIMILAR: f64 = 0.74;

/// Words of other tools for keys and values of ours. A word counts only where the name is valid.
const ELSEWHERE: [(&str, &str); 22] = [
    ("amp", "precision"),
    ("amp", "bf16"),
    ("autocast", "precision"),
    ("batch_size", "batch"),
    ("bs", "batch"),
    ("checkpoint", "weights"),
    ("dir", "path"),
    ("gpu", "cuda"),
    ("grad_clip", "clip_grad"),
    ("max_norm", "clip_grad"),
    ("mixed_precision", "precision"),
    ("num_epochs", "epochs"),
    ("num_workers", "workers"),
    ("opt", "name"),
    ("pretrained", "weights"),
    ("root", "path"),
    ("t", "temperature"),
    ("tau", "temperature"),
    ("temp", "temperature"),
    ("val_split", "holdout"),
    ("warmup", "warmup_epochs"),
    ("wd", "weight_decay"),
];

/// The known name that `name` probably means: what another tool calls so, or the most similar one if any is similar
/// enough.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.into_iter().collect();
    let word = name.to_lowercase().replace('-', "_");
    let mut meant = ELSEWHERE.iter().filter(|(other, _)| *other == word).map(|(_, own)| own);
    if let Some(own) = meant.find_map(|own| known.iter().copied().find(|known| known == own)) {
        return Some(own);
    }
    let scored = known.into_iter().map(|known| (similarity(name, known), known));
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score >= SIMILAR).map(|(_, known)| known)
}

/// The similarity of two names, from 0 to 1, ignoring case. Names that differ by one typo are highly similar.
fn similarity(a: &str, b: &str) -> f64 {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let slip = a.len().min(b.len()) >= 3 && strsim::osa_distance(&a, &b) == 1;
    strsim::jaro_winkler(&a, &b).max(if slip { 0.9 } else { 0.0 })
}

/// The `count` known names most similar to `name`, the nearest first.
pub(crate) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let mut scored: Vec<_> = known.into_iter().map(|known| (similarity(name, known), known)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(count).map(|(_, known)| known).collect()
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

    #[test]
    fn words_of_other_tools_are_known_where_they_fit() {
        let device = ["auto", "cpu", "cuda"];
        assert_eq!((nearest("gpu", device), nearest("GPU", device)), (Some("cuda"), Some("cuda")));
        assert_eq!(nearest("warmup", ["name", "warmup_epochs", "warmup_start"]), Some("warmup_epochs"));
        assert_eq!(nearest("T", ["k", "alpha", "temperature"]), Some("temperature"));
        assert_eq!(nearest("batch-size", ["epochs", "batch"]), Some("batch"));
        assert_eq!(nearest("gpu", ["sgd", "adamw"]), None);
    }
}
