//! Names, roles and loading.
use heterodyne_nn::{
    Error, Init, ParamStore, Role, Tensors,
    layers::{BatchNorm2d, Block, BlockStyle, Linear},
};
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A norm and a classifier. The layers can be dropped, because the store shares their tensors.
fn small() -> ParamStore {
    let store = ParamStore::new(Device::Cpu, 0);
    let root = store.root();
    let _ = BatchNorm2d::new(&root.sub("bn1"), 3).unwrap();
    let _ = Linear::new(&root.sub("fc"), 3, 2).unwrap();
    store
}

#[test]
fn a_name_can_be_used_once() {
    let store = small();
    let e = Linear::new(&store.root().sub("fc"), 3, 2).unwrap_err();
    assert!(matches!(&e, Error::Duplicate(name) if name == "fc.weight"), "{e}");
    assert_eq!(e.to_string(), "parameter `fc.weight` is defined twice");
    let e = store.root().sub("bn1").buffer("running_mean", &[3], 0.0).unwrap_err();
    assert!(matches!(e, Error::Duplicate(_)));
    assert_eq!(store.entries().len(), 6, "the first ones stay");
}

#[test]
fn entries_keep_their_order_and_know_their_role() {
    let store = small();
    let entries: Vec<_> = store.entries().into_iter().map(|(name, _, role)| (name, role)).collect();
    let expected = [
        ("bn1.weight", Role::NoDecay),
        ("bn1.bias", Role::NoDecay),
        ("bn1.running_mean", Role::Buffer),
        ("bn1.running_var", Role::Buffer),
        ("fc.weight", Role::Decay),
        ("fc.bias", Role::NoDecay),
    ];
    assert_eq!(entries, expected.map(|(name, role)| (name.to_owned(), role)));
    assert_eq!(store.parameters().len(), 4);
    assert_eq!(store.num_parameters(), 3 + 3 + 6 + 2);
    let _ = store.root().param_no_decay("pos_embed", &[1, 4, 2], Init::Const(0.0)).unwrap();
    assert_eq!(store.entries().last().map(|e| e.2), Some(Role::NoDecay));
}

#[test]
fn frozen_parameters_take_no_gradient_and_buffers_never_do() {
    let store = small();
    assert!(store.entries().iter().all(|(_, t, role)| t.requires_grad() == (*role != Role::Buffer)));
    store.freeze();
    assert!(store.entries().iter().all(|(_, t, _)| !t.requires_grad()));
}

#[test]
fn handles_share_the_layers_storage() {
    let store = ParamStore::new(Device::Cpu, 0);
    let fc = Linear::new(&store.root(), 3, 2).unwrap();
    let mut tensors = store.tensors();
    tensors.insert("weight".into(), Tensor::ones([2, 3], F32));
    tensors.insert("bias".into(), Tensor::zeros([2], F32));
    assert!(store.load(&tensors).unwrap().is_clean());
    assert_eq!(fc.forward(&Tensor::ones([1, 3], F32)).detach(), Tensor::full([1, 2], 3.0, F32));
    assert!(store.parameters().iter().all(|(_, t, _)| t.requires_grad()), "loading does not freeze");
}

#[test]
fn a_load_report_names_everything() {
    let store = small();
    let mut tensors: Tensors = store.tensors().iter().map(|(name, t)| (name.clone(), t.detach().copy() + 1)).collect();
    let weight = tensors.shift_remove("bn1.weight").unwrap();
    tensors.insert("bn_1.weight".into(), weight);
    tensors.insert("fc.bias".into(), Tensor::zeros([5], F32));
    tensors.insert("bn1.num_batches_tracked".into(), Tensor::from(7i64));
    let report = store.load(&tensors).unwrap();
    assert_eq!(report.loaded, 4);
    assert_eq!(report.missing, ["bn1.weight"]);
    assert_eq!(report.unexpected, ["bn_1.weight"]);
    assert_eq!(report.mismatched, [("fc.bias".to_owned(), vec![5], vec![2])]);
    assert_eq!(store.tensors()["bn1.running_var"], Tensor::full([3], 2.0, F32), "what fits is copied");
    let text = report.strict("a.safetensors into small").unwrap_err().to_string();
    for part in [
        "a.safetensors into small: the weights do not fit",
        "4 tensors loaded",
        "bn1.weight (the file has `bn_1.weight`)",
        "1 unknown to the network\n    bn_1.weight",
        "fc.bias: [5] in the file, [2] in the network",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[test]
fn a_long_report_is_cut_and_says_so() {
    let store = ParamStore::new(Device::Cpu, 0);
    let _ = Block::new(&store.root().sub("blocks").sub(0), 8, 2, BlockStyle::VIT).unwrap();
    let report = store.load(&Tensors::new()).unwrap();
    assert_eq!(report.missing.len(), 12);
    let text = report.to_string();
    assert!(
        text.contains("12 missing in the file")
            && text.contains("blocks.0.attn.qkv.bias")
            && text.ends_with("and 4 more"),
        "{text}"
    );
}

#[test]
fn a_clean_report_passes() {
    let (store, other) = (small(), small());
    let report = store.load(&other.tensors()).unwrap().strict("x").unwrap();
    assert_eq!(report.loaded, 6);
    assert_eq!(store.tensors(), other.tensors());
}

#[test]
fn a_deferred_store_draws_what_was_not_loaded() {
    let build = |store: &ParamStore| {
        let scope = store.root();
        for (name, shape, init) in [
            ("a.weight", &[6, 4, 3, 3][..], Init::KaimingNormalFanOut),
            ("a.bias", &[6][..], Init::Const(0.5)),
            ("b.weight", &[5, 6][..], Init::TruncNormal { std: 0.02 }),
        ] {
            let _layer = scope.param(name, shape, init).unwrap();
        }
    };
    let (drawn, deferred) = (ParamStore::new(Device::Cpu, 3), ParamStore::new(Device::Cpu, 3).deferred());
    build(&drawn);
    build(&deferred);
    deferred.draw().unwrap();
    assert_eq!(drawn.tensors(), deferred.tensors(), "nothing loaded: drawn as if at once");
    assert!(deferred.tensors()["a.weight"].requires_grad());

    let deferred = ParamStore::new(Device::Cpu, 3).deferred();
    build(&deferred);
    let given = Tensor::arange(30, (Kind::Float, Device::Cpu)).reshape([5, 6]);
    deferred.load(&[("b.weight".to_owned(), given.copy())].into_iter().collect()).unwrap();
    deferred.draw().unwrap();
    deferred.draw().unwrap();
    assert_eq!(deferred.tensors()["b.weight"], given, "what was loaded stays");
    assert_eq!(deferred.tensors()["a.weight"], drawn.tensors()["a.weight"]);
    assert_eq!(deferred.tensors()["a.bias"], drawn.tensors()["a.bias"]);
}
