//! The memory bank of CRD: draws, stored vectors and errors.
use heterodyne_methods::{
    BuildContext, Context, Method, TeacherSignals, find,
    parts::bank::{Bank, Others},
    ranks::Alone,
};
use heterodyne_nn::{Output, ParamStore, Progress, TapSpec, Terms, shim::Rng};
use tch::{Kind, Tensor};

use crate::support::{CPU, conv, hard, number, output, seed, table, vit};

/// Unsorted classes of very different sizes, one of them empty.
const CLASSES: [i64; 11] = [4, 0, 1, 1, 4, 1, 4, 0, 1, 4, 4];

fn ints(x: &Tensor) -> Vec<i64> {
    Vec::try_from(x.to_kind(Kind::Int64).reshape([-1])).unwrap()
}

/// Each image of another class is drawn equally often, and no other image is drawn. The tolerance is five standard
/// deviations.
#[test]
fn draws_are_uniform_over_the_images_of_other_classes() {
    let others = Others::new("crd", &CLASSES, CPU).unwrap();
    let draws = 40_000;
    let anchors: Vec<i64> = (0..11).collect();
    let index = others.draw_for_each(&Tensor::from_slice(&anchors), draws, &Rng::new(1)).unwrap();
    assert_eq!(index.size(), [11, draws]);
    for (anchor, class) in CLASSES.iter().enumerate() {
        let drawn = ints(&index.get(anchor as i64));
        let candidates: Vec<usize> = (0..11).filter(|&i| CLASSES[i] != *class).collect();
        let expected = draws as f64 / candidates.len() as f64;
        for i in 0..11 {
            let count = drawn.iter().filter(|&&d| d == i as i64).count() as f64;
            let right =
                if candidates.contains(&i) { (count - expected).abs() < 5.0 * expected.sqrt() } else { count == 0.0 };
            assert!(right, "image {i} was drawn {count} times for image {anchor}, expected {expected}");
        }
    }
    let is_negative = others.is_negative(&Tensor::from_slice(&[0i64, 2]), &Tensor::from_slice(&[4i64, 3, 7]));
    assert_eq!(ints(&is_negative), [0, 1, 1, 1, 0, 1]);
}

#[test]
fn a_row_moves_towards_what_was_seen_and_the_others_stay() {
    seed(1);
    let store = ParamStore::with_kind(CPU, Kind::Double, 3);
    let bank = Bank::new(&store.root(), "bank", 6, 4, 0.75, &Alone).unwrap();
    let before = store.entries()[0].1.copy();
    assert!(
        (number(&before.square().sum_dim_intlist([1i64].as_slice(), false, None::<Kind>).mean(None::<Kind>)) - 1.0)
            .abs()
            < 0.5
    );
    let (index, v) =
        (Tensor::from_slice(&[4i64, 1]), Tensor::from_slice2(&[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0]]));
    bank.refresh(&index, &v, &Alone).unwrap();
    let after = &store.entries()[0].1;
    for row in 0..6 {
        let moved = match row {
            4 => before.get(4) * 0.75 + v.get(0) * 0.25,
            1 => before.get(1) * 0.75 + v.get(1) * 0.25,
            _ => before.get(row),
        };
        let expected = if [1, 4].contains(&row) { &moved / moved.norm() } else { moved };
        assert!(number(&(after.get(row) - expected).abs().max()) < 1e-9, "row {row}");
    }
    assert_eq!(bank.read(&Tensor::from_slice2(&[[5i64, 0, 1]]), &Alone).unwrap().size(), [1, 3, 4]);
}

fn built(settings: &str, classes: &[i64]) -> (ParamStore, Box<dyn Method>, TapSpec, TapSpec) {
    let (student, teacher) = (conv(6, 3), vit(1, 5, 3));
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let settings = (find("crd").unwrap().configure)(&table(settings)).unwrap();
    let pair = BuildContext {
        scope: &store.root(),
        student: &student,
        teacher: &teacher,
        sample_classes: classes,
        ranks: &Alone,
    };
    let method = settings.build(&pair).unwrap();
    (store, method, student, teacher)
}

fn loss(
    method: &dyn Method,
    student: &Output,
    teacher: &Output,
    samples: &[usize],
) -> Result<Terms, heterodyne_nn::Error> {
    loss_at(0, method, student, teacher, samples)
}

fn loss_at(
    step: u64,
    method: &dyn Method,
    student: &Output,
    teacher: &Output,
    samples: &[usize],
) -> Result<Terms, heterodyne_nn::Error> {
    let signals = method.observe(teacher)?;
    let labels = hard(&vec![0; samples.len()]);
    let teacher = TeacherSignals { logits: &teacher.logits, signals: &signals };
    method.loss(&Context {
        student,
        teacher,
        labels: &labels,
        samples,
        smoothing: 0.0,
        progress: Progress { step, ..Progress::default() },
        ranks: &Alone,
    })
}

