//! Stratified subsets of a dataset.
use heterodyne_nn::{Error, Result};

use crate::{Dataset, Random, random::Purpose};

/// Positions in a dataset, ascending, without overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The training samples.
    pub train: Vec<usize>,
    /// The held-out samples.
    pub validation: Vec<usize>,
}

/// Holds out `validation` samples, spread over the classes in proportion to their size (largest remainders), and keeps
/// `per_class` of each class's remaining samples, or all of them. The same seed gives the same choice. The held-out
/// samples do not depend on `per_class`, and a smaller `per_class` gives a subset of a larger one.
///
/// # Errors
/// More samples are requested than exist, or a class would be left without a training sample.
pub fn select(dataset: &dyn Dataset, per_class: Option<usize>, validation: usize, seed: u64) -> Result<Selection> {
    let classes = dataset.classes();
    let mut members = vec![Vec::new(); classes.len()];
    for index in 0..dataset.len() {
        let label = dataset.label(index);
        let class = members.get_mut(label);
        class
            .ok_or_else(|| {
                Error::invalid(format!(
                    "sample {index} of {} has label {label}; there are {} classes",
                    dataset.describe(),
                    classes.len()
                ))
            })?
            .push(index);
    }
    if validation > 0 && validation >= dataset.len() {
        return Err(Error::invalid(format!(
            "{validation} validation samples are requested, but {} has only {}; hold out fewer",
            dataset.describe(),
            dataset.len()
        )));
    }
    if per_class == Some(0) {
        return Err(Error::invalid(
            "0 samples per class are requested; request at least 1, or leave the number out for all",
        ));
    }
    let held_out = apportion(validation, &members.iter().map(Vec::len).collect::<Vec<_>>());
    let mut selection = Selection { train: Vec::new(), validation: Vec::new() };
    for (class, (mut indices, held)) in members.into_iter().zip(held_out).enumerate() {
        Random::new(seed, Purpose::Select, class as u64, 0).shuffle(&mut indices);
        let (validation, rest) = indices.split_at(held);
        // A class that occurs only in the list of classes has no samples.
        let wanted = if rest.is_empty() && held == 0 { 0 } else { per_class.unwrap_or(rest.len()) };
        if wanted > rest.len() {
            return Err(Error::invalid(format!(
                "{wanted} training samples per class are requested, but class `{}` of {} has {} after {held} are held \
                 out for validation",
                classes[class],
                dataset.describe(),
                rest.len()
            )));
        }
        if rest.is_empty() && held > 0 {
            return Err(Error::invalid(format!(
                "holding out {} validation samples would leave class `{}` of {} without a training sample; hold out \
                 fewer",
                held,
                classes[class],
                dataset.describe()
            )));
        }
        selection.validation.extend_from_slice(validation);
        selection.train.extend_from_slice(&rest[..wanted]);
    }
    selection.train.sort_unstable();
    selection.validation.sort_unstable();
    Ok(selection)
}

/// Splits `total` in proportion to `sizes`: each gets the integer part of its share; the rest goes to the largest
/// fractions, the first among equal ones.
fn apportion(total: usize, sizes: &[usize]) -> Vec<usize> {
    let all: usize = sizes.iter().sum::<usize>().max(1);
    let mut shares: Vec<usize> = sizes.iter().map(|size| total * size / all).collect();
    let mut by_fraction: Vec<usize> = (0..sizes.len()).collect();
    by_fraction.sort_by_key(|&i| std::cmp::Reverse(total * sizes[i] % all));
    let left = total - shares.iter().sum::<usize>();
    for &i in by_fraction.iter().take(left) {
        shares[i] += 1;
    }
    shares
}
