//! Finds the dictionaries of tensors in a pickle and chooses one.
use std::collections::HashSet;

use crate::{
    Fault,
    budget::Budget,
    pickle::{Arena, Id, Node, Pickle},
};

/// Maximum nesting depth of containers and of modules.
const DEPTH: usize = 64;

/// Keys under which checkpoints keep weights, best first: averaged weights (`state_dict_ema` and `model_ema` are
/// timm's), then plain ones (`state_dict` before `model`, as in timm).
const PREFERRED: [&str; 16] = [
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "model_ema_state_dict",
    "ema_model",
    "params_ema",
    "ema",
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "params",
    "weights",
    "module",
];

/// Maximum number of places in a message.
const LISTED: usize = 12;

/// A dictionary of tensors.
#[derive(Clone, Debug)]
pub struct Place {
    /// The path of keys and attributes to it, joined by dots; empty for the file's outermost object.
    pub place: String,
    /// Number of tensors.
    pub tensors: usize,
    pub(crate) node: Id,
}

/// All places, in the order of the file. One dictionary under two names gives two places.
pub fn places(pickle: &Pickle, budget: &mut Budget) -> Result<Vec<Place>, Fault> {
    let arena = &pickle.arena;
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![(String::new(), pickle.root, 0)];
    while let Some((place, node, depth)) = open.pop() {
        let tensors = tensors(arena, node, budget)?.len();
        if tensors > 0 {
            found.push(Place { place: place.clone(), tensors, node });
        }
        // A module's own modules are part of it.
        if depth == DEPTH || !seen.insert(node) || Module::of(arena, node, budget)?.is_some() {
            continue;
        }
        let first = open.len();
        for (key, child) in arena.entries(node) {
            budget.spend(1)?;
            if let Some(name) = arena.text(key).filter(|_| is_container(arena, child)) {
                open.push((below(&place, name, budget)?, child, depth + 1));
            }
        }
        for (index, &child) in arena.sequence(node).unwrap_or_default().iter().enumerate() {
            budget.spend(1)?;
            if is_container(arena, child) {
                open.push((below(&place, &index.to_string(), budget)?, child, depth + 1));
            }
        }
        // The last entry of a stack is taken first.
        open[first..].reverse();
    }
    Ok(found)
}

fn is_container(arena: &Arena, id: Id) -> bool {
    matches!(arena.node(id), Node::Dict(_) | Node::List(_) | Node::Tuple(_) | Node::Object(_))
}

/// The place of `name` in `place`.
fn below(place: &str, name: &str, budget: &mut Budget) -> Result<String, Fault> {
    budget.spend((place.len() + name.len() + 1) as u64)?;
    Ok(if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") })
}

/// The tensors of a dictionary or module with their names, in the order of the file.
pub fn tensors(arena: &Arena, node: Id, budget: &mut Budget) -> Result<Vec<(String, Id)>, Fault> {
    let mut found = Vec::new();
    let Some(outermost) = Module::of(arena, node, budget)? else {
        collect(arena, node, "", |_| true, &mut found, budget)?;
        return Ok(found);
    };
    let mut open = vec![(String::new(), outermost, 0)];
    while let Some((prefix, module, depth)) = open.pop() {
        collect(arena, module.parameters, &prefix, |_| true, &mut found, budget)?;
        if let Some(buffers) = module.buffers {
            let transient = module.transient(arena, budget)?;
            collect(arena, buffers, &prefix, |name| !transient.contains(name), &mut found, budget)?;
        }
        let first = open.len();
        for (key, child) in arena.entries(module.modules) {
            let (Some(name), Some(child)) = (arena.text(key), Module::of(arena, child, budget)?) else { continue };
            if depth == DEPTH {
                return Err(Fault::Damaged(format!("its modules are nested deeper than {DEPTH}, or in a cycle")));
            }
            budget.spend((prefix.len() + name.len() + 1) as u64)?;
            open.push((format!("{prefix}{name}."), child, depth + 1));
        }
        open[first..].reverse();
    }
    Ok(found)
}

/// Adds the tensors among a dictionary's entries.
fn collect(
    arena: &Arena,
    dictionary: Id,
    prefix: &str,
    wanted: impl Fn(&str) -> bool,
    found: &mut Vec<(String, Id)>,
    budget: &mut Budget,
) -> Result<(), Fault> {
    for (key, value) in arena.entries(dictionary) {
        budget.spend(1)?;
        let is_tensor = matches!(arena.node(value), Node::Tensor { .. } | Node::Foreign { .. });
        let Some(name) = arena.text(key).filter(|name| is_tensor && wanted(name)) else { continue };
        budget.spend((prefix.len() + name.len()) as u64)?;
        found.push((format!("{prefix}{name}"), value));
    }
    Ok(())
}

/// A pickled `torch.nn.Module`: any object with dictionaries of parameters and of modules.
struct Module {
    parameters: Id,
    buffers: Option<Id>,
    modules: Id,
    /// Set of the names of buffers that a state dict omits.
    transient: Option<Id>,
}

impl Module {
    fn of(arena: &Arena, node: Id, budget: &mut Budget) -> Result<Option<Self>, Fault> {
        budget.spend(arena.entries(node).count() as u64 + 1)?;
        let dictionary =
            |key| arena.entry(node, key).filter(|&id| matches!(arena.node(id), Node::Dict(_) | Node::Object(_)));
        let (Some(parameters), Some(modules)) = (dictionary("_parameters"), dictionary("_modules")) else {
            return Ok(None);
        };
        let (buffers, transient) = (dictionary("_buffers"), arena.entry(node, "_non_persistent_buffers_set"));
        Ok(Some(Self { parameters, buffers, modules, transient }))
    }

    /// The names of the buffers that a state dict omits.
    fn transient<'a>(&self, arena: &'a Arena, budget: &mut Budget) -> Result<HashSet<&'a str>, Fault> {
        let Some(Node::Set(names)) = self.transient.map(|id| arena.node(id)) else { return Ok(HashSet::new()) };
        names
            .iter()
            .filter_map(|&name| arena.text(name))
            .map(|name| budget.spend(name.len() as u64 + 1).map(|()| name))
            .collect()
    }
}

