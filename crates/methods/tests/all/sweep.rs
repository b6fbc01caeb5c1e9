//! Every method on every kind of pair.
use heterodyne_methods::{all, find};
use heterodyne_nn::{Labels, Output, ParamStore, Role, TapSpec, shim::Autocast};
use tch::{Kind, Tensor};

use crate::support::{CPU, build, conv, hard, leaves, loss, map, number, output, seed, taps, tensors, tokens, vit};

/// Conv networks, token networks with and without prefix, and a pyramid of tokens; grids odd, even, unequal and down to
/// one place.
fn networks(classes: i64) -> Vec<TapSpec> {
    vec![
        taps(&[map(4, 16, 16), map(6, 8, 8), map(8, 4, 4), map(10, 2, 2)], 10, classes),
        taps(&[map(3, 14, 14), map(5, 7, 7), map(7, 4, 4), map(9, 2, 2)], 12, classes),
        taps(&[map(4, 9, 12), map(4, 5, 6), map(8, 3, 3), map(8, 1, 1)], 8, classes),
        taps(&[tokens(1, 8, 7, 7); 4], 8, classes),
        taps(&[tokens(2, 6, 4, 6); 4], 6, classes),
        taps(&[tokens(0, 5, 14, 14); 4], 5, classes),
        taps(&[tokens(0, 4, 16, 16), tokens(0, 8, 8, 8), tokens(0, 12, 4, 4), tokens(0, 16, 2, 2)], 16, classes),
    ]
}

fn finite(x: &Tensor) -> bool {
    number(&x.isfinite().all().to_kind(Kind::Double)) == 1.0
}

fn labels(batch: i64, classes: i64, soft: bool) -> Labels {
    if soft {
        Labels::Soft(Tensor::randn([batch, classes], (Kind::Float, CPU)).softmax(-1, Kind::Float))
    } else {
        Labels::Hard(Tensor::arange(batch, (Kind::Int64, CPU)).remainder(classes))
    }
}

/// Builds a method and runs it forward and backward; every parameter, and the student's logits or features, must get a
/// gradient.
fn run(
    name: &str,
    student_taps: &TapSpec,
    teacher_taps: &TapSpec,
    student: &Output,
    teacher: &Output,
    labels: &Labels,
) {
    let what = format!("{name}: {student_taps:?} from {teacher_taps:?}");
    let store = ParamStore::new(CPU, 1);
    let method = build(name, &toml::Table::new(), &store, student_taps, teacher_taps, labels.len() as usize)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let terms = loss(&*method, student, teacher, labels, 0.1).unwrap_or_else(|e| panic!("{what}: {e}"));
    for term in &terms {
        assert_eq!((term.value.kind(), term.value.dim()), (Kind::Float, 0), "{what}: {}", term.name);
        assert!(finite(&term.value), "{what}: {} is not finite", term.name);
    }
    terms.total().unwrap().backward();
    for (parameter_name, parameter, _) in store.parameters() {
        assert!(parameter.grad().defined() && finite(&parameter.grad()), "{what}: {parameter_name}");
    }
    for (_, x) in tensors(student) {
        assert!(!x.grad().defined() || finite(&x.grad()), "{what}");
    }
    for (buffer, tensor, _) in store.entries() {
        assert!(finite(&tensor), "{what}: {buffer}");
    }
}

#[test]
fn every_pair_of_kinds_and_grids_trains() {
    for def in all() {
        for (i, student_taps) in networks(5).iter().enumerate() {
            for (j, teacher_taps) in networks(5).iter().enumerate() {
                let (student, teacher) =
                    (leaves(&output(student_taps, 4, Kind::Float)), output(teacher_taps, 4, Kind::Float));
                run(def.name, student_taps, teacher_taps, &student, &teacher, &labels(4, 5, (i + j) % 2 == 1));
            }
        }
    }
}

#[test]
fn losses_are_float32_under_bfloat16_with_and_without_autocast() {
    let networks = networks(5);
    for def in all() {
        for (student_taps, teacher_taps) in [(0, 3), (3, 1), (5, 4), (6, 0)].map(|(s, t)| (&networks[s], &networks[t]))
        {
            for autocast in [false, true] {
                for kind in [Kind::BFloat16, Kind::Float] {
                    let _autocast = Autocast::new(CPU, autocast).unwrap();
                    let (student, teacher) =
                        (leaves(&output(student_taps, 4, kind)), output(teacher_taps, 4, Kind::BFloat16));
                    run(def.name, student_taps, teacher_taps, &student, &teacher, &labels(4, 5, false));
                }
            }
        }
    }
}

