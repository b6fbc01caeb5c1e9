use heterodyne_shim::{Autocast, NoGrad, Rng, autocast_enabled, channels_last, grad_enabled, is_channels_last};
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

#[test]
fn autocast_runs_products_in_bfloat16_and_restores_what_was() {
    let a = Tensor::randn([8, 8], CPU);
    {
        let _on = Autocast::new(Device::Cpu, true).unwrap();
        assert_eq!(a.matmul(&a).kind(), Kind::BFloat16);
        {
            let _off = Autocast::new(Device::Cpu, false).unwrap();
            assert_eq!(a.matmul(&a).kind(), Kind::Float);
        }
        assert!(autocast_enabled(Device::Cpu).unwrap());
    }
    assert_eq!(a.matmul(&a).kind(), Kind::Float);
}

#[test]
fn a_weight_changed_between_two_autocast_regions_is_seen() {
    let x = Tensor::ones([1, 4], CPU);
    let w = Tensor::ones([4, 1], CPU).set_requires_grad(true);
    let product = || {
        let _on = Autocast::new(Device::Cpu, true).unwrap();
        x.matmul(&w).double_value(&[0, 0])
    };
    assert_eq!(product(), 4.0);
    {
        let _guard = NoGrad::new();
        let _ = w.shallow_clone().fill_(2.0);
    }
    assert_eq!(product(), 8.0);
}

#[test]
fn no_grad_nests() {
    let outer = NoGrad::new();
    drop(NoGrad::new());
    assert!(!grad_enabled());
    drop(outer);
    assert!(grad_enabled());
}

#[test]
fn channels_last_changes_memory_and_not_values() {
    let x = Tensor::randn([2, 3, 4, 5], CPU);
    let y = channels_last(&x).unwrap();
    assert!(is_channels_last(&y) && !is_channels_last(&x));
    assert_eq!(x, y);
    assert_eq!(channels_last(&y).unwrap().data_ptr(), y.data_ptr());
}

#[test]
fn a_generator_draws_what_pytorch_draws() {
    // torch.manual_seed(0); torch.randn(5)
    let expected = [1.540_996_1_f32, -0.293_428_9, -2.178_789_4, 0.568_431_26, -1.084_522_4];
    let x = Tensor::zeros([5], CPU);
    Rng::new(0).normal(&x, 0.0, 1.0).unwrap();
    assert_eq!(Vec::<f32>::try_from(&x).unwrap(), expected);
}

#[test]
fn a_saved_state_continues_the_stream() {
    let rng = Rng::new(3);
    let draw = || {
        let x = Tensor::zeros([17], CPU);
        rng.uniform(&x, -1.0, 1.0).unwrap();
        x
    };
    let _ = draw();
    let state = rng.state().unwrap();
    let expected = draw();
    rng.seed(99).unwrap();
    assert_ne!(draw(), expected);
    rng.set_state(&state).unwrap();
    assert_eq!(draw(), expected);
}

#[test]
fn a_state_of_the_wrong_size_is_an_error() {
    let e = Rng::new(0).set_state(&Tensor::zeros([3], (Kind::Uint8, Device::Cpu))).unwrap_err();
    assert!(e.to_string().contains("RNG state"), "{e}");
}