/// A shared draw has the same expectation as a draw for each image: the means over many draws agree within five
/// standard errors.
#[test]
fn a_shared_draw_has_the_expectation_of_draws_of_ones_own() {
    let samples = [0usize, 1, 2, 8];
    let estimate = |draw: &str| {
        // Rows stay unchanged: the momentum is 1, and they are unit vectors after the first call.
        let (_store, method, student, teacher) =
            built(&format!("draw = \"{draw}\"\nnum_negatives = 32\nmomentum = 1.0\ntau = 0.5"), &CLASSES);
        seed(2);
        let (student, teacher) = (output(&student, 4, Kind::Double), output(&teacher, 4, Kind::Double));
        let one = |step| number(&loss_at(step, &*method, &student, &teacher, &samples).unwrap().total().unwrap());
        // Z is fixed by the first batch, so it is drawn from many.
        one(0);
        for (name, mut tensor, _) in _store.entries() {
            if name.ends_with("log_z") {
                let _ = tensor.fill_(3.0);
            }
        }
        let values: Vec<f64> = (0..400).map(one).collect();
        let mean = values.iter().sum::<f64>() / 400.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 399.0;
        (mean, (variance / 400.0).sqrt())
    };
    let ((shared, error_shared), (own, error_own)) = (estimate("shared"), estimate("own"));
    let error = error_shared.hypot(error_own);
    assert!(
        (shared - own).abs() < 5.0 * error && error < 0.02 * own,
        "{shared} ± {error_shared} and {own} ± {error_own}"
    );
}

/// A student with the teacher's embedding of each image has a lower loss than one that permutes them.
#[test]
fn the_right_image_is_nearer_than_the_others() {
    for settings in ["contrast = \"batch\"\ndim = 6", "num_negatives = 64\ndim = 6\nmomentum = 0.0"] {
        let (store, method, student_taps, teacher_taps) = built(settings, &CLASSES);
        seed(3);
        let teacher = output(&teacher_taps, 4, Kind::Double);
        let of = |embedding: Tensor| Output { embedding: Some(embedding), ..output(&student_taps, 4, Kind::Double) };
        {
            let _guard = heterodyne_nn::shim::NoGrad::new();
            for (name, mut tensor, _) in store.parameters() {
                tensor.copy_(&if name.ends_with("weight") {
                    Tensor::eye_m(tensor.size()[0], tensor.size()[1], (Kind::Double, CPU))
                } else {
                    tensor.zeros_like()
                });
            }
        }
        let e_t = teacher.embedding.as_ref().unwrap();
        let same = Tensor::cat(&[e_t, &Tensor::zeros([4, 1], (Kind::Double, CPU))], 1);
        let samples = [0usize, 1, 2, 7];
        let value = |student: &Output| number(&loss(&*method, student, &teacher, &samples).unwrap().total().unwrap());
        // The bank has to have seen the images once.
        value(&of(same.shallow_clone()));
        let (right, wrong) = (value(&of(same.shallow_clone())), value(&of(same.roll([1i64], [0i64]))));
        assert!(right < wrong, "{settings}: {right} {wrong}");
    }
}

/// The draw is a function of the step and the seed, so a resumed run draws the same as an uninterrupted one.
#[test]
fn equal_steps_draw_the_same_and_others_do_not() {
    let value = |step| {
        let (_store, method, student, teacher) = built("num_negatives = 8", &CLASSES);
        seed(4);
        let (student, teacher) = (output(&student, 4, Kind::Double), output(&teacher, 4, Kind::Double));
        number(&loss_at(step, &*method, &student, &teacher, &[0, 1, 2, 7]).unwrap().total().unwrap())
    };
    assert_eq!(value(3), value(3));
    assert_ne!(value(3), value(4));
}

#[test]
fn what_it_cannot_contrast_is_refused() {
    let (student, teacher) = (conv(6, 3), vit(1, 5, 3));
    let settings = (find("crd").unwrap().configure)(&toml::Table::new()).unwrap();
    for classes in [&[2i64, 2, 2][..], &[]] {
        let store = ParamStore::new(CPU, 0);
        let pair = BuildContext {
            scope: &store.root(),
            student: &student,
            teacher: &teacher,
            sample_classes: classes,
            ranks: &Alone,
        };
        let e = settings.build(&pair).err().unwrap().to_string();
        assert!(e.contains("of one class"), "{e}");
    }
    let e = (find("crd").unwrap().configure)(&table("contrast = \"batch\""))
        .unwrap()
        .check(&student, &teacher, 1)
        .unwrap_err();
    assert!(e.to_string().contains("the batch has 1"), "{e}");
    let (_store, method, student, teacher) = built("", &CLASSES);
    let (student, teacher) = (output(&student, 3, Kind::Double), output(&teacher, 3, Kind::Double));
    for samples in [&[0usize, 1, 11][..], &[0, 1]] {
        let e = loss(&*method, &student, &teacher, samples).unwrap_err().to_string();
        assert!(e.contains("11 training images") && e.contains("batch of 3"), "{e}");
    }
}

/// All images of a batch are of one class: within the batch there is nothing to contrast with, and the loss is 0.
#[test]
fn a_batch_of_one_class_contrasts_with_the_bank_only() {
    for (settings, zero) in [("contrast = \"batch\"", true), ("num_negatives = 64", false)] {
        let (_store, method, student, teacher) = built(settings, &CLASSES);
        let (student, teacher) = (output(&student, 3, Kind::Double), output(&teacher, 3, Kind::Double));
        let value = number(&loss(&*method, &student, &teacher, &[2, 3, 5]).unwrap().total().unwrap());
        assert!(value.is_finite() && (value == 0.0) == zero, "{settings}: {value}");
    }
}
