//! Properties of the methods on logits, from their equations.
use heterodyne_methods::{Method, find};
use heterodyne_nn::{Labels, Output, ParamStore, TapSpec, Terms};
use tch::{Kind, Tensor};

use crate::support::{CPU, build, hard, loss, number, output, seed, table, value};

fn bare(classes: i64) -> TapSpec {
    TapSpec { stages: vec![], stem: false, embedding: None, classes }
}

fn method(name: &str, settings: &str, classes: i64) -> Box<dyn Method> {
    build(name, &table(settings), &ParamStore::with_kind(CPU, Kind::Double, 0), &bare(classes), &bare(classes), 6)
        .unwrap()
}

fn logits(classes: i64) -> Output {
    output(&bare(classes), 6, Kind::Double)
}

fn of(z: &Tensor) -> Output {
    Output { logits: z.shallow_clone(), embedding: None, stages: vec![] }
}

fn terms(method: &dyn Method, student: &Output, teacher: &Output, labels: &Labels) -> Terms {
    loss(method, student, teacher, labels, 0.0).unwrap()
}

fn labels() -> Labels {
    hard(&[0, 2, 1, 1, 3, 0])
}

#[test]
fn a_student_that_agrees_has_nothing_to_learn() {
    seed(1);
    let z = logits(4);
    for (name, settings) in [("dkd", "temperature = 3.0"), ("dist", "temperature = 3.0"), ("kd", "")] {
        for term in &terms(&*method(name, settings, 4), &z, &z, &labels()) {
            assert!(number(&term.value).abs() < 1e-12, "{name} {}: {}", term.name, number(&term.value));
        }
    }
    // The binary cross-entropy has its minimum there: the gradient vanishes where sigmoid(z_s) = p_t.
    let p = z.logits.softmax(-1, None::<Kind>);
    let z_s = p.logit(None::<f64>).set_requires_grad(true);
    terms(&*method("bkd", "", 4), &of(&z_s), &z, &labels()).total().unwrap().backward();
    assert!(number(&z_s.grad().abs().max()) < 1e-12);
}

/// For a mixed label, m is the class with the larger share. With the shares themselves, the loss would be -145.5 at the
/// last of these logits.
#[test]
fn ofas_target_of_a_mixed_label_is_its_largest_share() {
    let spec = bare(2);
    let m =
        build("ofa", &table("eps = 1.5\nw_ofa = 0.0"), &ParamStore::with_kind(CPU, Kind::Double, 0), &spec, &spec, 1)
            .unwrap();
    let teacher = of(&Tensor::from_slice2(&[[-20.0, 20.0]]));
    for (logit, expected) in [(-10.0, 4.54e-5), (-100.0, 0.0), (-1000.0, 0.0)] {
        let student = of(&Tensor::from_slice2(&[[logit, 0.0]]));
        let value = |labels: Labels| number(&terms(&*m, &student, &teacher, &labels).total().unwrap());
        let mixed = |share: f64| Labels::Soft(Tensor::from_slice2(&[[share, 1.0 - share]]));
        // p_t = (0, 1): the target is 0 for the first class and 1 for the second, for m = (0,1) 2^1.5 - 1.
        let cross_entropy = (1.0f64 + f64::exp(logit)).ln();
        assert!((value(mixed(0.6)) - expected).abs() < 1e-6 && (value(mixed(0.6)) - cross_entropy).abs() < 1e-12);
        assert!((value(mixed(0.4)) - (2f64.powf(1.5) - 1.0) * cross_entropy).abs() < 1e-12);
        assert_eq!(value(mixed(0.6)), value(hard(&[0])));
    }
}

