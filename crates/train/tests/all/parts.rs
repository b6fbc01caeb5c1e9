use heterodyne_nn::{Init, ParamStore, Role, Tensors};
use heterodyne_run::recipe::schema::{Optim, OptimName};
use heterodyne_shim::{NoGrad, Rate, grad_norm};
use heterodyne_train::{
    Error, World,
    learner::{Ema, Optimizer, StepValues, optim::clip},
    run::meter::Meter,
};
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

fn store() -> ParamStore {
    let store = ParamStore::new(Device::Cpu, 1);
    let root = store.root();
    let _ = root.param("weight", &[3, 4], Init::TorchDefault).unwrap();
    let _ = root.param("bias", &[3], Init::Const(1.0)).unwrap();
    let _ = root.param_no_decay("pos_embed", &[1, 2, 4], Init::Const(1.0)).unwrap();
    let _ = root.buffer("running_mean", &[3], 0.0).unwrap();
    store
}

fn backward(store: &ParamStore) {
    let loss = store.parameters().iter().map(|(_, t, _)| (t * t).sum(None::<Kind>)).reduce(|a, b| a + b).unwrap();
    loss.backward();
}

#[test]
fn only_matrices_decay_unless_asked() {
    for (decay_all, moved) in [(false, [true, false, false]), (true, [true, true, true])] {
        let store = store();
        let config = Optim { lr: 0.1, weight_decay: 0.5, momentum: 0.0, decay_all, ..Optim::default() };
        let optimizer = Optimizer::new(&config, store.parameters()).unwrap();
        // With a zero gradient, only weight decay can change a parameter.
        let loss = store.parameters().iter().map(|(_, t, _)| t.sum(None::<Kind>)).reduce(|a, b| a + b).unwrap() * 0.0;
        loss.backward();
        let before: Vec<Tensor> = store.parameters().iter().map(|(_, t, _)| t.copy()).collect();
        optimizer.step(Rate::Number(0.1), &Tensor::zeros([], CPU)).unwrap();
        let after: Vec<bool> = store.parameters().iter().zip(&before).map(|((_, t, _), b)| t != b).collect();
        assert_eq!(after, moved);
    }
}

#[test]
fn a_saved_optimizer_continues_as_if_it_had_not_stopped() {
    for name in [OptimName::Sgd, OptimName::Adamw] {
        let config = Optim { name, lr: 0.05, ..Optim::default() };
        let (a, b) = (store(), store());
        let (first, second) =
            (Optimizer::new(&config, a.parameters()).unwrap(), Optimizer::new(&config, b.parameters()).unwrap());
        let step = |store: &ParamStore, optimizer: &Optimizer| {
            heterodyne_shim::grad_clear(optimizer.parameters()).unwrap();
            backward(store);
            optimizer.step(Rate::Number(0.05), &Tensor::zeros([], CPU)).unwrap();
        };
        step(&a, &first);
        step(&a, &first);
        let saved: Tensors = first.state().into_iter().map(|(n, t)| (n, t.copy())).collect();
        b.load(&a.tensors().into_iter().map(|(n, t)| (n, t.copy())).collect()).unwrap().strict("b").unwrap();
        second.load_state(&saved).unwrap();
        step(&a, &first);
        step(&b, &second);
        assert_eq!(a.tensors(), b.tensors());

        let mut short = saved;
        short.shift_remove_index(0);
        assert!(matches!(second.load_state(&short), Err(Error::State(_))));
    }
}

#[test]
fn clipping_scales_to_the_norm_and_never_up() {
    let store = store();
    backward(&store);
    let params: Vec<Tensor> = store.parameters().into_iter().map(|(_, t, _)| t).collect();
    let norm = grad_norm(&params).unwrap();
    let length = norm.double_value(&[]);
    clip(&params, &norm, 2.0 * length).unwrap();
    assert_eq!(grad_norm(&params).unwrap().double_value(&[]), length);
    clip(&params, &norm, 0.5).unwrap();
    assert!((grad_norm(&params).unwrap().double_value(&[]) - 0.5).abs() < 1e-5);
}

#[test]
fn the_average_follows_parameters_and_running_statistics() {
    let store = store();
    let ema = Ema::new(&store, 0.75);
    {
        let _guard = NoGrad::new();
        for (_, t, _) in store.entries() {
            let _ = t.shallow_clone().fill_(5.0);
        }
    }
    ema.update().unwrap();
    let average = ema.tensors();
    assert_eq!(average["bias"], Tensor::full([3], 0.75 * 1.0 + 0.25 * 5.0, CPU));
    assert_eq!(average["running_mean"], Tensor::full([3], 0.25 * 5.0, CPU));
    let inside = ema.swapped(|| Ok(store.tensors()["bias"].copy())).unwrap();
    assert_eq!(inside, Tensor::full([3], 2.0, CPU));
    assert_eq!(store.tensors()["bias"], Tensor::full([3], 5.0, CPU));
    assert!(store.entries().iter().all(|(_, t, role)| t.requires_grad() == (*role != Role::Buffer)));
}

fn values(names: &[&str], values: &[f32]) -> StepValues {
    // The last value is the trace of the teacher's output, which is finite here.
    let values = Tensor::from_slice(&[values, &[0.0]].concat());
    StepValues { names: names.iter().map(|n| (*n).to_owned()).collect(), weights: vec![1.0; names.len()], values }
}

#[test]
fn a_window_is_the_mean_of_its_steps() {
    let mut meter = Meter::default();
    meter.add(1, 0.0, 0.1, values(&["ce", "kd.kd"], &[1.0, 2.0, 3.0, 4.0]));
    meter.add(2, 0.1, 0.1, values(&["ce", "kd.kd"], &[3.0, 4.0, 7.0, 8.0]));
    let window = meter.fetch(None, &World::alone()).unwrap().unwrap();
    assert_eq!(window.terms["ce"], 2.0);
    assert_eq!(window.terms["kd.kd"], 3.0);
    assert_eq!((window.loss, window.grad_norm), (5.0, 6.0));
    assert!(meter.fetch(None, &World::alone()).unwrap().is_none());
    // A method that has ended does not affect the means of the others.
    meter.add(3, 0.2, 0.1, values(&["ce", "kd.kd"], &[1.0, 2.0, 3.0, 4.0]));
    meter.add(4, 0.3, 0.1, values(&["ce"], &[3.0, 5.0, 6.0]));
    let window = meter.fetch(None, &World::alone()).unwrap().unwrap();
    assert_eq!(window.terms.into_iter().collect::<Vec<_>>(), [("ce".to_owned(), 2.0), ("kd.kd".to_owned(), 2.0)]);
    assert_eq!((window.loss, window.grad_norm), (4.0, 5.0));
}

#[test]
fn the_first_value_that_is_no_number_is_named_with_its_step() {
    for (bad, what) in [(1, "`kd.kd`"), (2, "the total loss"), (3, "the gradient norm")] {
        let mut meter = Meter::default();
        meter.add(7, 0.5, 0.1, values(&["ce", "kd.kd"], &[1.0; 4]));
        let mut row = [1.0; 4];
        row[bad] = f32::NAN;
        meter.add(8, 0.6, 0.1, values(&["ce", "kd.kd"], &row));
        meter.add(9, 0.7, 0.1, values(&["ce", "kd.kd"], &[f32::INFINITY; 4]));
        let text = meter.fetch(None, &World::alone()).unwrap_err().to_string();
        assert!(text.starts_with("step 8 (epoch 0.60)") && text.contains(what), "{text}");
    }
}
