//! Whole steps against plain PyTorch (tests/goldens/steps.py): views, forward, losses, backward, clipping, update.
use heterodyne_nn::{Labels, ParamStore, Progress, Role, shim::NoGrad};
use heterodyne_train::learner::StepInput;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::support::{session, teacher};

fn wave(count: i64, phase: f64) -> Tensor {
    ((Tensor::arange_start(1, count + 1, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.1) * 0.37) + phase).sin()
}

/// Fills the weights as steps.py does, in the order of their names.
fn fill(store: &ParamStore) {
    let _guard = NoGrad::new();
    let mut parameters = store.parameters();
    parameters.sort_by(|a, b| a.0.cmp(&b.0));
    for (k, (name, p, role)) in parameters.into_iter().enumerate() {
        assert_ne!(role, Role::Buffer);
        let size = p.size();
        let values = wave(p.numel() as i64, 1.3 * k as f64).reshape(&size);
        let values = if size.len() >= 2 {
            let fan_in: i64 = size[1..].iter().product();
            values * (1.5 / (fan_in as f64).sqrt())
        } else if name.ends_with("weight") {
            values * 0.1 + 1.0
        } else {
            values * 0.1
        };
        p.shallow_clone().copy_(&values);
    }
}

fn batch(index: i64) -> (Tensor, Labels) {
    let values = wave(12 * 3 * 64, 0.11 * index as f64).reshape([12, 3, 8, 8]);
    let labels: Vec<i64> = (0..12).map(|i| (7 * i + index) % 10).collect();
    (((values + 1.0) * 127.5).floor().to_kind(Kind::Uint8), Labels::Hard(Tensor::from_slice(&labels)))
}

#[test]
fn six_steps_are_pytorchs() {
    let golden: Value = serde_json::from_str(include_str!("../goldens/steps.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (name, lr, recorded) in [("sgd", 0.1, false), ("adamw", 0.01, false), ("sgd", 0.1, true), ("adamw", 0.01, true)]
    {
        let weights = teacher(dir.path(), 10);
        let sets: Vec<String> = [
            "data.holdout=0",
            "student.mean=[0.3,0.4,0.5]",
            "student.std=[0.2,0.3,0.4]",
            "teacher.model=vit_nano",
            &format!("teacher.weights='{weights}'"),
            "teacher.img=16",
            "teacher.mean=[0.5,0.5,0.5]",
            "teacher.std=[0.25,0.25,0.25]",
            "train.label_smoothing=0.1",
            "train.clip_grad=0.8",
            "train.ema_decay=0.5",
            "loss.ce=0.5",
            "methods.kd={weight=0.7,temperature=4.0}",
            &format!("train.graph={recorded}"),
            &format!("optim={{name='{name}',lr={lr},weight_decay=0.01}}"),
        ]
        .map(str::to_owned)
        .to_vec();
        let s = session(&sets).unwrap();
        let samples: Vec<usize> = (0..12).collect();
        fill(&s.learner.student.store);
        fill(&s.learner.teacher.as_ref().unwrap().store);
        for (i, row) in golden[name].as_array().unwrap().iter().enumerate() {
            let (images, labels) = batch(i as i64);
            let teacher = Some(s.learner.teach(&images).unwrap());
            let input = StepInput { images, labels, samples: samples.clone(), teacher };
            let values = s.learner.step(&input, lr / (1 + i) as f64, Progress::default()).unwrap();
            assert_eq!(values.names, ["ce", "kd.kd"]);
            let ours = Vec::<f32>::try_from(&values.values).unwrap();
            for (ours, theirs) in ours.iter().zip(row.as_array().unwrap()) {
                let theirs = theirs.as_f64().unwrap();
                // Float32 sums in another order; six steps at this rate do not amplify the difference further.
                assert!(
                    (f64::from(*ours) - theirs).abs() < 2e-4 * theirs.abs(),
                    "{name}, step {i}: {ours} is not {theirs}"
                );
            }
        }
    }
}