/// A constant added to an image's logits changes no softmax.
#[test]
fn a_shift_of_all_logits_changes_nothing_where_a_softmax_is_taken() {
    seed(2);
    let (student, teacher) = (logits(4), logits(4));
    let shift = Tensor::from_slice(&[3.0, -2.0, 0.5, 7.0, 0.0, 1.0]).unsqueeze(1);
    for name in ["dkd", "dist", "hard"] {
        let m = method(name, "", 4);
        let total = |s: &Output, t: &Output| number(&terms(&*m, s, t, &labels()).total().unwrap());
        let moved = (of(&(&student.logits + &shift)), of(&(&teacher.logits - &shift)));
        assert!((total(&student, &teacher) - total(&moved.0, &moved.1)).abs() < 1e-10, "{name}");
    }
    let m = method("bkd", "", 4);
    let total = |s: &Output, t: &Output| number(&terms(&*m, s, t, &labels()).total().unwrap());
    assert!((total(&student, &teacher) - total(&student, &of(&(&teacher.logits + &shift)))).abs() < 1e-12);
    assert!((total(&student, &teacher) - total(&of(&(&student.logits + &shift)), &teacher)).abs() > 1e-3);
}

/// kd = tckd + (1 - p_y) nckd for one image (Zhao et al. 2022, equation 6).
#[test]
fn kd_is_the_target_class_and_the_others_coupled() {
    seed(3);
    let (student, teacher) = (logits(5), logits(5));
    let (kd, dkd) = (method("kd", "", 5), method("dkd", "alpha = 1.0\nbeta = 1.0", 5));
    for (i, y) in [0, 4, 2, 2, 1, 3].into_iter().enumerate() {
        let one = |o: &Output| of(&o.logits.narrow(0, i as i64, 1));
        let (s, t, y_label) = (one(&student), one(&teacher), hard(&[y]));
        let parts = terms(&*dkd, &s, &t, &y_label);
        let p_y = t.logits.softmax(-1, None::<Kind>).double_value(&[0, y]);
        let coupled = value(&parts, "tckd") + (1.0 - p_y) * value(&parts, "nckd");
        assert!((value(&terms(&*kd, &s, &t, &y_label), "kd") - coupled).abs() < 1e-12);
    }
}

/// Pearson's correlation is invariant to scale and offset of the probabilities.
#[test]
fn dist_asks_for_the_same_order_of_magnitudes_only() {
    seed(4);
    let teacher = logits(4);
    let p = teacher.logits.softmax(-1, None::<Kind>);
    // Probabilities halfway to uniform: another distribution, perfectly correlated image by image.
    let student = of(&(&p * 0.5 + 0.125).log());
    let m = method("dist", "", 4);
    let parts = terms(&*m, &student, &teacher, &labels());
    assert!(value(&parts, "inter").abs() < 1e-10 && value(&parts, "intra").abs() < 1e-10);
}

#[test]
fn the_hard_label_is_the_teachers_and_not_the_data_s() {
    seed(5);
    let (student, teacher) = (logits(4), logits(4));
    let m = method("hard", "", 4);
    let a = value(&terms(&*m, &student, &teacher, &labels()), "hard");
    assert_eq!(a, value(&terms(&*m, &student, &teacher, &hard(&[3, 3, 3, 3, 3, 3])), "hard"));
    assert_eq!(a, value(&terms(&*m, &student, &of(&(&teacher.logits * 7.0)), &labels()), "hard"));
}

#[test]
fn what_they_cannot_work_on_is_refused() {
    let check = |name: &str, classes: i64, batch: usize| {
        let settings = (find(name).unwrap().configure)(&toml::Table::new()).unwrap();
        settings.check(&bare(classes), &bare(classes), batch).map_err(|e| e.to_string())
    };
    assert!(check("dkd", 2, 8).unwrap_err().contains("of 2 classes only one is left"));
    assert!(check("dist", 5, 1).unwrap_err().contains("the batch has 1"));
    for name in ["bkd", "dkd", "dist", "hard"] {
        assert!(check(name, 1, 8).unwrap_err().contains("at least 2 classes"), "{name}");
        assert!(check(name, 3, 8).is_ok(), "{name}");
        let settings = (find(name).unwrap().configure)(&toml::Table::new()).unwrap();
        let e = settings.check(&bare(3), &bare(4), 8).unwrap_err().to_string();
        assert!(e.contains("(B,3)") && e.contains("(B,4)"), "{e}");
    }
}
