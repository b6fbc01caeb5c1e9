//! Compares the terminal table with numbers computed by hand.
use heterodyne_report::{Group, Loaded, table};
use heterodyne_run::Status;
use tempfile::TempDir;

use crate::sample::{Spec, group, run};

fn load(groups: &[Group]) -> Vec<Loaded> {
    groups.iter().map(|g| g.load().unwrap()).collect()
}

#[test]
fn means_deviations_and_differences() {
    let dir = TempDir::new().unwrap();
    // scratch: mean 81, deviations -1, 0, 1, so s = 1. kd: mean 84, deviations -2, -1, 3: s = sqrt(14 / 2) = 2.6458.
    let groups =
        load(&[group(dir.path(), None, &[80.0, 81.0, 82.0]), group(dir.path(), Some("kd"), &[82.0, 83.0, 87.0])]);
    assert_eq!((groups[0].mean(), groups[0].std()), (Some(81.0), Some(1.0)));
    assert_eq!(groups[1].mean(), Some(84.0));
    assert!((groups[1].std().unwrap() - 7f64.sqrt()).abs() < 1e-12);
    // Seconds are 10.0, 10.1 and 10.2.
    assert_eq!(
        table(&groups),
        "method    test top-1 %   each seed             s per run   vs scratch\n\
         scratch   81.00 ± 1.00   80.00  81.00  82.00        10.1            –\n\
         kd        84.00 ± 2.65   82.00  83.00  87.00        10.1        +3.00\n\
         teacher vit_nano: 98.40 % on 500 test images\n"
    );
}

#[test]
fn runs_that_did_not_finish_count_in_no_mean() {
    let dir = TempDir::new().unwrap();
    let mut kd = group(dir.path(), Some("kd"), &[90.0]);
    let long = "step 9: kd is NaN.\n  hint: lower optim.lr";
    for (seed, status, error) in
        [(5, Some(Status::Failed), Some(long)), (6, Some(Status::Interrupted), None), (7, None, None)]
    {
        let path = dir.path().join(format!("kd-s{seed}"));
        run(
            &path,
            &Spec { name: "kd", method: Some("kd"), seed, status, error, epochs: 20, top1: 10.0, ..Spec::default() },
        );
        kd.runs.push(path);
    }
    let mut none = group(dir.path(), Some("at"), &[]);
    none.runs.push(kd.runs[1].clone());
    assert_eq!(
        table(&load(&[kd, none])),
        "method   test top-1 %   each seed   s per run\n\
         kd              90.00   90.00            10.0\n\
         at                  –                       –\n\
         teacher vit_nano: 98.40 % on 500 test images\n\
         kd, seed 5: not counted (failed: step 9: kd is NaN, after 20 epochs)\n\
         kd, seed 6: not counted (interrupted, after 20 epochs)\n\
         kd, seed 7: not counted (no summary: still running, or killed, after 20 epochs)\n\
         at, seed 5: not counted (failed: step 9: kd is NaN, after 20 epochs)\n"
    );
}

#[test]
fn the_row_to_compare_with_is_named_scratch_or_the_only_untaught() {
    let dir = TempDir::new().unwrap();
    let mut plain = group(dir.path(), None, &[80.0]);
    let kd = group(dir.path(), Some("kd"), &[85.0]);
    plain.name = "labels only".to_owned();
    assert!(table(&load(&[plain.clone(), kd.clone()])).contains("+5.00"));
    let mut other = plain.clone();
    other.name = "more labels".to_owned();
    assert!(
        !table(&load(&[plain.clone(), other.clone(), kd.clone()])).contains("vs scratch"),
        "two rows without a teacher and no name"
    );
    other.name = "Scratch".to_owned();
    assert!(table(&load(&[plain, other, kd])).contains("+5.00"));
    assert_eq!(table(&[]), "method   test top-1 %   each seed   s per run\n");
}
