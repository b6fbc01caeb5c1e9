//! Which tensors of a file are the network's, where it holds more than those: wrappers' parts of names, a common
//! prefix, what is left out.
//!
//! A prefix is chosen by what it explains: of all beginnings of names in the file (`model.`, `teacher.backbone.`, none)
//! the one below which most of the network's own names are found, in any way of naming that is known. What lies outside
//! of it is left out and told. Where another prefix explains more than half as many, the file holds a second such
//! network and nothing is guessed.
use std::collections::{BTreeMap, HashMap, HashSet};

use heterodyne_nn::{Error, Result};

use crate::names::{self, Convention};

/// Which tensors of a weights file are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only tensors below this prefix, which is taken away from their names (`teacher`, `teacher.backbone.`; a dot at
    /// its end may be left out; empty: names as they are). Chosen by the names if not given.
    pub prefix: Option<String>,
    /// What is left out knowingly: names (`mask_token`), the beginnings of names up to a dot (`head`), or patterns with
    /// `*` and `?` (`decoder_*`). They are held to the names in the file and to those without the prefix.
    pub ignore: Vec<String>,
}

/// Parts that wrappers put into names, wherever the wrapped module stands (torch.compile, FSDP, activation
/// checkpointing).
const WRAPPERS: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// What a weight average counts beside the names that it wraps; left out without a word.
const AVERAGED: &str = "n_averaged";
/// What a batch norm counts; nothing here reads it.
const BATCHES: &str = "num_batches_tracked";

/// How many prefixes a message lists.
const LISTED: usize = 8;

/// What of a file is meant, and under which names.
pub(crate) struct Chosen {
    /// Of each tensor: its name in the file, and in timm.
    pub names: Vec<(String, String)>,
    /// What was changed, a sentence each.
    pub adapted: Vec<String>,
    /// What was left out, a sentence each.
    pub left_out: Vec<String>,
}

/// A name on its way.
struct Name<'a> {
    file: &'a str,
    now: String,
}

/// Chooses among the names `file` for a network of `family` whose own names are `own`.
///
/// # Errors
/// Several prefixes could be meant, nothing lies below the one that is asked for, something to be ignored is not there,
/// two names become one. Messages begin lower-case, as what follows the file's name.
pub(crate) fn choose(family: &str, own: &HashSet<String>, file: &[&str], selection: &Selection) -> Result<Chosen> {
    let mut chosen = Chosen { names: Vec::new(), adapted: Vec::new(), left_out: Vec::new() };
    let mut names = unwrapped(file, &mut chosen.adapted);
    let mut ignored = Ignored::new(&selection.ignore);
    names.retain(|name| !ignored.takes(name) && name.now.rsplit('.').next() != Some(AVERAGED));
    let prefix = match &selection.prefix {
        Some(prefix) => given(prefix, &names)?,
        None => likeliest(family, own, &names)?,
    };
    let mut outside = Vec::new();
    if !prefix.is_empty() {
        names.retain_mut(|name| match name.now.strip_prefix(&prefix) {
            Some(rest) => {
                name.now = rest.to_owned();
                true
            }
            None => {
                outside.push(name.now.clone());
                false
            }
        });
        chosen.adapted.push(format!("names: `{prefix}` taken away from the front"));
        names.retain(|name| !ignored.takes(name));
    }
    if let Some(list) = grouped(&outside) {
        chosen.left_out.push(format!("outside of `{prefix}`: {list}"));
    }
    if let Some(list) = grouped(&ignored.names) {
        chosen.left_out.push(format!("ignored: {list}"));
    }
    ignored.check(file)?;
    let now: Vec<&str> = names.iter().map(|name| &*name.now).collect();
    // The last of equals: timm's own names, where nothing is gained by another convention.
    let conventions: Vec<_> = names::conventions(family, &now).collect();
    let convention = conventions.into_iter().rev().max_by_key(|convention| hits(*convention, own, &now)).flatten();
    chosen.adapted.extend(convention.map(|c| format!("names: those of {}, made timm's", c.whose)));
    let renamed = names.iter().map(|name| (name.file.to_owned(), names::renamed(convention, &name.now)));
    chosen.names = renamed.collect();
    distinct(&chosen.names)?;
    Ok(chosen)
}

