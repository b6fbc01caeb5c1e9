//! Lists of things that have names: methods, models, datasets.
use std::sync::{PoisonError, RwLock};

use crate::{did_you_mean, nearest::closest};

/// A list that is longer is not printed for an unknown name; the nearest names are.
const SHORT: usize = 24;
/// How many of them.
const NEAR: usize = 3;

/// An entry of a [`Registry`].
pub trait Named {
    /// Its unique name.
    fn name(&self) -> &'static str;
}

/// The entries of a library by name, and those that a program adds.
#[derive(Debug)]
pub struct Registry<T: 'static> {
    /// What an entry is called in messages: `method`.
    what: &'static str,
    tables: &'static [&'static [T]],
    added: RwLock<Vec<&'static T>>,
}

impl<T: Named> Registry<T> {
    /// The registry of a library.
    #[must_use]
    pub const fn new(what: &'static str, tables: &'static [&'static [T]]) -> Self {
        Self { what, tables, added: RwLock::new(Vec::new()) }
    }

    /// All entries: the library's in their order, then those that were added.
    pub fn all(&self) -> Vec<&'static T> {
        let added = self.added.read().unwrap_or_else(PoisonError::into_inner);
        self.tables.iter().copied().flatten().chain(added.iter().copied()).collect()
    }

    /// The entry of that name.
    ///
    /// # Errors
    /// There is none; the message has the nearest names.
    pub fn find(&self, name: &str) -> Result<&'static T, String> {
        let all = self.all();
        if let Some(found) = all.iter().find(|entry| entry.name() == name) {
            return Ok(found);
        }
        let (what, names): (_, Vec<_>) = (self.what, all.iter().map(|entry| entry.name()).collect());
        Err(if names.len() > SHORT {
            let near: Vec<_> = closest(name, names, NEAR).into_iter().map(|near| format!("`{near}`")).collect();
            format!("there is no {what} `{name}`; the nearest names are {}", near.join(", "))
        } else {
            let near = did_you_mean(name, names.iter().copied());
            format!("there is no {what} `{name}`{near}; the {what}s are {}", names.join(", "))
        })
    }

    /// Adds an entry of a program that uses the library.
    ///
    /// # Errors
    /// The name is taken.
    pub fn register(&self, entry: &'static T) -> Result<(), String> {
        let name = entry.name();
        if self.all().iter().any(|known| known.name() == name) {
            return Err(format!("there is a {} `{name}` already: choose another name", self.what));
        }
        self.added.write().unwrap_or_else(PoisonError::into_inner).push(entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Named for &'static str {
        fn name(&self) -> &'static str {
            self
        }
    }

    #[test]
    fn entries_are_found_added_and_missed_with_a_hint() {
        static FEW: Registry<&str> = Registry::new("method", &[&["kd", "dkd"], &["uhkd"]]);
        assert_eq!(FEW.find("uhkd"), Ok(&"uhkd"));
        assert_eq!(
            FEW.find("uhdk").unwrap_err(),
            "there is no method `uhdk` (did you mean `uhkd`?); the methods are kd, dkd, uhkd"
        );
        assert!(FEW.register(&"kd").unwrap_err().contains("`kd` already"));
        FEW.register(&"own").unwrap();
        assert_eq!(FEW.find("own"), Ok(&"own"));
        static MANY: Registry<&str> = Registry::new("model", &[&["resnet18"; 30], &["vit_tiny"]]);
        assert!(MANY.find("vit_tinny").unwrap_err().contains("the nearest names are `vit_tiny`, "));
    }
}
