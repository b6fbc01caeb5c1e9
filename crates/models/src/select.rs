//! Selects the network's tensors from a file that may hold more: removes wrapper names and a common prefix, and leaves
//! out the rest.
//!
//! The candidates for the prefix are all beginnings of names in the file (`model.`, `teacher.backbone.`, none). The one
//! under which most of the network's own names are found wins, whatever known naming convention the file follows.
//! Tensors outside the prefix are left out and reported. If another prefix matches more than half as many names, the
//! file holds a second such network, and the choice is an error instead of a guess.
use std::collections::{BTreeMap, HashMap, HashSet};

use heterodyne_nn::{Error, Result};

use crate::names::{self, Convention};

/// Which tensors of a weights file to load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only load tensors under this prefix, and remove it from their names (`teacher`, `teacher.backbone.`; the final
    /// dot is optional; empty: keep all names). Default: chosen from the names.
    pub prefix: Option<String>,
    /// Tensors to leave out: names (`mask_token`), beginnings of names up to a dot (`head`), or patterns with `*` and
    /// `?` (`decoder_*`). Each is matched against the names in the file and against the names without the prefix.
    pub ignore: Vec<String>,
}

/// Parts that wrappers insert into names at the position of the wrapped module (torch.compile, FSDP, activation
/// checkpointing).
const WRAPPERS: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// The counter of a weight average; left out silently.
const AVERAGED: &str = "n_averaged";
/// The counter of a batch norm; never read here.
const BATCHES: &str = "num_batches_tracked";

/// Maximum number of entries in a message's list.
const LISTED: usize = 8;

/// The selected tensors of a file, and their names.
pub(crate) struct Chosen {
    /// Each tensor's name in the file and in timm.
    pub names: Vec<(String, String)>,
    /// One sentence for each change.
    pub adapted: Vec<String>,
    /// One sentence for each omission.
    pub left_out: Vec<String>,
}

/// A name in the file, and its current form.
struct Name<'a> {
    file: &'a str,
    now: String,
}

/// Selects from the names `file` for a network of `family` with the names `own`.
///
/// # Errors
/// The prefix is ambiguous, no tensor is under the requested prefix, an `ignore` entry matches nothing, or two names
/// become equal. Messages begin in lower case because they follow the file's name.
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
        chosen.adapted.push(format!("names: prefix `{prefix}` removed"));
        names.retain(|name| !ignored.takes(name));
    }
    if let Some(list) = grouped(&outside) {
        chosen.left_out.push(format!("outside `{prefix}`: {list}"));
    }
    if let Some(list) = grouped(&ignored.names) {
        chosen.left_out.push(format!("ignored: {list}"));
    }
    ignored.check(file)?;
    let now: Vec<&str> = names.iter().map(|name| &*name.now).collect();
    // `max_by_key` returns the last maximum: timm's own names win unless another convention matches more.
    let conventions: Vec<_> = names::conventions(family, &now).collect();
    let convention = conventions.into_iter().rev().max_by_key(|convention| hits(*convention, own, &now)).flatten();
    chosen.adapted.extend(convention.map(|c| format!("names: those of {}, converted to timm's", c.whose)));
    let renamed = names.iter().map(|name| (name.file.to_owned(), names::renamed(convention, &name.now)));
    chosen.names = renamed.collect();
    distinct(&chosen.names)?;
    Ok(chosen)
}

/// The names without wrapper parts; unchanged if two names would become equal.
fn unwrapped<'a>(file: &[&'a str], notes: &mut Vec<String>) -> Vec<Name<'a>> {
    let bare = |name: &str| name.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join(".");
    let names: Vec<_> = file.iter().map(|name| Name { file: name, now: bare(name) }).collect();
    if names.iter().map(|name| &name.now).collect::<HashSet<_>>().len() < names.len() {
        return file.iter().map(|name| Name { file: name, now: (*name).to_owned() }).collect();
    }
    let found = WRAPPERS.iter().filter(|wrapper| file.iter().any(|name| name.split('.').any(|part| part == **wrapper)));
    notes.extend(found.map(|wrapper| format!("names: `{wrapper}.` removed")));
    names
}

/// The requested prefix with its final dot.
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
        "none of its names has a prefix".to_owned()
    } else {
        format!("its names begin with {}", list.join(", "))
    };
    Err(Error::invalid(format!("it has no tensors under the `prefix` \"{wanted}\": {has}")))
}

