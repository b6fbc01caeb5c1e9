//! How many images each class has.
use crate::{Dataset, Splits, faults};

/// Fewer training images of a class are pointed out.
const FEW: usize = 10;

/// Number of images of each class, in the order of the classes.
#[must_use]
pub fn sizes(split: &dyn Dataset) -> Vec<usize> {
    let mut counts = vec![0; split.classes().len()];
    (0..split.len()).for_each(|index| counts[split.label(index)] += 1);
    counts
}

/// The classes without images in a split, and those with few training images: one note for each kind.
#[must_use]
pub fn notes(splits: &Splits) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, split) in splits.all() {
        let sizes = sizes(&**split);
        let mut list = |what: &str, few: &dyn Fn(usize) -> bool| {
            let found = split.classes().iter().zip(&sizes).filter(|(_, n)| few(**n));
            let found: Vec<String> = found.map(|(class, n)| format!("{class} ({n})")).collect();
            if !found.is_empty() {
                let noun = if found.len() == 1 { "class" } else { "classes" };
                notes.push(format!("{} {noun} {what}:{}", found.len(), faults::list(found.iter())));
            }
        };
        list(&format!("without {name} images"), &|n| n == 0);
        if name == "train" {
            list(&format!("with fewer than {FEW} training images"), &|n| n > 0 && n < FEW);
        }
    }
    notes
}