/// The names without wrappers' parts; as they are where two would become one.
fn unwrapped<'a>(file: &[&'a str], notes: &mut Vec<String>) -> Vec<Name<'a>> {
    let bare = |name: &str| name.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join(".");
    let names: Vec<_> = file.iter().map(|name| Name { file: name, now: bare(name) }).collect();
    if names.iter().map(|name| &name.now).collect::<HashSet<_>>().len() < names.len() {
        return file.iter().map(|name| Name { file: name, now: (*name).to_owned() }).collect();
    }
    let found = WRAPPERS.iter().filter(|wrapper| file.iter().any(|name| name.split('.').any(|part| part == **wrapper)));
    notes.extend(found.map(|wrapper| format!("names: `{wrapper}.` taken out")));
    names
}

/// The prefix that is asked for, with its dot.
fn given(wanted: &str, names: &[Name]) -> Result<String> {
    let prefix = if wanted.is_empty() || wanted.ends_with('.') { wanted.to_owned() } else { format!("{wanted}.") };
    if names.iter().any(|name| name.now.starts_with(&prefix)) {
        return Ok(prefix);
    }
    let mut firsts = BTreeMap::new();
    for (first, _) in names.iter().filter_map(|name| name.now.split_once('.')) {
        *firsts.entry(first).or_insert(0) += 1;
    }
    let mut firsts: Vec<_> = firsts.into_iter().collect();
    firsts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let list: Vec<_> = firsts.iter().take(LISTED).map(|(first, count)| format!("`{first}` ({count})")).collect();
    let has = if list.is_empty() {
        "no name in it has a prefix".to_owned()
    } else {
        format!("its names begin with {}", list.join(", "))
    };
    Err(Error::invalid(format!("there are no tensors below the `prefix` \"{wanted}\"; {has}")))
}

/// The prefix below which most of the network's own names are found.
fn likeliest(family: &str, own: &HashSet<String>, names: &[Name]) -> Result<String> {
    let mut below: HashMap<&str, usize> = HashMap::new();
    for Name { now, .. } in names {
        let ends = std::iter::once(0).chain(now.match_indices('.').map(|(at, _)| at + 1));
        ends.for_each(|end| *below.entry(&now[..end]).or_insert(0) += 1);
    }
    let mut prefixes: Vec<(&str, usize)> = below.into_iter().collect();
    // Those with most names first: what has fewer than half of the best's hits is of no account and is not looked at.
    prefixes.sort_by_key(|(prefix, count)| (std::cmp::Reverse(*count), prefix.len(), *prefix));
    let mut found: Vec<(&str, usize, HashSet<&str>)> = Vec::new();
    let mut most = 0;
    for (prefix, count) in prefixes {
        if 2 * count <= most {
            break;
        }
        let rest: Vec<&str> = names.iter().filter_map(|name| name.now.strip_prefix(prefix)).collect();
        let best = names::conventions(family, &rest).max_by_key(|convention| hits(*convention, own, &rest)).flatten();
        let hits = hits(best, own, &rest);
        most = most.max(hits);
        let which =
            names.iter().filter(|name| name.now.strip_prefix(prefix).is_some_and(|rest| is_hit(best, own, rest)));
        found.push((prefix, hits, which.map(|name| name.file).collect()));
    }
    found.retain(|(_, hits, _)| *hits > 0 && 2 * hits > most);
    found.sort_by_key(|(prefix, hits, _)| (std::cmp::Reverse(*hits), prefix.len()));
    // Below another prefix the same tensors are no second network: a convention may name its own prefix.
    let first = found.first().map(|(_, _, which)| which.clone()).unwrap_or_default();
    let mut place = 0;
    found.retain(|(_, hits, which)| {
        place += 1;
        place == 1 || 2 * which.intersection(&first).count() < *hits
    });
    let found: Vec<(&str, usize)> = found.into_iter().map(|(prefix, hits, _)| (prefix, hits)).collect();
    match found[..] {
        [] => Ok(String::new()),
        [(prefix, _)] => Ok(prefix.to_owned()),
        [(first, _), (second, _), ..] => {
            let place = |(prefix, hits): &(&str, usize)| match *prefix {
                "" => format!("without a prefix ({hits} of its {} names)", own.len()),
                prefix => format!("below `{prefix}` ({hits})"),
            };
            let list = found.iter().take(LISTED).map(place).collect::<Vec<_>>().join(", ");
            let (wanted, other) = if first.is_empty() { (second, second) } else { (first, second) };
            let other = if other.is_empty() { wanted } else { other };
            Err(Error::invalid(format!(
                "several networks of this kind are in it: {list}; say which one is meant with `prefix`, \"{}\" for \
                 instance, or leave one out with \
                 `ignore`, [\"{}\"] for instance",
                wanted.trim_end_matches('.'),
                other.trim_end_matches('.'),
            )))
        }
    }
}

