//! The page is well-formed, self-contained, and correct in edge cases.
use std::fs;

use heterodyne_report::{Group, html, published, write};
use heterodyne_run::{Metric, RunFolder, Status, Summary, metrics::Writer};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    sample::{Spec, eval, everything, group, run},
    wellformed::check,
};

fn page(groups: &[Group]) -> String {
    let page = html("Runs", "An introduction.", groups).unwrap();
    check(&page).unwrap_or_else(|e| panic!("{e}"));
    for outside in ["http:", "https:", "<script", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    page
}

#[test]
fn a_full_page_is_well_formed_and_shows_everything() {
    let dir = TempDir::new().unwrap();
    let groups = everything(dir.path());
    let page = page(&groups);
    for part in [
        "<strong>84.40 ± 1.11</strong>",
        // uhkd: differences 8.4, 7.4 and 8.4, so 8.0667 ± 4.30265 * 0.57735 / sqrt(3).
        "<td>+8.07<br><small>[+6.63, +9.50]</small></td>",
        // Means over the seeds 0, 1 and 2.
        "<td class=\"left\">kd</td><td>5.0 %</td><td>81.0 %</td><td class=\"left\">ash 80 %, elm 90 %</td>",
        "<td class=\"left\">scratch</td><td>5.0 %</td><td>–</td>",
        "no summary: still running, or killed, after 30 epochs",
        "interrupted, after 40 epochs",
        "<strong>teacher</strong><br><small>vit_nano, 500 test images</small></td><td>98.40</td>",
        "failed: step 241",
        "Loss terms",
        "optim.betas = [0.9,0.999]",
        "heterodyne 0.1.0, libtorch 2.11.0",
        "<em>test images</em>",
        "digits",
        "prefers-color-scheme: dark",
        "<h4>hcd-s7</h4>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("context"), "no published numbers for digits");
    assert!(page.len() < 400_000, "{}", page.len());
    // Writes the page for viewing, on request.
    if let Some(path) = std::env::var_os("HETERODYNE_SAMPLE_PAGE") {
        let intro = "A small vision transformer, trained on all 1,297 training digits (98.40 % on the 500 test \
            digits), teaches a ResNet-8 that sees ten labelled digits per class.";
        write(path.as_ref(), "heterodyne demo", intro, &groups).unwrap();
    }
}

#[test]
fn text_is_escaped_everywhere() {
    let dir = TempDir::new().unwrap();
    let evil = "<script>alert('1')</script>\"&\u{7}";
    let path = dir.path().join("a<b>&c");
    let spec = Spec {
        name: evil,
        method: Some("<i>"),
        error: Some(evil),
        networks: (evil, evil),
        data: evil,
        selected_on: evil,
        ..Spec::default()
    };
    run(&path, &spec);
    let failed = dir.path().join("failed");
    run(&failed, &Spec { status: Some(Status::Failed), seed: 1, ..spec });
    let groups = [Group::new(evil, vec![path, failed])];
    let page = html(evil, &format!("{evil}\n\n{evil}"), &groups).unwrap();
    check(&page).unwrap_or_else(|e| panic!("{e}"));
    assert!(!page.contains("<script") && !page.contains('\u{7}'));
    assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp; "));
}

#[test]
fn odd_runs_make_a_page() {
    let dir = TempDir::new().unwrap();
    assert!(page(&[]).contains("There are no runs."));
    assert!(page(&[Group::new("empty", vec![])]).contains("There are no runs."));
    // A run that has only just begun.
    let bare = dir.path().join("bare");
    RunFolder::create(&bare).unwrap().write_plan(&json!({"seed": 3})).unwrap();
    let bare = Group::new("bare", vec![bare]);
    let text = page(std::slice::from_ref(&bare));
    assert!(text.contains("No run has finished.") && text.contains("There are no measurements."));
    assert!(text.contains("seed 3: no summary"));
    // One run, one evaluation, no training lines; and equal values.
    let single = dir.path().join("single");
    run(&single, &Spec { seed: 1, epochs: 100, ..Spec::default() });
    let folder = RunFolder::open(&single).unwrap();
    fs::remove_file(folder.metrics()).unwrap();
    let mut writer = Writer::open(&folder.metrics(), None).unwrap();
    writer.write(&Metric::Eval(eval(2000, 100.0, 80.0))).unwrap();
    let summary = folder.read_summary().unwrap();
    folder.write_summary(&Summary { metrics: Some(writer.extent().unwrap()), ..summary }).unwrap();
    let single = Group::new("single", vec![single]);
    assert!(page(std::slice::from_ref(&single)).contains("<circle"));
    page(&[single, bare, Group::new("none", vec![]), group(dir.path(), Some("kd"), &[80.0, 80.0])]);
    // Metrics missing entirely.
    let gone = dir.path().join("gone");
    run(&gone, &Spec::default());
    fs::remove_file(gone.join("metrics.jsonl")).unwrap();
    page(&[Group::new("gone", vec![gone])]);
    // Names that no width holds.
    let long = "n".repeat(500);
    let (mut plain, mut taught) =
        (group(dir.path(), None, &[70.0]), group(&dir.path().join("long"), Some("kd"), &[80.0]));
    (plain.name, taught.name) = (format!("plain {long}"), format!("kd {long}"));
    let long = page(&[plain, taught]);
    assert!(long.contains("+10.00"));
    let shortened =
        long.lines().any(|line| line.contains("tick mid") && line.contains("plain nnn") && line.contains('…'));
    assert!(shortened, "the reference's label");
    // More groups than colours, and perfect accuracy.
    let many: Vec<Group> = (0..17)
        .map(|i| {
            let sub = dir.path().join(format!("many{i}"));
            Group { name: format!("method {i}"), ..group(&sub, Some("kd"), &[100.0]) }
        })
        .collect();
    assert!(page(&many).contains("dash2"));
}

#[test]
fn a_best_epoch_says_what_chose_it() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a");
    run(&path, &Spec { selected_on: "validation", ..Spec::default() });
    let text = page(&[Group::new("a", vec![path])]);
    assert!(text.contains("held-out images") && !text.contains("optimistically biased"));
    let text = page(&[group(dir.path(), None, &[80.0])]);
    assert!(text.contains("<em>test images</em>") && text.contains("optimistically biased"));
}

#[test]
fn published_numbers_stand_beside_the_same_networks() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a");
    let spec = Spec {
        name: "KD",
        method: Some("kd"),
        networks: ("swin_tiny_patch4_window7_224", "resnet18"),
        data: "cifar100",
        top1: 78.1,
        ..Spec::default()
    };
    run(&path, &spec);
    let text = page(&[Group::new("kd", vec![path])]);
    assert!(
        text.contains("Published results, for context")
            && text.contains("Swin-T → ResNet18")
            && text.contains("82.78<sup>b</sup>")
    );
    assert!(text.contains("<td class=\"left\">these runs</td>") && text.contains("<td>78.10</td>"));
    let path = dir.path().join("b");
    run(&path, &Spec { data: "cifar10", ..spec });
    assert!(!page(&[Group::new("kd", vec![path])]).contains("for context"));
}

