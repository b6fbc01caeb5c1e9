//! What low-pass filters and the contrast promise.
use heterodyne_methods::parts::lowpass::{AveragePool, LowPass, square, windows};
use heterodyne_nn::{FeatureMap, Output, ParamStore};
use tch::{Kind, Tensor};

use crate::support::{CPU, build, conv, fill, hard, loss, map, number, output, seed, table, taps, tensor_of, value};

const GRIDS: [((i64, i64), &[i64]); 7] = [
    ((8, 8), &[1, 2, 4]),
    ((7, 7), &[1, 2, 4]),
    ((5, 9), &[4, 3]),
    ((1, 1), &[1]),
    ((14, 14), &[4, 1]),
    ((3, 2), &[2, 1]),
    ((12, 6), &[6, 4, 5]),
];

fn max(x: &Tensor) -> f64 {
    number(&x.abs().max())
}

/// Adaptive pooling of libtorch to every scale: (B,K,C).
fn pooled(x_bchw: &Tensor, scales: &[i64]) -> Tensor {
    let each: Vec<Tensor> = scales.iter().map(|&s| x_bchw.adaptive_avg_pool2d([s, s]).flatten(2, 3).transpose(1, 2)).collect();
    Tensor::cat(&each, 1)
}

#[test]
fn windows_are_those_of_adaptive_pooling() {
    assert_eq!(windows(7, 4), [(0, 2), (1, 3), (3, 3), (5, 2)]);
    assert_eq!(windows(8, 4), [(0, 2), (2, 2), (4, 2), (6, 2)]);
    for (grid, scales) in GRIDS {
        let x = Tensor::randn([2, 3, grid.0, grid.1], (Kind::Float, CPU));
        let ours = AveragePool::new(3, grid, &square(scales), Kind::Float, CPU).forward(&x).unwrap();
        assert!(max(&(ours - pooled(&x, scales))) < 1e-6, "{grid:?}");
    }
}

#[test]
fn kernels_sum_to_one_and_pass_a_constant_map() {
    for (grid, scales) in GRIDS {
        let store = ParamStore::with_kind(CPU, Kind::Double, 0);
        let filter = LowPass::new(&store.root(), 3, grid, scales).unwrap();
        fill(&store);
        let matrix = filter.matrix();
        assert!(number(&matrix.min()) >= 0.0);
        assert!(max(&(matrix.sum_dim_intlist([2i64].as_slice(), false, Kind::Double) - 1.0)) < 1e-14, "{grid:?}");
        let level = Tensor::from_slice(&[1.5, -2.0, 0.25]);
        let flat = level.reshape([1, 3, 1, 1]).expand([2, 3, grid.0, grid.1], false);
        assert!(max(&(filter.forward(&flat).unwrap() - level)) < 1e-14, "{grid:?}");
    }
}

#[test]
fn a_uniform_kernel_is_average_pooling() {
    for (grid, scales) in GRIDS {
        let store = ParamStore::with_kind(CPU, Kind::Double, 0);
        let filter = LowPass::new(&store.root(), 3, grid, scales).unwrap();
        let x = Tensor::randn([2, 3, grid.0, grid.1], (Kind::Double, CPU));
        let ours = filter.forward(&x).unwrap();
        assert!(max(&(ours - pooled(&x, scales))) < 1e-14, "{grid:?}");
    }
}

#[test]
fn where_windows_are_equal_the_filter_is_a_depthwise_convolution() {
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let filter = LowPass::new(&store.root(), 3, (8, 12), &[2]).unwrap();
    fill(&store);
    let theta = store.parameters()[0].1.shallow_clone();
    assert_eq!(theta.size(), [3, 4, 6]);
    let kernel = theta.flatten(1, 2).softmax(-1, Kind::Double).reshape([3, 1, 4, 6]);
    let x = Tensor::randn([2, 3, 8, 12], (Kind::Double, CPU));
    let theirs = x.conv2d(&kernel, None::<&Tensor>, [4, 6], [0, 0], [1, 1], 3).flatten(2, 3).transpose(1, 2);
    assert!(max(&(filter.forward(&x).unwrap() - theirs)) < 1e-14);
}