/// The prefix under which most of the network's own names are found.
fn likeliest(family: &str, own: &HashSet<String>, names: &[Name]) -> Result<String> {
    let mut below: HashMap<&str, usize> = HashMap::new();
    for Name { now, .. } in names {
        let ends = std::iter::once(0).chain(now.match_indices('.').map(|(at, _)| at + 1));
        ends.for_each(|end| *below.entry(&now[..end]).or_insert(0) += 1);
    }
    let mut prefixes: Vec<(&str, usize)> = below.into_iter().collect();
    // Largest first: a prefix with at most half as many names as the best one's hits cannot matter, so the search stops
    // there.
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
    // The same tensors under another prefix are not a second network: a convention may include its own prefix.
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
                prefix => format!("under `{prefix}` ({hits})"),
            };
            let list = found.iter().take(LISTED).map(place).collect::<Vec<_>>().join(", ");
            let (wanted, other) = if first.is_empty() { (second, second) } else { (first, second) };
            let other = if other.is_empty() { wanted } else { other };
            Err(Error::invalid(format!(
                "it holds several networks of this kind: {list}; select one with `prefix`, for example \"{}\", or \
                 leave one out with `ignore`, for example [\"{}\"]",
                wanted.trim_end_matches('.'),
                other.trim_end_matches('.'),
            )))
        }
    }
}

/// The number of the network's own names that `names` match under this convention.
fn hits(convention: Option<&Convention>, own: &HashSet<String>, names: &[&str]) -> usize {
    let found: HashSet<String> = names
        .iter()
        .map(|name| names::whole(&names::renamed(convention, name)).0)
        .filter(|name| own.contains(name))
        .collect();
    found.len()
}

/// Whether `name` is one of the network's own names under this convention.
fn is_hit(convention: Option<&Convention>, own: &HashSet<String>, name: &str) -> bool {
    own.contains(&names::whole(&names::renamed(convention, name)).0)
}

/// Rejects two tensors with the same final name.
fn distinct(names: &[(String, String)]) -> Result<()> {
    let mut seen = HashMap::new();
    for (file, timm) in names {
        if let Some(other) = seen.insert(timm, file) {
            return Err(Error::invalid(format!(
                "both `{other}` and `{file}` map to the network's `{timm}`: leave one out with `ignore`"
            )));
        }
    }
    Ok(())
}

/// The patterns to ignore, and the names that they matched.
struct Ignored<'a> {
    patterns: &'a [String],
    used: Vec<bool>,
    names: Vec<String>,
}

impl<'a> Ignored<'a> {
    fn new(patterns: &'a [String]) -> Self {
        Self { patterns, used: vec![false; patterns.len()], names: Vec::new() }
    }

    /// Whether a pattern matches this name; records the name and the pattern.
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

    /// Rejects a pattern that matches nothing in the file.
    fn check(&self, file: &[&str]) -> Result<()> {
        // Names outside the prefix are left out anyway.
        let unused = self
            .patterns
            .iter()
            .zip(&self.used)
            .find(|(pattern, used)| !**used && !file.iter().any(|name| means(pattern, name)));
        let Some((pattern, _)) = unused else { return Ok(()) };
        let near =
            file.iter().map(|name| (strsim::jaro_winkler(name, pattern), name)).max_by(|a, b| a.0.total_cmp(&b.0));
        let near = near.map_or_else(String::new, |(_, name)| format!("; the nearest name is `{name}`"));
        Err(Error::invalid(format!("`ignore` lists `{pattern}`, but no tensor has this name{near}")))
    }
}

/// Whether `pattern` equals the name, or its beginning up to a dot, or, with `*` and `?`, matches the whole name.
fn means(pattern: &str, name: &str) -> bool {
    if pattern.contains(['*', '?']) {
        return glob(pattern.as_bytes(), name.as_bytes());
    }
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
    name.strip_prefix(pattern).is_some_and(|rest| !pattern.is_empty() && (rest.is_empty() || rest.starts_with('.')))
}

/// `*` matches any characters, `?` matches one.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    // The position of the last `*`, and how far into the name its match ends.
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

/// The names grouped by their first part, such as `head.` (3 tensors); `None` if there are only counters.
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

/// A proposal for `ignore` that leaves out all `unexpected` names: their first parts, with one pattern for those that
/// share a beginning up to `_`. `None` if it would also match some of the network's `own` names.
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
