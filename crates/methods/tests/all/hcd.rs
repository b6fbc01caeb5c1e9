//! Properties of the sub-logits.
use heterodyne_nn::{Labels, Output, ParamStore};
use tch::{Kind, Tensor};

use crate::support::{CPU, build, conv, hard, leaves, loss, number, output, table, value, vit};

/// The terms when the learnable parts return the sub-logits `u` (n,C), through zero weights and a bias.
fn with_sub_logits(settings: &str, u: &[f64], z_t: &[f64], label: i64, classes: i64) -> heterodyne_nn::Terms {
    let spec = conv(4, classes);
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let method = build("hcd", &table(settings), &store, &spec, &spec, 2).unwrap();
    let guard = heterodyne_nn::shim::NoGrad::new();
    for (name, mut tensor, _) in store.parameters() {
        match name.rsplit_once("cfm.fc2.").map(|(_, last)| last) {
            Some("weight") => drop(tensor.zero_()),
            Some("bias") => tensor.copy_(&Tensor::from_slice(u)),
            _ => {}
        }
    }
    drop(guard);
    let student = output(&spec, 2, Kind::Double);
    let teacher =
        Output { logits: Tensor::from_slice(z_t).unsqueeze(0).repeat([2, 1]), ..output(&spec, 2, Kind::Double) };
    loss(&*method, &student, &teacher, &hard(&[label, label]), 0.0).unwrap()
}

#[test]
fn orthogonality_is_not_constant_and_ignores_the_labels_entry() {
    let zero = [0.0; 3];
    let settings = "num_sub = 2\nlevels = [4]";
    let ol = |u: &[f64]| value(&with_sub_logits(settings, u, &zero, 0, 3), "ol");
    // Entry 0 is the label's. Without it the two are orthogonal, equal, or at 45 degrees.
    assert_eq!(ol(&[9.0, 1.0, 0.0, 9.0, 0.0, 1.0]), 0.0);
    assert!((ol(&[9.0, 1.0, 2.0, -5.0, 1.0, 2.0]) - 0.25).abs() < 1e-10);
    let between = (std::f64::consts::FRAC_1_SQRT_2 - 0.5).powi(2);
    assert!((ol(&[0.0, 1.0, 0.0, 0.0, 1.0, 1.0]) - between).abs() < 1e-10);
    assert_eq!(ol(&[0.0, 1.0, 0.0, 0.0, -1.0, 0.0]), 0.0, "opposite directions are no concern");
    // A sub-logit that is zero except for the label has no direction: cosine 0, not NaN.
    assert_eq!(ol(&[9.0, 0.0, 0.0, 9.0, 0.0, 1.0]), 0.0);
}

#[test]
fn stages_are_summed_or_averaged_and_sub_logits_averaged() {
    let u = [0.3, -1.0, 0.5, 2.0, 0.1, 0.0];
    let z_t = [0.2, 0.4, -0.6];
    let terms = |settings: &str| with_sub_logits(settings, &u, &z_t, 1, 3);
    let one = terms("num_sub = 2\nlevels = [4]");
    let cross_entropy = |v: [f64; 3]| v.iter().map(|x| x.exp()).sum::<f64>().ln() - v[1];
    let expected = (cross_entropy([0.5, -0.6, -0.1]) + cross_entropy([2.2, 0.5, -0.6])) / 2.0;
    assert!((value(&one, "gt") - expected).abs() < 1e-12);
    let summed = terms("num_sub = 2\nreduce = \"sum\"");
    let averaged = terms("num_sub = 2");
    for name in ["gt", "ol"] {
        assert!((value(&summed, name) - 4.0 * value(&one, name)).abs() < 1e-12, "{name}");
        assert!((value(&averaged, name) - value(&one, name)).abs() < 1e-12, "{name}");
    }
    assert_eq!(
        summed.iter().map(|t| (t.name.as_str(), t.weight)).collect::<Vec<_>>(),
        [("kd", 1.0), ("gt", 1.0), ("hcd", 6.0), ("ol", 1.0)]
    );
}

/// The student's logits learn from the sub-logits either way; the heads get a gradient from `hcd` only if it is not
/// detached.
#[test]
fn detached_sub_logits_teach_and_do_not_learn() {
    for detach in [false, true] {
        let (student_taps, teacher_taps) = (conv(6, 3), vit(1, 5, 3));
        let store = ParamStore::new(CPU, 0);
        let settings = format!("w_kd = 0.0\nw_gt = 0.0\nw_ol = 0.0\ndetach_sub = {detach}");
        let method = build("hcd", &table(&settings), &store, &student_taps, &teacher_taps, 4).unwrap();
        let student = leaves(&output(&student_taps, 4, Kind::Float));
        let terms =
            loss(&*method, &student, &output(&teacher_taps, 4, Kind::Float), &hard(&[0, 1, 2, 0]), 0.0).unwrap();
        assert_eq!(terms.len(), 1);
        terms.total().unwrap().backward();
        assert!(number(&student.logits.grad().abs().max()) > 0.0);
        assert_eq!(store.parameters().iter().all(|(_, p, _)| p.grad().defined()), !detach);
    }
}

/// The label of a mixture is the class with the largest share.
#[test]
fn a_mixture_is_masked_at_its_largest_share() {
    let spec = conv(4, 3);
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let method = build("hcd", &table("theta = -1.0"), &store, &spec, &spec, 2).unwrap();
    let (student, teacher) = (output(&spec, 2, Kind::Double), output(&spec, 2, Kind::Double));
    let ol = |labels: &Labels| value(&loss(&*method, &student, &teacher, labels, 0.0).unwrap(), "ol");
    let soft = Labels::Soft(Tensor::from_slice2(&[[0.3, 0.1, 0.6], [0.5, 0.4, 0.1]]));
    assert_eq!(ol(&soft), ol(&hard(&[2, 0])));
    assert_ne!(ol(&soft), ol(&hard(&[1, 0])));
}

#[test]
fn heads_are_as_wide_as_the_equations_say() {
    let names = |student: &heterodyne_nn::TapSpec| {
        let store = ParamStore::new(CPU, 0);
        build("hcd", &table(""), &store, student, &vit(1, 10, 3), 4).unwrap();
        store.tensors()
    };
    let conv_student = names(&conv(6, 3));
    // Stage 1: 2 -> 4 -> 8 -> D = max(6, 10).
    assert_eq!(conv_student["level1.head.0.keep.pointwise.weight"].size(), [4, 2, 1, 1]);
    assert_eq!(conv_student["level1.head.2.keep.pointwise.weight"].size(), [10, 8, 1, 1]);
    assert!(!conv_student.contains_key("level1.head.3.keep.pointwise.weight"));
    assert_eq!(conv_student["level3.head.0.keep.pointwise.weight"].size(), [10, 4, 1, 1]);
    assert_eq!(conv_student["level4.head.pointwise.weight"].size(), [10, 6]);
    assert_eq!(conv_student["level4.cfm.fc1.weight"].size(), [10, 20]);
    assert_eq!(conv_student["level4.cfm.fc2.weight"].size(), [12, 10]);
    let token_student = names(&vit(1, 8, 3));
    assert_eq!(token_student.keys().filter(|k| k.starts_with("level1") && k.ends_with("attn.qkv.weight")).count(), 3);
    assert_eq!(token_student.keys().filter(|k| k.starts_with("level4") && k.ends_with("attn.qkv.weight")).count(), 1);
    assert_eq!(token_student["level1.cfm.fc1.weight"].size(), [10, 18]);
}
