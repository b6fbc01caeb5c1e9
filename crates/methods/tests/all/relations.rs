//! What the equations of the methods on attention and relations promise.
use heterodyne_methods::Method;
use heterodyne_nn::{FeatureMap, Output, ParamStore, TapSpec};
use tch::{Kind, Tensor};

use crate::support::{CPU, build, conv, hard, loss, number, output, seed, table, vit};

fn method(name: &str, student: &TapSpec, teacher: &TapSpec) -> Box<dyn Method> {
    build(name, &table(""), &ParamStore::with_kind(CPU, Kind::Double, 0), student, teacher, 4).unwrap()
}

fn total(method: &dyn Method, student: &Output, teacher: &Output) -> f64 {
    number(&loss(method, student, teacher, &hard(&[0, 1, 2, 0]), 0.0).unwrap().total().unwrap())
}

fn copy(output: &Output) -> Output {
    changed(output, Tensor::copy, Tensor::copy)
}

/// The stages and the embedding, each changed in its way.
fn changed(output: &Output, stage: impl Fn(&Tensor) -> Tensor, embedding: impl Fn(&Tensor) -> Tensor) -> Output {
    let of = |f: &FeatureMap| match f {
        FeatureMap::Map(x) => FeatureMap::Map(stage(x)),
        FeatureMap::Tokens { tokens, prefix, grid } => FeatureMap::Tokens { tokens: stage(tokens), prefix: *prefix, grid: *grid },
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
    // Which image is which matters.
    let others = changed(&student, Tensor::copy, |e| e.flip([0]));
    assert!((total(&*m, &student, &teacher) - total(&*m, &others, &teacher)).abs() > 1e-6);
}

/// Cosines do not see the size of an embedding, sets of unit channels neither their order nor their size.
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
