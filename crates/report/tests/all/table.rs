//! Compares the terminal table with numbers computed by hand.
use heterodyne_report::{Group, Loaded, table};
use heterodyne_run::{Eval, Metric, RunFolder, Status, Summary, metrics::Writer};
use tempfile::TempDir;

use crate::sample::{Spec, eval, group, run};

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
    // The seeds' differences are 2, 2 and 5: 3 ± t sqrt(3) / sqrt(3), with t = 4.302653 for 2 degrees of freedom.
    assert_eq!(
        table(&groups),
        "method                                test top-1 %   seeds   s per run           vs kd [95 %]      vs scratch \
         [95 %]\n\
         teacher (vit_nano, 500 test images)          98.40\n\
         kd                                    84.00 ± 2.65       3        10.1                      –   +3.00 [-1.30, \
         +7.30]\n\
         scratch                               81.00 ± 1.00       3        10.1   -3.00 [-7.30, \
         +1.30]                      –\n"
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
        "method                                test top-1 %    seeds   s per run\n\
         teacher (vit_nano, 500 test images)          98.40\n\
         kd                                           90.00   1 of 4        10.0\n\
         at                                               –   0 of 1           –\n\
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
    assert_eq!(table(&[]), "method   test top-1 %   seeds   s per run\n");
}

#[test]
fn variants_are_compared_with_their_first() {
    let dir = TempDir::new().unwrap();
    let mut kd = group(&dir.path().join("a"), Some("kd"), &[80.0, 82.0]);
    let mut other = group(&dir.path().join("b"), Some("kd"), &[81.0, 84.0]);
    kd.name = "kd, T=1".to_owned();
    (other.name, other.variant_of) = ("kd, T=4".to_owned(), Some(kd.name.clone()));
    let text = table(&load(&[kd, other]));
    // Differences 1 and 2: 1.5 ± 12.706205 sqrt(0.5) / sqrt(2).
    let row = text.lines().find(|line| line.starts_with("kd, T=4")).unwrap();
    assert!(text.contains("vs first [95 %]") && row.ends_with("+1.50 [-4.85, +7.85]"), "{text}");
    assert!(!text.contains("vs kd"), "{text}");
}

#[test]
fn held_out_images_have_a_column_and_decide_alone_without_test_images() {
    let dir = TempDir::new().unwrap();
    let mut groups = [group(dir.path(), None, &[80.0]), group(dir.path(), Some("kd"), &[70.0])];
    for (row, top1) in groups.iter().zip([60.0, 65.5]) {
        let folder = RunFolder::open(&row.runs[0]).unwrap();
        let mut writer = Writer::open(&folder.metrics(), None).unwrap();
        for value in [1.0, top1] {
            let held_out = Eval { split: "validation".to_owned(), ..eval(2000, 100.0, value) };
            writer.write(&Metric::Eval(held_out)).unwrap();
        }
        let summary = folder.read_summary().unwrap();
        folder.write_summary(&Summary { metrics: Some(writer.extent().unwrap()), ..summary }).unwrap();
    }
    let text = table(&load(&groups));
    assert!(text.contains("held-out %") && text.contains("60.00") && text.contains("65.50"), "{text}");
    assert!(text.find("scratch  ") < text.find("kd  ") && text.contains("-10.00"), "{text}");
    for row in &groups {
        let folder = RunFolder::open(&row.runs[0]).unwrap();
        let summary = folder.read_summary().unwrap();
        folder.write_summary(&Summary { last: None, best: None, ..summary }).unwrap();
    }
    groups.reverse();
    let text = table(&load(&groups));
    assert!(text.find("kd  ") < text.find("scratch  ") && text.contains("+5.50"), "{text}");
    assert!(!text.contains("not counted"), "{text}");
}