#[test]
fn the_published_table_is_consistent() {
    let pairs: Vec<_> = published::pairs().collect();
    assert_eq!(pairs.iter().filter(|p| p.img == 224).count(), 12);
    assert!(pairs.iter().all(|p| p.numbers[0].0 == "teacher" && p.numbers[1].0 == "scratch"));
    // Each teacher and each student has one accuracy in all its pairs.
    for a in &pairs {
        for b in &pairs {
            assert!(
                a.teacher != b.teacher || a.numbers[0].1.top1 == b.numbers[0].1.top1,
                "{} {}",
                a.teacher,
                a.student
            );
            assert!(
                a.student != b.student || a.numbers[1].1.top1 == b.numbers[1].1.top1,
                "{} {}",
                a.teacher,
                a.student
            );
        }
    }
    let found = |t, s| heterodyne_report::published(t, s).map(|p| (p.teacher, p.student));
    assert_eq!(found("vit_small_patch16_224", "mobilenetv2_100"), Some(("ViT-S", "MobileNetV2")));
    assert_eq!(found("mixer_b16_224", "deit_tiny_patch16_224"), Some(("Mixer-B/16", "DeiT-T")));
    assert_eq!(found("resnet32x4", "resnet8x4"), Some(("ResNet32x4", "ResNet8x4")));
    assert_eq!(found("resnet18", "swin_tiny"), None);
    assert_eq!(found("vit_nano", "resnet8"), None);
}

#[test]
fn a_page_that_cannot_be_written_leaves_the_old_one() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("report.html");
    write(&out, "t", "", &[]).unwrap();
    let before = fs::read(&out).unwrap();
    let bad = [Group::new("a", vec![dir.path().join("absent")])];
    let message = write(&out, "t", "", &bad).unwrap_err().to_string();
    assert!(message.ends_with("absent: the folder does not exist"), "{message}");
    assert_eq!(fs::read(&out).unwrap(), before);
    // A damaged run is named, not skipped.
    let path = dir.path().join("damaged");
    run(&path, &Spec::default());
    fs::write(path.join("summary.json"), "{").unwrap();
    let message = html("t", "", &[Group::new("a", vec![path])]).unwrap_err().to_string();
    assert!(message.contains("damaged/summary.json: is incomplete"), "{message}");
}

/// A changed digit would be drawn as if it had been measured.
#[test]
fn changed_files_of_a_run_are_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a");
    run(&path, &Spec::default());
    let group = [Group::new("a", vec![path.clone()])];
    for (name, from, to, says) in [
        ("metrics.jsonl", "\"lr\":0.0", "\"lr\":0.1", "has changed since the run ended"),
        ("summary.json", "\"seconds\": 1", "\"seconds\": 2", "does not match its checksum"),
        ("plan.json", "\"batch\": 50", "\"batch\": 51", "does not match its checksum"),
    ] {
        let text = fs::read_to_string(path.join(name)).unwrap();
        assert!(text.contains(from), "{name}: {text}");
        fs::write(path.join(name), text.replacen(from, to, 1)).unwrap();
        let message = html("t", "", &group).unwrap_err().to_string();
        assert!(message.contains(&format!("a/{name}: {says}")), "{message}");
        fs::write(path.join(name), text).unwrap();
    }
    html("t", "", &group).unwrap();
    // A run that was written before checksums existed.
    let mut summary: serde_json::Value = serde_json::from_slice(&fs::read(path.join("summary.json")).unwrap()).unwrap();
    summary.as_object_mut().unwrap().retain(|key, _| key != "checksum" && key != "metrics");
    fs::write(path.join("summary.json"), summary.to_string()).unwrap();
    html("t", "", &group).unwrap();
}
