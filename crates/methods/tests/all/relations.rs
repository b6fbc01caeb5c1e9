//! Properties of the methods on attention and relations, from their equations.
use heterodyne_methods::Method;
use heterodyne_nn::{FeatureMap, Output, ParamStore, TapSpec};
use tch::{Kind, Tensor};

use crate::support::{CPU, build, conv, fill, hard, loss, number, output, seed, table, vit};

fn method(name: &str, student: &TapSpec, teacher: &TapSpec) -> Box<dyn Method> {
    build(name, &table(""), &ParamStore::with_kind(CPU, Kind::Double, 0), student, teacher, 4).unwrap()
}

fn total(method: &dyn Method, student: &Output, teacher: &Output) -> f64 {
    number(&loss(method, student, teacher, &hard(&[0, 1, 2, 0]), 0.0).unwrap().total().unwrap())
}

fn copy(output: &Output) -> Output {
    changed(output, Tensor::copy, Tensor::copy)
}

/// Applies one change to the stages and another to the embedding.
fn changed(output: &Output, stage: impl Fn(&Tensor) -> Tensor, embedding: impl Fn(&Tensor) -> Tensor) -> Output {
    let of = |f: &FeatureMap| match f {
        FeatureMap::Map(x) => FeatureMap::Map(stage(x)),
        FeatureMap::Tokens { tokens, prefix, grid } => {
            FeatureMap::Tokens { tokens: stage(tokens), prefix: *prefix, grid: *grid }
        }
    };
    Output {
        logits: output.logits.copy(),
        embedding: output.embedding.as_ref().map(embedding),
        stages: output.stages.iter().map(of).collect(),
    }
}

#[test]
fn a_student_that_is_the_teacher_has_nothing_to_learn() {
    seed(1);
    for taps in [conv(6, 3), vit(1, 5, 3)] {
        let teacher = output(&taps, 4, Kind::Double);
        for name in ["at", "sp", "rkd", "pkt", "nst"] {
            let m = method(name, &taps, &taps);
            assert!(total(&*m, &copy(&teacher), &teacher).abs() < 1e-20, "{name}");
            assert!(total(&*m, &output(&taps, 4, Kind::Double), &teacher) > 1e-6, "{name}");
        }
    }
}

/// Attention is a sum over channels, divided by its size: neither their order nor the features' scale matters.
#[test]
fn attention_does_not_see_the_order_of_channels_and_the_scale() {
    seed(2);
    let (taps, other) = (conv(6, 3), vit(1, 5, 3));
    let (student, teacher) = (output(&taps, 4, Kind::Double), output(&other, 4, Kind::Double));
    let m = method("at", &taps, &other);
    let moved = changed(&student, |x| x.flip([1]) * -3.0, Tensor::copy);
    assert!((total(&*m, &student, &teacher) - total(&*m, &moved, &teacher)).abs() < 1e-12);
    let places = changed(&student, |x| x.flip([3]), Tensor::copy);
    assert!((total(&*m, &student, &teacher) - total(&*m, &places, &teacher)).abs() > 1e-6);
}

/// Products of images are the same after one rotation of all features, and rows are divided by their norm.
#[test]
fn similarities_do_not_see_a_reflection_and_the_scale() {
    seed(3);
    let (taps, other) = (conv(6, 3), vit(1, 5, 3));
    let (student, teacher) = (output(&taps, 4, Kind::Double), output(&other, 4, Kind::Double));
    let m = method("sp", &taps, &other);
    let moved = changed(&student, |x| x.flip([1, 2, 3]) * -0.2, Tensor::copy);
    assert!((total(&*m, &student, &teacher) - total(&*m, &moved, &teacher)).abs() < 1e-12);
}

#[test]
fn relations_do_not_see_where_the_embeddings_lie_and_how_far_apart() {
    seed(4);
    let (taps, other) = (conv(6, 3), vit(1, 5, 3));
    let (student, teacher) = (output(&taps, 4, Kind::Double), output(&other, 4, Kind::Double));
    let m = method("rkd", &taps, &other);
    let moved = changed(&student, Tensor::copy, |e| e.flip([1]) * 40.0 + 7.0);
    assert!((total(&*m, &student, &teacher) - total(&*m, &moved, &teacher)).abs() < 1e-9);
    // The assignment of embeddings to images matters.
    let others = changed(&student, Tensor::copy, |e| e.flip([0]));
    assert!((total(&*m, &student, &teacher) - total(&*m, &others, &teacher)).abs() > 1e-6);
}

/// Cosines are invariant to the norm of an embedding; sets of unit channels are invariant to the order and the norm of
/// channels.
#[test]
fn probabilities_and_selectivity_do_not_see_sizes() {
    seed(5);
    let (taps, other) = (conv(6, 3), vit(1, 5, 3));
    let (student, teacher) = (output(&taps, 4, Kind::Double), output(&other, 4, Kind::Double));
    for name in ["pkt", "nst"] {
        let m = method(name, &taps, &other);
        let moved = changed(&student, |x| x.flip([1]) * -30.0, |e| e.flip([1]) * 500.0);
        let (before, after) = (total(&*m, &student, &teacher), total(&*m, &moved, &teacher));
        assert!((before - after).abs() < 1e-6 * before, "{name}: {before} {after}");
    }
}

