use heterodyne_run::recipe::{DeviceChoice, Precision};
use heterodyne_shim::cpu::{fast_bf16, fast_fp16};

use crate::support::{plan, session, taught_by, teacher};

fn refused(sets: &[&str], parts: &[&str]) {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let text = match plan(&sets) {
        Ok(_) => panic!("{sets:?} was accepted"),
        Err(e) => e.to_string(),
    };
    for part in parts {
        assert!(text.contains(part), "{sets:?} gives:\n{text}\nwhich lacks {part:?}");
    }
}

#[test]
fn contradictions_are_refused_with_their_key() {
    refused(&["teacher.model=vit_nano", "methods.kd={}"], &["teacher.weights", "needs weights"]);
    refused(&["teacher.model=vit_nano", "teacher.weights=x"], &["at least one method"]);
    refused(&["teacher.model=vit_nan", "teacher.weights=x", "methods.kd={}"], &["teacher.model", "vit_nano"]);
    refused(&["teacher.model=vit_nano", "teacher.weights=x", "methods.ukhd={}"], &["ukhd", "uhkd"]);
    refused(
        &["teacher.model=vit_nano", "teacher.weights=x", "methods.kd={temperatur=2}"],
        &["methods.kd", "temperatur", "temperature"],
    );
    refused(
        &["teacher.model=vit_nano", "teacher.weights=x", "methods.kd={weight=-1}"],
        &["methods.kd.weight", "-1 is out of range", "from 0 to"],
    );
    refused(&["teacher.model=vit_nano", "teacher.weights=x", "methods.kd={weight=0}", "loss.ce=0"], &["no terms"]);
    let teacher = ["teacher.model=vit_nano", "teacher.weights=x"];
    refused(
        &[&teacher[..], &["methods.kd={warmup_epoch=2}"]].concat(),
        &["methods.kd", "warmup_epoch", "did you mean `methods.kd.warmup_epochs`"],
    );
    refused(&[&teacher[..], &["methods.kd={warmup_epochs=9}"]].concat(), &["methods.kd.warmup_epochs", "9"]);
    refused(
        &[&teacher[..], &["methods.at={logit_std=true}"]].concat(),
        &["methods.at.logit_std", "nothing to standardise"],
    );
    refused(
        &[&teacher[..], &["loss.ce=0", "methods.kd={decay='step', decay_start=1.0}"]].concat(),
        &["loss.ce", "no terms at the end"],
    );
    refused(&["data.name=digit"], &["digits"]);
    refused(&["data.augment.fllip=0.5"], &["data.augment", "fllip", "flip"]);
    refused(&["student.options.stem='imagenet'"], &["student.options"]);
    refused(&["student.std=[0.0,1.0,1.0]"], &["student.std", "greater than 0"]);
}

#[test]
fn the_recipe_of_a_distillation_trains_its_baseline() {
    let own = plan(&[]).unwrap();
    let baseline = plan(&["methods.kd={}".to_owned()]).unwrap();
    assert!(baseline.baseline && !own.baseline);
    assert!(baseline.methods.is_empty() && baseline.teacher.is_none());
    let text = |plan: &heterodyne_train::Plan| serde_json::to_string(&plan.recipe).unwrap();
    assert_eq!(text(&baseline), text(&own), "nothing else differs");
}

/// Without labels, a weight that reaches 0 at the end of the run is still positive at every step.
#[test]
fn a_decay_to_the_end_of_the_run_needs_no_labels() {
    let folder = tempfile::tempdir().unwrap();
    for decay in ["linear", "cosine"] {
        let mut sets = taught_by(&teacher(folder.path(), 10), &[]);
        sets.extend(["loss.ce=0".to_owned(), format!("methods.kd={{decay='{decay}'}}")]);
        assert!(plan(&sets).is_ok(), "{decay}");
        sets.push("methods.kd.decay_end=2.5".to_owned());
        assert!(plan(&sets).is_err(), "{decay}");
    }
}

#[test]
fn a_plan_holds_every_key_of_its_methods_and_can_be_resolved_again() {
    let folder = tempfile::tempdir().unwrap();
    let sets = taught_by(&teacher(folder.path(), 10), &["uhkd", "lfcc", "hcd", "fitnet", "kd"]);
    let first = plan(&sets).unwrap();
    assert_eq!(first.recipe.methods["uhkd"]["k"].as_integer(), Some(7));
    let json = serde_json::to_value(&first.recipe).unwrap();
    let layered = heterodyne_train::plan::stored("plan.json", &json).unwrap();
    let again = heterodyne_train::Plan::resolve(&layered, first.mode).unwrap();
    assert_eq!(serde_json::to_value(&again.recipe).unwrap(), json);
}

#[test]
fn a_teacher_of_other_classes_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let e = session(&taught_by(&teacher(folder.path(), 7), &["kd"])).err().unwrap().to_string();
    assert!(e.contains("has 7 classes") && e.contains("has 10"), "{e}");
}

#[test]
fn a_contrastive_method_refuses_a_batch_of_one_before_data_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut sets = taught_by(&teacher(folder.path(), 10), &["lfcc"]);
    // The path does not exist: the pair is checked first.
    sets.extend(["train.batch=1".to_owned(), "data.name=cifar10".to_owned(), "data.path=/nowhere".to_owned()]);
    let e = session(&sets).err().unwrap().to_string();
    assert!(e.contains("lfcc") && e.contains('1'), "{e}");
}

#[test]
fn weights_of_another_model_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut sets = taught_by(&teacher(folder.path(), 10), &["kd"]);
    sets[0] = "teacher.model=mixer_nano".to_owned();
    let e = session(&sets).err().unwrap().to_string();
    assert!(e.contains("vit_nano") && e.contains("mixer_nano"), "{e}");
}

#[test]
fn a_precision_left_open_is_settled_before_the_plan_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut sets = taught_by(&teacher(folder.path(), 10), &["kd"]);
    sets.extend([
        "train.precision='auto'".to_owned(),
        "teacher.precision='auto'".to_owned(),
        "student.precision='fp32'".to_owned(),
    ]);
    let s = session(&sets).unwrap();
    let device = s.learner.device();
    let expected = match (fast_bf16(device), fast_fp16(device)) {
        (true, _) => Precision::Bf16,
        (false, true) => Precision::Fp16,
        (false, false) => Precision::Fp32,
    };
    assert_eq!(s.plan.recipe.train.precision, Some(expected));
    assert_eq!(s.plan.recipe.teacher.as_ref().unwrap().precision, Some(expected));
    assert_eq!(
        (s.learner.teacher.as_ref().unwrap().precision, s.learner.student.precision),
        (expected, Precision::Fp32)
    );
}

#[test]
fn the_device_and_a_precision_that_is_not_given_are_settled() {
    let auto = session(&["device=auto".to_owned()]).unwrap();
    let on_gpu = auto.learner.device().is_cuda();
    assert_eq!(auto.plan.recipe.device, if on_gpu { DeviceChoice::Cuda } else { DeviceChoice::Cpu });
    let cpu = session(&["device=cpu".to_owned()]).unwrap();
    assert_eq!((cpu.plan.recipe.device, cpu.plan.recipe.train.precision), (DeviceChoice::Cpu, Some(Precision::Fp32)));
}
