//! What a run announces, checks and concludes, and moving it elsewhere.
use std::fs;

use crate::support::{Place, interrupt, stderr};

#[test]
fn a_run_folder_is_a_teacher_that_needs_no_model() {
    let place = Place::new();
    place.good("train small.toml --out runs/big --set student.model=vit_nano --set optim.name=adamw");
    place.good("distill taught.toml --out runs/a --set teacher.model= --set teacher.weights=runs/big");
    assert_eq!(place.json("runs/a/plan.json")["teacher"]["model"], "vit_nano");
    assert_eq!(place.json("runs/a/summary.json")["teacher"], "vit_nano");
    // The same as with model and file named.
    place.good("distill taught.toml --out runs/b --set teacher.weights=runs/big/weights/last.safetensors");
    let weights = |run: &str| fs::read(place.path(&format!("runs/{run}/weights/last.safetensors"))).unwrap();
    assert!(weights("a") == weights("b"));

    assert_eq!(interrupt(&place, "train small.toml --out runs/half --set train.epochs=400"), Some(130));
    place.bad(
        "distill taught.toml --out runs/c --set teacher.model= --set teacher.weights=runs/half",
        &["runs/half", "has not finished (status: interrupted)", "weights/last.safetensors"],
    );
    fs::remove_file(place.path("runs/big/weights/last.safetensors")).unwrap();
    place.bad("distill taught.toml --out runs/c --set teacher.weights=runs/big", &["weights are missing"]);
    assert!(!place.path("runs/c").exists());
}

#[test]
fn a_distilled_student_is_set_beside_its_scratch_run() {
    let place = Place::new();
    let alone = place.good("distill taught.toml --out runs/a --set seed=1");
    assert!(alone.contains("no run to compare with: heterodyne train taught.toml --set seed=1"), "{alone}");
    // Other epochs are not comparable.
    place.good("train taught.toml --out runs/longer --set train.epochs=3");
    assert!(place.good("distill taught.toml --out runs/b").contains("no run to compare with"));
    place.good("train taught.toml --out runs/scratch --set seed=1");
    let result = |run: &str| place.json(&format!("runs/{run}/summary.json"))["last"]["top1"].as_f64().unwrap();
    let (own, scratch) = (result("a"), result("scratch"));
    let beside = place.good("distill --resume runs/a");
    let line =
        format!("scratch     test: top-1 {scratch:.2} %, the distilled student has {:+.2} points", own - scratch);
    assert!(beside.contains(&line), "{beside}");
}

#[test]
fn check_tries_a_recipe_and_writes_nothing() {
    let place = Place::new();
    let text = place.good("check taught.toml --set train.batch=12");
    for part in [
        "4 images do not fill a batch",
        "teacher: ",
        "optim    sgd",
        "rate     peak 0.02, cosine to 0",
        "kd.kd",
        // 3 of the stem, 6 of each of three blocks, 3 of each of two shortcuts, 2 of the classifier.
        "gradient for 29 of 29 parameter tensors",
        "memory   ",
        "time     ",
    ] {
        assert!(text.contains(part), "`{part}` is missing in {text}");
    }
    assert!(!place.path("runs").exists() && !place.path("cache").exists());
    assert!(!place.good("check taught.toml --baseline").contains("teacher:"));
    place.bad("check taught.toml --set optim.lr=1e30", &["hint: lower optim.lr"]);
    // Residual branches that start at zero get their gradients although the rate does.
    let branches = place.run("check taught.toml --set student.model=resnet18 --set schedule.warmup_epochs=1");
    let text = String::from_utf8_lossy(&branches.stdout);
    assert!(text.contains("gradient for 62 of 62"), "{text}{}", stderr(&branches));
    // Without a loss on the logits, the classifier learns nothing.
    let only = "--set loss.ce=0 --set methods.kd= --set methods.fitnet={}";
    let unused = place.run(&format!("check taught.toml {only}"));
    assert!(stderr(&unused).contains("no gradient reaches 2 of"), "{}", stderr(&unused));
    let run = place.run(&format!("distill taught.toml {only} --out runs/a"));
    assert!(run.status.success() && stderr(&run).contains("no gradient reaches 2 of"), "{}", stderr(&run));
}

#[test]
fn a_run_moves_to_another_folder_and_its_plan_is_a_recipe() {
    let place = Place::new();
    let sets = "--set train.epochs=60 --set train.checkpoint_minutes=1e-5 --set train.checkpoints=3";
    place.good(&format!("distill taught.toml --out runs/whole {sets}"));
    assert_eq!(interrupt(&place, &format!("distill taught.toml --out runs/a {sets}")), Some(130));
    let kept = fs::read_dir(place.path("runs/a/checkpoint")).unwrap().count();
    assert!((2..=4).contains(&kept), "{kept} files for the latest of three checkpoints");

    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::rename(place.path("runs/a"), place.path("elsewhere/run")).unwrap();
    fs::rename(place.path("teacher.safetensors"), place.path("elsewhere/t.safetensors")).unwrap();
    place.bad("distill --resume elsewhere/run", &["teacher.safetensors"]);
    place.bad("distill --resume elsewhere/run --set optim.lr=1", &["only places and the device", "teacher.weights"]);
    place.good("distill --resume elsewhere/run --set teacher.weights=elsewhere/t.safetensors --set device=cpu");
    let weights = |run: &str| fs::read(place.path(&format!("{run}/weights/last.safetensors"))).unwrap();
    assert!(weights("runs/whole") == weights("elsewhere/run"));
    assert_eq!(place.json("elsewhere/run/plan.json")["teacher"]["weights"], "elsewhere/t.safetensors");

    place.good("distill elsewhere/run/plan.json --out runs/again");
    assert!(weights("runs/again") == weights("runs/whole"));
    fs::write(place.path("other.json"), "{\"data\": 5}").unwrap();
    place.bad("train other.json", &["other.json", "data"]);
}