#[test]
fn a_batch_of_one_has_no_relations() {
    let (taps, other) = (conv(6, 3), vit(1, 5, 3));
    for name in ["sp", "rkd", "pkt"] {
        let settings = (heterodyne_methods::find(name).unwrap().configure)(&table("")).unwrap();
        let e = settings.check(&taps, &other, 1).unwrap_err().to_string();
        assert!(e.contains(name) && e.contains("the batch has 1"), "{e}");
    }
}

/// A student with the teacher's embeddings and the same map has zero loss for any embeddings.
#[test]
fn equal_embeddings_are_congruent() {
    seed(6);
    let taps = conv(6, 3);
    for settings in ["", "form = \"neighbours\"", "gamma = 2.0\norder = 6"] {
        let store = ParamStore::with_kind(CPU, Kind::Double, 0);
        let m = build("cc", &table(settings), &store, &taps, &taps, 4).unwrap();
        // Both maps are called weight and bias, on either side of a different prefix.
        fill(&store);
        let by_name = |name: &str| store.parameters().into_iter().find(|(own, ..)| own == name).unwrap().1;
        for part in ["weight", "bias"] {
            let _guard = heterodyne_nn::shim::NoGrad::new();
            by_name(&format!("teacher.{part}")).copy_(&by_name(&format!("student.{part}")));
        }
        let student = output(&taps, 4, Kind::Double);
        assert!(total(&*m, &student, &student) < 1e-15, "{settings}");
        let moved = changed(&student, Tensor::copy, |e| e.flip([0]));
        assert!(total(&*m, &student, &moved) > 1e-4, "{settings}");
    }
}

/// Pairs are unordered; neighbours depend on the order.
#[test]
fn the_kernel_does_not_see_the_order_of_the_batch() {
    seed(7);
    let (taps, other) = (conv(6, 3), vit(1, 5, 3));
    let (student, teacher) = (output(&taps, 4, Kind::Double), output(&other, 4, Kind::Double));
    let order = |o: &Output| changed(o, Tensor::copy, |e| e.index_select(0, &Tensor::from_slice(&[2i64, 0, 3, 1])));
    for (settings, same) in [("", true), ("form = \"neighbours\"", false)] {
        let m = build("cc", &table(settings), &ParamStore::with_kind(CPU, Kind::Double, 0), &taps, &other, 4).unwrap();
        let (before, after) = (total(&*m, &student, &teacher), total(&*m, &order(&student), &order(&teacher)));
        assert_eq!((before - after).abs() < 1e-12, same, "{settings}: {before} {after}");
    }
}

/// Features that are predicted exactly cost the logarithm of their variance, 5 at the start, on each of four levels.
#[test]
fn an_exact_prediction_costs_the_variance_alone() {
    let (taps, other) = (conv(6, 3), vit(1, 5, 3));
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let m = build("vid", &table(""), &store, &taps, &other, 4).unwrap();
    for (name, tensor, _) in store.parameters() {
        let _guard = heterodyne_nn::shim::NoGrad::new();
        if name.contains(".last.") {
            let _ = tensor.shallow_clone().zero_();
        }
    }
    let zero = changed(&output(&other, 4, Kind::Double), Tensor::zeros_like, Tensor::zeros_like);
    let value = total(&*m, &output(&taps, 4, Kind::Double), &zero);
    assert!((value - 4.0 * 0.5 * 5f64.ln()).abs() < 1e-12, "{value}");
    // An error of 1 everywhere adds 1/2 of 1/5 per level.
    let one = changed(&zero, Tensor::ones_like, Tensor::zeros_like);
    let off = total(&*m, &output(&taps, 4, Kind::Double), &one);
    assert!((off - value - 4.0 * 0.5 / 5.0).abs() < 1e-12, "{off}");
}

/// The context loss of a constant difference is its square, for any pools, on four stages and the embedding.
#[test]
fn a_constant_difference_costs_its_square_on_every_level() {
    let (taps, other) = (conv(6, 3), vit(1, 5, 3));
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let m = build("reviewkd", &table(""), &store, &taps, &other, 4).unwrap();
    for (name, tensor, _) in store.parameters() {
        let _guard = heterodyne_nn::shim::NoGrad::new();
        if name.contains("expand.norm.weight") {
            let _ = tensor.shallow_clone().zero_();
        }
    }
    let teacher = changed(&output(&other, 4, Kind::Double), |x| x.zeros_like() + 3.0, |e| e.zeros_like() + 3.0);
    let value = total(&*m, &output(&taps, 4, Kind::Double), &teacher);
    assert!((value - 5.0 * 9.0).abs() < 1e-10, "{value}");
}
