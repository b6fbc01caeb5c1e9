use heterodyne_data::{Dataset, audit};

use crate::support::{Fault, GO, Pattern, message, says};

#[test]
fn all_broken_samples_are_counted_and_ten_are_named() {
    audit([&Pattern::new(50, 4, 3) as &dyn Dataset], 2, &GO).unwrap();
    let faults = vec![(3, Fault::Panic), (5, Fault::Error), (49, Fault::Label)];
    for workers in [0, 1, 2] {
        let text = message(audit(
            [&Pattern { faults: faults.clone(), ..Pattern::new(50, 4, 3) } as &dyn Dataset],
            workers,
            &GO,
        ));
        says(
            &text,
            &[
                "pattern, 50 images: 3 broken",
                "sample 3: a bug in a decoder",
                "pictures/broken.png: is torn",
                "sample 49: label 3",
            ],
        );
    }
    let faults = (10..35).map(|i| (i, Fault::Label)).collect();
    let text = message(audit([&Pattern { faults, ..Pattern::new(50, 4, 3) } as &dyn Dataset], 2, &GO));
    says(&text, &["25 broken", "sample 10:", "sample 19:", "and 15 more"]);
    assert!(!text.contains("sample 20:"));
}

#[test]
fn an_audit_stops_when_it_is_asked_to() {
    let stop = std::sync::atomic::AtomicBool::new(true);
    let slow = Pattern { delay: std::time::Duration::from_millis(20), ..Pattern::new(100_000, 4, 3) };
    assert!(matches!(audit([&slow as &dyn Dataset], 2, &stop), Err(heterodyne_nn::Error::Stopped)));
}