/// bfloat16 has 8 significant bits; the loss may move by what its inputs and the parts under autocast lose, not more.
#[test]
fn autocast_moves_a_loss_little() {
    let networks = networks(5);
    for def in all() {
        let (student_taps, teacher_taps) = (&networks[0], &networks[3]);
        seed(2);
        let (student, teacher) = (output(student_taps, 8, Kind::BFloat16), output(teacher_taps, 8, Kind::BFloat16));
        let total = |autocast: bool| {
            let store = ParamStore::new(CPU, 1);
            let method = build(def.name, &toml::Table::new(), &store, student_taps, teacher_taps, 8).unwrap();
            let _autocast = Autocast::new(CPU, autocast).unwrap();
            number(&loss(&*method, &student, &teacher, &labels(8, 5, false), 0.0).unwrap().total().unwrap())
        };
        let (exact, mixed) = (total(false), total(true));
        assert!((exact - mixed).abs() < 0.02 * exact.abs(), "{}: {exact} against {mixed}", def.name);
    }
}

#[test]
fn huge_logits_and_two_classes_stay_finite() {
    for def in all() {
        // With two classes, dkd has no part for the others, and rejects them.
        for classes in if def.name == "dkd" { [3, 5] } else { [2, 5] } {
            let networks = networks(classes);
            for (s, t) in [(0, 3), (3, 0)] {
                let mut student = output(&networks[s], 4, Kind::Float);
                let mut teacher = output(&networks[t], 4, Kind::Float);
                student.logits = student.logits.sign() * 1e4;
                teacher.logits = teacher.logits.sign() * -1e4;
                for soft in [false, true] {
                    run(def.name, &networks[s], &networks[t], &leaves(&student), &teacher, &labels(4, classes, soft));
                }
            }
        }
    }
}