/// The requested place, or the default if none is requested.
pub fn choose<'a>(pickle: &Pickle, places: &'a [Place], wanted: Option<&str>) -> Result<&'a Place, Fault> {
    if places.is_empty() {
        return Err(Fault::Section(format!("holds {}, not a dictionary of named tensors", describe(pickle))));
    }
    if let Some(wanted) = wanted {
        let missing = || Fault::Section(format!("has no tensors at `{wanted}`; it has {}", list(places)));
        return places.iter().find(|place| place.place == wanted).ok_or_else(missing);
    }
    for name in PREFERRED {
        let under = |place: &&Place| {
            place.place.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let candidates: Vec<_> = places.iter().filter(under).collect();
        match candidates.iter().find(|place| place.place == name) {
            Some(exact) => return Ok(exact),
            None if candidates.is_empty() => {}
            None => return largest(&candidates),
        }
    }
    largest(&places.iter().collect::<Vec<_>>())
}

/// The place with the most tensors, if it is unique.
fn largest<'a>(places: &[&'a Place]) -> Result<&'a Place, Fault> {
    let most = places.iter().map(|place| place.tensors).max().unwrap_or_default();
    let mut winners = places.iter().filter(|place| place.tensors == most);
    match winners.next() {
        Some(first) if winners.all(|other| other.node == first.node) => Ok(first),
        _ => Err(Fault::Section(format!(
            "has several dictionaries of weights; name one of {}",
            list(places.iter().copied())
        ))),
    }
}

/// Lists the largest places for a message.
fn list<'a>(places: impl IntoIterator<Item = &'a Place>) -> String {
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by_key(|place| std::cmp::Reverse(place.tensors));
    let more = places.len().saturating_sub(LISTED);
    let name = |place: &&Place| match place.place.as_str() {
        "" => format!("the file itself, named \"\" ({} tensors)", place.tensors),
        name => format!("`{name:.120}` ({} tensors)", place.tensors),
    };
    let mut names: Vec<_> = places.iter().take(LISTED).map(name).collect();
    if more > 0 {
        names.push(format!("{more} smaller ones"));
    }
    names.join(", ")
}

/// Describes the content of a file without dictionaries of tensors.
fn describe(pickle: &Pickle) -> String {
    let arena = &pickle.arena;
    match arena.node(pickle.root) {
        Node::Tensor { .. } | Node::Foreign { .. } => "a single tensor without a name".into(),
        Node::Dict(_) => "a dictionary of other things".into(),
        Node::List(_) | Node::Tuple(_) => "a list of other things".into(),
        Node::Object(object) => {
            format!("an object of `{:.80}`", arena.global(object.class).unwrap_or("an unnamed class"))
        }
        _ => "a plain value".into(),
    }
}