fn contrast(settings: &str, change: impl Fn(Output, Output) -> (Output, Output)) -> f64 {
    seed(3);
    let spec = taps(&[map(4, 8, 8); 4], 4, 5);
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let method = build("lfcc", &table(settings), &store, &spec, &spec, 6).unwrap();
    // psi as the identity; the batch norm stays.
    let _guard = heterodyne_nn::shim::NoGrad::new();
    for (name, tensor, _) in store.parameters() {
        if name.ends_with("project.weight") {
            tensor.shallow_clone().copy_(&Tensor::eye(4, (Kind::Double, CPU)));
        }
    }
    drop(_guard);
    let (student, teacher) = change(output(&spec, 6, Kind::Double), output(&spec, 6, Kind::Double));
    value(&loss(&*method, &student, &teacher, &hard(&[0, 1, 2, 0, 1, 2]), 0.0).unwrap(), "con")
}

fn with_stages(output: Output, f: impl Fn(&Tensor) -> Tensor) -> Output {
    Output { stages: output.stages.iter().map(|s| FeatureMap::Map(f(tensor_of(s)))).collect(), ..output }
}

#[test]
fn equal_similarities_give_log_b() {
    let equal_teacher = |student, teacher| (student, with_stages(teacher, |x| x.narrow(0, 0, 1).expand_as(x)));
    for settings in ["symmetric = false", "tau = 0.01\nfilter = \"avgpool\""] {
        assert!((contrast(settings, equal_teacher) - 6f64.ln()).abs() < 1e-12);
    }
    // Each image has one other of its class, which is no negative.
    assert!((contrast("mask_same_class = true", equal_teacher) - 5f64.ln()).abs() < 1e-12);
}

#[test]
fn a_permuted_teacher_raises_the_loss() {
    for settings in ["", "symmetric = true", "mask_same_class = true", "tau_learnable = false", "filter = \"avgpool\""] {
        let same = contrast(settings, |student, _| {
            let copy =
                Output { logits: student.logits.copy(), embedding: None, stages: student.stages.iter().map(FeatureMap::detach).collect() };
            (student, copy)
        });
        let permuted = contrast(settings, |student, _| {
            let copy = Output {
                logits: student.logits.copy(),
                embedding: None,
                stages: student.stages.iter().map(|s| FeatureMap::Map(tensor_of(s).roll([1], [0]))).collect(),
            };
            (student, copy)
        });
        assert!(same < 6f64.ln() / 2.0 && permuted > 6f64.ln(), "{settings}: {same} against {permuted}");
    }
}

#[test]
fn the_learnable_temperature_starts_at_tau_and_stops_at_one_hundredth() {
    let plain = |student, teacher| (student, teacher);
    assert!((contrast("tau = 0.2\ntau_learnable = true", plain) - contrast("tau = 0.2\ntau_learnable = false", plain)).abs() < 1e-12);
    let spec = conv(4, 3);
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let method = build("lfcc", &table("tau_learnable = true\nalpha = 0.0"), &store, &spec, &spec, 4).unwrap();
    let (student, teacher) = (output(&spec, 4, Kind::Double), output(&spec, 4, Kind::Double));
    let at = |value: f64| {
        let (_, mut scale, _) = store.parameters().into_iter().find(|(name, ..)| name == "logit_scale").unwrap();
        let guard = heterodyne_nn::shim::NoGrad::new();
        let _ = scale.fill_(value);
        drop(guard);
        number(&loss(&*method, &student, &teacher, &hard(&[0, 1, 2, 0]), 0.0).unwrap().total().unwrap())
    };
    assert_eq!(at(100f64.ln()), at(50.0));
}

#[test]
fn a_batch_of_one_and_scales_that_do_not_fit_are_refused() {
    let spec = conv(4, 3);
    let store = ParamStore::new(CPU, 0);
    let e = build("lfcc", &table(""), &store, &spec, &spec, 1).err().unwrap().to_string();
    assert!(e.contains("batch of at least 2"), "{e}");
    let method = build("lfcc", &table(""), &store, &spec, &spec, 4).unwrap();
    let (student, teacher) = (output(&spec, 1, Kind::Float), output(&spec, 1, Kind::Float));
    let e = loss(&*method, &student, &teacher, &hard(&[0]), 0.0).unwrap_err().to_string();
    assert!(e.contains("batch of at least 2"), "{e}");
    let e = build("lfcc", &table("scales = [4, 3]"), &ParamStore::new(CPU, 0), &spec, &spec, 4).err().unwrap().to_string();
    assert!(e.contains("level 4") && e.contains("(6,2,2)") && e.contains("at most 2"), "{e}");
}