/// No loss is unbounded below as a logit grows: checked for every method, with the settings that change a target, and
/// for every kind of label. vid is a likelihood, whose minimum is set by its smallest variance.
#[test]
fn every_loss_is_bounded_below_over_wild_logits() {
    let networks = networks(3);
    let settings = |name: &str| match name {
        "ofa" => vec!["", "eps = 1.5", "eps = 4.0\ntemperature = 0.5"],
        "dkd" => vec!["", "temperature = 4.0\nbeta = 8.0"],
        "hcd" => vec!["", "detach_sub = false\nreduce = \"sum\""],
        "bkd" => vec!["", "reduce = \"sum\""],
        "hard" => vec!["", "smoothing = 0.3"],
        _ => vec![""],
    };
    for def in all() {
        let least = if def.name == "vid" { 4.0 * 0.5 * 1e-5f64.ln() } else { -1e-6 };
        for text in settings(def.name) {
            for (s, t) in [(0, 3), (3, 0)] {
                let table: toml::Table = text.parse().unwrap();
                let method = build(
                    def.name,
                    &table,
                    &ParamStore::with_kind(CPU, Kind::Double, 1),
                    &networks[s],
                    &networks[t],
                    4,
                )
                .unwrap();
                let teacher = output(&networks[t], 4, Kind::Double);
                for size in [10.0, 100.0, 1000.0] {
                    for class in 0..3 {
                        for sign in [1.0, -1.0] {
                            let student = output(&networks[s], 4, Kind::Double);
                            let _ = student.logits.select(1, class).fill_(sign * size);
                            for (kind, labels) in [
                                ("hard", hard(&[0, 1, 2, 0])),
                                (
                                    "mixed",
                                    Labels::Soft(Tensor::from_slice2(&[
                                        [0.6, 0.4, 0.0],
                                        [0.5, 0.5, 0.0],
                                        [0.1, 0.2, 0.7],
                                        [0.0, 0.4, 0.6],
                                    ])),
                                ),
                                (
                                    "one-hot",
                                    Labels::Soft(
                                        Tensor::eye(3, (Kind::Double, CPU))
                                            .index_select(0, &Tensor::from_slice(&[2i64, 0, 1, 1])),
                                    ),
                                ),
                                ("even", Labels::Soft(Tensor::full([4, 3], 1.0 / 3.0, (Kind::Double, CPU)))),
                            ] {
                                for term in &loss(&*method, &student, &teacher, &labels, 0.1).unwrap() {
                                    let value = number(&term.value);
                                    assert!(
                                        value >= least,
                                        "{} {text}, {kind} label, {sign}{size}: {} is {value}",
                                        def.name,
                                        term.name
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A batch of one class or of one image gives a number, or an error with advice.
#[test]
fn one_class_and_one_image_give_a_number_or_a_refusal() {
    let networks = networks(3);
    let mut refused = Vec::new();
    for def in all() {
        for (s, t) in [(0, 3), (3, 0)] {
            let (student, teacher) = (output(&networks[s], 4, Kind::Float), output(&networks[t], 4, Kind::Float));
            run(def.name, &networks[s], &networks[t], &leaves(&student), &teacher, &hard(&[1, 1, 1, 1]));
            let settings = (find(def.name).unwrap().configure)(&toml::Table::new()).unwrap();
            if let Err(e) = settings.check(&networks[s], &networks[t], 1) {
                assert!(e.to_string().contains("at least 2"), "{}: {e}", def.name);
                refused.push(def.name);
                continue;
            }
            let (student, teacher) = (output(&networks[s], 1, Kind::Float), output(&networks[t], 1, Kind::Float));
            run(def.name, &networks[s], &networks[t], &leaves(&student), &teacher, &hard(&[2]));
        }
    }
    refused.dedup();
    assert_eq!(refused, ["dist", "reviewkd", "sp", "cc", "rkd", "pkt", "rsd", "uhkd", "lfcc"]);
}

/// Constant features, as from dead units, cause no division by zero, forward or backward.
#[test]
fn constant_features_stay_finite() {
    for def in all() {
        for (s, t) in [(0, 3), (3, 1)] {
            let networks = networks(3);
            for fill in [0.0, 2.0] {
                let flat = |spec: &TapSpec| {
                    let output = output(spec, 4, Kind::Float);
                    for (_, mut x) in tensors(&output) {
                        let _ = x.fill_(fill);
                    }
                    output
                };
                run(
                    def.name,
                    &networks[s],
                    &networks[t],
                    &leaves(&flat(&networks[s])),
                    &flat(&networks[t]),
                    &hard(&[0, 1, 2, 0]),
                );
            }
        }
    }
}

/// A validation loss is computed without a graph and must not move the running statistics.
#[test]
fn without_a_graph_nothing_is_updated() {
    let networks = networks(3);
    for def in all() {
        let store = ParamStore::new(CPU, 1);
        let method = build(def.name, &toml::Table::new(), &store, &networks[0], &networks[3], 4).unwrap();
        let (student, teacher) = (output(&networks[0], 4, Kind::Float), output(&networks[3], 4, Kind::Float));
        let before: Vec<Tensor> = store.entries().iter().map(|(_, t, _)| t.copy()).collect();
        {
            let _guard = heterodyne_nn::shim::NoGrad::new();
            loss(&*method, &student, &teacher, &hard(&[0, 1, 2, 0]), 0.0).unwrap();
        }
        let same = || store.entries().iter().zip(&before).all(|((_, now, _), then)| now.detach() == *then);
        assert!(same(), "{}", def.name);
        loss(&*method, &student, &teacher, &hard(&[0, 1, 2, 0]), 0.0).unwrap();
        let has_buffers = store.entries().iter().any(|(_, _, role)| *role == Role::Buffer);
        assert_eq!(same(), !has_buffers, "{}: training does update them", def.name);
    }
}

/// A network that ran without taps is an error, not a panic.
#[test]
fn missing_taps_are_named() {
    let networks = networks(3);
    for def in all() {
        let method =
            build(def.name, &toml::Table::new(), &ParamStore::new(CPU, 1), &networks[0], &networks[3], 4).unwrap();
        if !method.reads_stages() {
            continue;
        }
        let bare = |x: Output| Output { embedding: None, stages: vec![], ..x };
        let (student, teacher) = (|| output(&networks[0], 4, Kind::Float), || output(&networks[3], 4, Kind::Float));
        let mut sides = vec![(bare(student()), teacher())];
        if !method.signals().is_empty() {
            sides.push((student(), bare(teacher())));
        }
        for (s, t) in sides {
            let e = loss(&*method, &s, &t, &hard(&[0, 1, 2, 0]), 0.0).unwrap_err().to_string();
            assert!(e.contains("run it with taps"), "{}: {e}", def.name);
        }
    }
}

/// A teacher with only logits is enough for a method that reads nothing else.
#[test]
fn methods_of_logits_take_a_teacher_of_logits() {
    let mut names = Vec::new();
    for def in all() {
        let student_taps = conv(6, 3);
        let teacher_taps = TapSpec { stages: vec![], stem: false, embedding: None, classes: 3 };
        let store = ParamStore::new(CPU, 1);
        match build(def.name, &toml::Table::new(), &store, &student_taps, &teacher_taps, 4) {
            Ok(method) => {
                assert!(method.signals().is_empty(), "{}", def.name);
                let (student, teacher) =
                    (leaves(&output(&student_taps, 4, Kind::Float)), output(&teacher_taps, 4, Kind::Float));
                loss(&*method, &student, &teacher, &hard(&[0, 1, 2, 0]), 0.0).unwrap().total().unwrap().backward();
                names.push(def.name);
            }
            Err(e) => assert!(e.to_string().contains("logits only"), "{}: {e}", def.name),
        }
    }
    assert_eq!(names, ["kd", "bkd", "dkd", "dist", "hard", "ofa"]);
}

#[test]
fn no_gradient_reaches_any_teacher() {
    for def in all() {
        for (student_taps, teacher_taps) in [(conv(6, 3), vit(1, 5, 3)), (vit(1, 8, 3), conv(5, 3))] {
            let store = ParamStore::new(CPU, 0);
            let method = build(def.name, &toml::Table::new(), &store, &student_taps, &teacher_taps, 4).unwrap();
            let (student, teacher) =
                (leaves(&output(&student_taps, 4, Kind::Float)), leaves(&output(&teacher_taps, 4, Kind::Float)));
            loss(&*method, &student, &teacher, &hard(&[0, 2, 2, 1]), 0.1).unwrap().total().unwrap().backward();
            for (name, x) in tensors(&teacher) {
                assert!(!x.grad().defined(), "{}: the teacher's {name} gets a gradient", def.name);
            }
        }
    }
}