/// How many of the network's own names `names` are by that convention.
fn hits(convention: Option<&Convention>, own: &HashSet<String>, names: &[&str]) -> usize {
    let found: HashSet<String> = names
        .iter()
        .map(|name| names::whole(&names::renamed(convention, name)).0)
        .filter(|name| own.contains(name))
        .collect();
    found.len()
}

/// Whether `name` is one of the network's own by that convention.
fn is_hit(convention: Option<&Convention>, own: &HashSet<String>, name: &str) -> bool {
    own.contains(&names::whole(&names::renamed(convention, name)).0)
}

/// Refuses names of which two have become one.
fn distinct(names: &[(String, String)]) -> Result<()> {
    let mut seen = HashMap::new();
    for (file, timm) in names {
        if let Some(other) = seen.insert(timm, file) {
            return Err(Error::invalid(format!(
                "both `{other}` and `{file}` would be the network's `{timm}`: leave one out with `ignore`"
            )));
        }
    }
    Ok(())
}

/// What is to be left out, and what has been.
struct Ignored<'a> {
    patterns: &'a [String],
    used: Vec<bool>,
    names: Vec<String>,
}

impl<'a> Ignored<'a> {
    fn new(patterns: &'a [String]) -> Self {
        Self { patterns, used: vec![false; patterns.len()], names: Vec::new() }
    }

    /// Whether a pattern means this name; notes both.
    fn takes(&mut self, name: &Name) -> bool {
        let mut taken = false;
        for (pattern, used) in self.patterns.iter().zip(&mut self.used) {
            let matches = means(pattern, name.file) || means(pattern, &name.now);
            *used |= matches;
            taken |= matches;
        }
        if taken {
            self.names.push(name.now.clone());
        }
        taken
    }

    /// Refuses a pattern that means nothing that is in the file.
    fn check(&self, file: &[&str]) -> Result<()> {
        // What lies outside of the prefix is left out anyway.
        let unused = self
            .patterns
            .iter()
            .zip(&self.used)
            .find(|(pattern, used)| !**used && !file.iter().any(|name| means(pattern, name)));
        let Some((pattern, _)) = unused else { return Ok(()) };
        let near =
            file.iter().map(|name| (strsim::jaro_winkler(name, pattern), name)).max_by(|a, b| a.0.total_cmp(&b.0));
        let near = near.map_or_else(String::new, |(_, name)| format!("; the nearest is `{name}`"));
        Err(Error::invalid(format!("no tensor is called `{pattern}`, which is to be ignored{near}")))
    }
}

/// Whether `pattern` is the name, its beginning up to a dot, or, with `*` and `?`, a pattern of the whole of it.
fn means(pattern: &str, name: &str) -> bool {
    if pattern.contains(['*', '?']) {
        return glob(pattern.as_bytes(), name.as_bytes());
    }
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
    name.strip_prefix(pattern).is_some_and(|rest| !pattern.is_empty() && (rest.is_empty() || rest.starts_with('.')))
}

