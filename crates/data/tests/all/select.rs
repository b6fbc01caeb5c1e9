use heterodyne_data::{Dataset, select};

use crate::support::{Fault, Pattern, message, says};

#[test]
fn a_selection_is_stratified_disjoint_and_deterministic() {
    let data = Pattern::new(100, 2, 4);
    let all = select(&data, None, 20, 1).unwrap();
    assert_eq!((all.train.len(), all.validation.len()), (80, 20));
    let mut together = [all.train.clone(), all.validation.clone()].concat();
    together.sort_unstable();
    assert_eq!(together, (0..100).collect::<Vec<_>>());
    for class in 0..4 {
        assert_eq!(all.validation.iter().filter(|&&i| data.label(i) == class).count(), 5);
    }
    let few = select(&data, Some(3), 20, 1).unwrap();
    let more = select(&data, Some(7), 20, 1).unwrap();
    assert_eq!(few.validation, all.validation);
    assert_eq!(few.train.len(), 12);
    assert!(few.train.iter().all(|i| more.train.contains(i)) && more.train.iter().all(|i| all.train.contains(i)));
    assert!((0..4).all(|class| few.train.iter().filter(|&&i| data.label(i) == class).count() == 3));
    assert_eq!(few, select(&data, Some(3), 20, 1).unwrap());
    assert_ne!(few, select(&data, Some(3), 20, 2).unwrap());
    assert_eq!(select(&data, None, 0, 1).unwrap().train, (0..100).collect::<Vec<_>>());
}

#[test]
fn uneven_classes_share_the_validation_samples() {
    // 34, 33 and 33 members.
    let selection = select(&Pattern::new(100, 2, 3), None, 10, 0).unwrap();
    let counts: Vec<usize> =
        (0..3).map(|class| selection.validation.iter().filter(|&&i| i % 3 == class).count()).collect();
    assert_eq!(counts, [4, 3, 3]);
}

#[test]
fn asking_for_more_than_there_is_says_so() {
    let data = Pattern::new(100, 2, 4);
    says(&message(select(&data, Some(21), 20, 0)), &["21", "`c0`", "has 20 after 5"]);
    says(&message(select(&data, Some(26), 0, 0)), &["26", "has 25"]);
    says(&message(select(&data, None, 100, 0)), &["100 validation", "only 100"]);
    says(&message(select(&data, Some(0), 0, 0)), &["at least 1"]);
    says(&message(select(&Pattern::new(5, 2, 4), None, 4, 0)), &["without a training sample"]);
    let broken = Pattern { faults: vec![(7, Fault::Label)], ..Pattern::new(10, 2, 2) };
    says(&message(select(&broken, None, 0, 0)), &["sample 7", "label 2"]);
}
