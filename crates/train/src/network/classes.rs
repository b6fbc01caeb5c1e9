//! Matches the classes of data and weights by name, whatever their order.
use std::collections::HashMap;

use crate::{Error, Result};

/// Largest number of names that a message lists.
const SHOWN: usize = 8;

/// The rows of a classifier with the classes `model` that give the classes `data`, in order; `None` if the two lists
/// are equal. The data may have fewer classes than the model.
///
/// # Errors
/// The data has classes that the model lacks, or names that are ambiguous in the model; the message lists them.
/// `weights` and `images` name the sources of the two lists in messages.
pub fn rows(model: &[String], data: &[String], weights: &str, images: &str) -> Result<Option<Vec<i64>>> {
    if model == data {
        return Ok(None);
    }
    let mut places: HashMap<&str, Vec<i64>> = HashMap::new();
    for (place, name) in (0..).zip(model) {
        places.entry(name).or_default().push(place);
    }
    let unknown: Vec<&String> = data.iter().filter(|name| !places.contains_key(name.as_str())).collect();
    if !unknown.is_empty() {
        let known = model.iter().filter(|name| !data.contains(name)).collect::<Vec<_>>();
        let others = if known.is_empty() { String::new() } else { format!("; the weights also have {}", list(&known)) };
        return Err(Error::Plan(format!(
            "{weights}: its {} classes do not include {} of the {} classes of {images}: {}{others}\n  hint: use the \
             weights' class names in the data, in any order (a subset is enough), or fine-tune the network on this \
             data: `heterodyne train` with it in [student] and `adapt_head = true`",
            model.len(),
            unknown.len(),
            data.len(),
            list(&unknown)
        )));
    }
    let twice: Vec<&String> = data.iter().filter(|name| places[name.as_str()].len() > 1).collect();
    if !twice.is_empty() {
        return Err(Error::Plan(format!(
            "{weights}: several of its classes have the same name ({}), and {images} has another class order: the \
             match is ambiguous",
            list(&twice)
        )));
    }
    Ok(Some(data.iter().map(|name| places[name.as_str()][0]).collect()))
}

fn list(names: &[&String]) -> String {
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn of(model: &str, data: &str) -> Result<Option<Vec<i64>>> {
        rows(&names(model), &names(data), "model.safetensors", "the folder")
    }

    #[test]
    fn names_are_found_wherever_they_stand() {
        assert_eq!(of("cat dog owl", "cat dog owl").unwrap(), None);
        assert_eq!(of("cat dog owl", "dog owl cat").unwrap(), Some(vec![1, 2, 0]));
        assert_eq!(of("cat dog owl", "owl cat").unwrap(), Some(vec![2, 0]));
        // Numbers sort differently as text.
        assert_eq!(of("1 2 10", "1 10 2").unwrap(), Some(vec![0, 2, 1]));
        assert_eq!(of("crane ship crane", "crane ship crane").unwrap(), None, "equal lists need no names");
    }

    #[test]
    fn what_does_not_match_is_listed() {
        let e = of("cat dog owl", "cat hound owl fox").unwrap_err().to_string();
        assert!(
            e.contains("2 of the 4 classes of the folder")
                && e.contains("`hound`, `fox`")
                && e.contains("also have `dog`"),
            "{e}"
        );
        let e = of("crane ship crane", "ship crane").unwrap_err().to_string();
        assert!(e.contains("same name") && e.contains("`crane`"), "{e}");
        let many: Vec<String> = (0..20).map(|i| format!("n{i}")).collect();
        let e = rows(&names("cat"), &many, "w", "d").unwrap_err().to_string();
        assert!(e.contains("and 12 more"), "{e}");
    }
}
