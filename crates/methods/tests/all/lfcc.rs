//! Properties of the low-pass filters and the contrastive loss.
use std::cell::RefCell;

use heterodyne_methods::parts::lowpass::{AveragePool, LowPass, square, windows};
use heterodyne_nn::{FeatureMap, Output, ParamStore};
use tch::{Kind, Tensor};

use crate::support::{
    CPU, Player, build, conv, fill, hard, loss, loss_among, map, max, number, output, rows, seed, table, taps,
    tensor_of, value,
};

const GRIDS: [((i64, i64), &[i64]); 7] = [
    ((8, 8), &[1, 2, 4]),
    ((7, 7), &[1, 2, 4]),
    ((5, 9), &[4, 3]),
    ((1, 1), &[1]),
    ((14, 14), &[4, 1]),
    ((3, 2), &[2, 1]),
    ((12, 6), &[6, 4, 5]),
];

/// libtorch's adaptive pooling to every scale: (B,K,C).
fn pooled(x_bchw: &Tensor, scales: &[i64]) -> Tensor {
    let each: Vec<Tensor> =
        scales.iter().map(|&s| x_bchw.adaptive_avg_pool2d([s, s]).flatten(2, 3).transpose(1, 2)).collect();
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
    // Each image has one other of its class, which is not a negative.
    assert!((contrast("mask_same_class = true", equal_teacher) - 5f64.ln()).abs() < 1e-12);
}

#[test]
fn a_permuted_teacher_raises_the_loss() {
    for settings in ["", "symmetric = true", "mask_same_class = true", "tau_learnable = false", "filter = \"avgpool\""]
    {
        let same = contrast(settings, |student, _| {
            let copy = Output {
                logits: student.logits.copy(),
                embedding: None,
                stages: student.stages.iter().map(FeatureMap::detach).collect(),
            };
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
    assert!(
        (contrast("tau = 0.2\ntau_learnable = true", plain) - contrast("tau = 0.2\ntau_learnable = false", plain))
            .abs()
            < 1e-12
    );
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

/// As in CLIP: a factor beyond the limit is set back to it and continues to learn.
#[test]
fn a_temperature_beyond_its_limit_returns() {
    let spec = conv(4, 3);
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let method = build("lfcc", &table("alpha = 0.0"), &store, &spec, &spec, 4).unwrap();
    let (_, mut scale, _) = store.parameters().into_iter().find(|(name, ..)| name == "logit_scale").unwrap();
    let set = |scale: &mut Tensor| {
        let _guard = heterodyne_nn::shim::NoGrad::new();
        let _ = scale.fill_(1000f64.ln());
    };
    set(&mut scale);
    let (student, teacher) = (output(&spec, 4, Kind::Double), output(&spec, 4, Kind::Double));
    let value = || loss(&*method, &student, &teacher, &hard(&[0, 1, 2, 0]), 0.0).unwrap().total().unwrap();
    value().backward();
    assert_eq!(number(&scale), 100f64.ln());
    assert!(number(&scale.grad()).abs() > 1e-6, "it learns: {}", number(&scale.grad()));
    // A validation reads the limit and changes nothing.
    set(&mut scale);
    let at_limit = number(&value());
    set(&mut scale);
    let _guard = heterodyne_nn::shim::NoGrad::new();
    assert!((number(&value()) / at_limit - 1.0).abs() < 1.0);
    assert_eq!(number(&scale), 1000f64.ln());
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
    let e =
        build("lfcc", &table("scales = [4, 3]"), &ParamStore::new(CPU, 0), &spec, &spec, 4).err().unwrap().to_string();
    assert!(e.contains("level 4") && e.contains("(6,2,2)") && e.contains("at most 2"), "{e}");
}

/// Two processes with half of a batch each have, on average, the loss and the gradients of one with the whole batch.
/// Both halves show the student the same images in another order, so that batch norms see the same statistics; the
/// teacher's differ.
#[test]
fn negatives_of_all_processes_make_one_large_batch() {
    const HALVES: [[i64; 4]; 2] = [[0, 1, 2, 3], [4, 5, 6, 7]];
    let spec = conv(4, 3);
    seed(9);
    let student = rows(&output(&spec, 4, Kind::Double), &[0, 1, 2, 3, 2, 0, 3, 1]);
    let teacher = output(&spec, 8, Kind::Double);
    let classes = [0, 1, 2, 0, 1, 1, 0, 2];
    for settings in [
        "",
        "symmetric = true",
        "symmetric = true\nmask_same_class = true",
        "filter = \"avgpool\"\nmask_same_class = true",
    ] {
        let built = |negatives: &str| {
            let store = ParamStore::with_kind(CPU, Kind::Double, 0);
            let settings = table(&format!("alpha = 0.0\n{settings}\nnegatives = \"{negatives}\""));
            let method = build("lfcc", &settings, &store, &spec, &spec, 4).unwrap();
            fill(&store);
            (store, method)
        };
        let gradients = |store: &ParamStore| {
            store.parameters().into_iter().map(|(name, p, _)| (name, p.grad().copy())).collect::<Vec<_>>()
        };
        let (store, method) = built("local");
        let whole = loss(&*method, &student, &teacher, &hard(&classes), 0.0).unwrap().total().unwrap();
        whole.backward();
        let expected = gradients(&store);

        let (store, method) = built("global");
        let play = |rank: usize, heard: Vec<Tensor>| {
            let half = HALVES[rank];
            let labels = hard(&half.map(|i| classes[i as usize]));
            let player = Player { rank: rank as i64, said: RefCell::default(), heard };
            let total = loss_among(&player, &*method, &rows(&student, &half), &rows(&teacher, &half), &labels, 0.0)
                .unwrap()
                .total()
                .unwrap();
            (total, player.said.into_inner())
        };
        let [(_, first), (_, second)] = [0, 1].map(|rank| play(rank, Vec::new()));
        let mean = (play(0, second).0 + play(1, first).0) * 0.5;
        assert!(number(&(&mean - &whole).abs()) < 1e-13, "{settings}: {mean} against {whole}");
        mean.backward();
        for ((name, ours), (_, theirs)) in gradients(&store).iter().zip(&expected) {
            assert!(max(&(ours - theirs)) < 1e-12, "{settings}: {name}");
        }

        // Local negatives need no communication.
        let (_, method) = built("local");
        let half = rows(&student, &HALVES[1]);
        let labels = hard(&HALVES[1].map(|i| classes[i as usize]));
        let alone = loss(&*method, &half, &rows(&teacher, &HALVES[1]), &labels, 0.0).unwrap().total().unwrap();
        let player = Player { rank: 1, said: RefCell::default(), heard: Vec::new() };
        let among =
            loss_among(&player, &*method, &half, &rows(&teacher, &HALVES[1]), &labels, 0.0).unwrap().total().unwrap();
        assert!(player.said.borrow().is_empty());
        assert_eq!(number(&alone), number(&among));
    }
}