/// `*` is any characters, `?` is one.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    // Where the last `*` stands, and how much of the name it has taken.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                None => return false,
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Names by their first parts, `head.` (3 tensors); `None` where there are none but counters.
fn grouped(names: &[String]) -> Option<String> {
    let mut groups: Vec<(String, usize)> = Vec::new();
    for name in names.iter().filter(|name| name.rsplit('.').next() != Some(BATCHES)) {
        let group = name.split_once('.').map_or_else(|| format!("`{name}`"), |(first, _)| format!("`{first}.`"));
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, count)) => *count += 1,
            None => groups.push((group, 1)),
        }
    }
    let more = groups.len().saturating_sub(LISTED);
    let text = |(group, count): &(String, usize)| match group.ends_with(".`") {
        true => format!("{group} ({count} {})", if *count == 1 { "tensor" } else { "tensors" }),
        false => group.clone(),
    };
    let mut list: Vec<_> = groups.iter().take(LISTED).map(text).collect();
    list.extend((more > 0).then(|| format!("and {more} more")));
    (!list.is_empty()).then(|| list.join(", "))
}

/// What could be written for `ignore` so that all `unexpected` names are left out: their first parts, and a pattern for
/// those that begin alike up to `_`. `None` where that would take names of the network's `own` too.
pub(crate) fn proposal(unexpected: &[String], own: &HashSet<String>) -> Option<Vec<String>> {
    let firsts: Vec<&str> = {
        let mut firsts: Vec<_> = unexpected.iter().map(|name| name.split('.').next().unwrap_or(name)).collect();
        firsts.sort_unstable();
        firsts.dedup();
        firsts
    };
    let stem = |first: &str| first.split_once('_').map(|(stem, _)| format!("{stem}_"));
    let mut patterns = Vec::new();
    for first in &firsts {
        let shared =
            stem(first).filter(|stem| firsts.iter().filter(|other| other.starts_with(stem.as_str())).count() > 1);
        let shared = shared.filter(|stem| !own.iter().any(|name| name.starts_with(stem.as_str())));
        let pattern = shared.map_or_else(|| (*first).to_owned(), |stem| format!("{stem}*"));
        if own.iter().any(|name| means(&pattern, name)) {
            return None;
        }
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    (!patterns.is_empty() && patterns.len() <= LISTED).then_some(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_beginnings_or_globs() {
        for (pattern, name, expected) in [
            ("mask_token", "mask_token", true),
            ("head", "head.weight", true),
            ("head.", "head.weight", true),
            ("head", "head_dist.weight", false),
            ("head.weight", "head.weight.x", true),
            ("", "head", false),
            ("decoder_*", "decoder_blocks.0.attn", true),
            ("decoder_*", "x.decoder_blocks", false),
            ("*.bias", "a.b.bias", true),
            ("*.bias", "a.bias.c", false),
            ("blocks.?.attn*", "blocks.1.attn.qkv.weight", true),
            ("blocks.?.attn*", "blocks.11.attn.qkv.weight", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxbxa", false),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(means(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_proposal_spares_what_the_network_has() {
        let of = |names: &[&str], own: &[&str]| {
            proposal(
                &names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(),
                &own.iter().map(|n| (*n).to_owned()).collect(),
            )
        };
        let mae = ["decoder_embed.weight", "mask_token", "decoder_pred.bias", "decoder_blocks.0.norm1.weight"];
        assert_eq!(of(&mae, &["blocks.0.x", "cls_token"]), Some(vec!["decoder_*".to_owned(), "mask_token".to_owned()]));
        assert_eq!(of(&mae, &["decoder_embed.bias"]), None);
        assert_eq!(of(&mae, &["decoder_x.bias"]).unwrap().len(), 4);
        assert_eq!(of(&[], &["a"]), None);
    }
}
