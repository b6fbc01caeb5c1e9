use heterodyne_data::View;
use heterodyne_nn::shim;
use tch::{Device, Kind, Tensor};

use crate::support::{goldens, message, says};

const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

#[test]
fn views_are_pytorchs_interpolation_and_normalisation() {
    let goldens = goldens("view.safetensors");
    let x = shim::channels_last(&goldens["x"]).unwrap();
    for img in [32, 40, 57, 24, 11] {
        let y = View::new(img, MEAN, STD, Device::Cpu).unwrap().apply(&x);
        let gap = apart(&y, &goldens[&format!("y.{img}")]);
        println!("{img}: {gap:e}");
        assert_eq!((y.size(), y.kind()), (vec![2, 3, img, img], Kind::Float));
        assert!(shim::is_channels_last(&y));
        // The reference was computed in float64; values reach 3.
        assert!(gap < 5e-6, "{img}: {gap}");
    }
}

#[test]
fn float_levels_and_other_layouts_give_the_same() {
    let x = goldens("view.safetensors")["x"].shallow_clone();
    for img in [32, 40, 24] {
        let view = View::new(img, MEAN, STD, Device::Cpu).unwrap();
        let expected = view.apply(&shim::channels_last(&x).unwrap());
        assert!(apart(&view.apply(&x), &expected) < 1e-6);
        let levels = x.to_kind(Kind::Float);
        let before = levels.copy();
        assert!(apart(&view.apply(&levels), &expected) < 1e-6);
        // Two views share one batch, so neither may write to it.
        assert_eq!(levels, before);
    }
    // A picture enlarged along one side only.
    let flat = x.narrow(2, 0, 20);
    assert_eq!(View::new(28, MEAN, STD, Device::Cpu).unwrap().apply(&flat).size(), [2, 3, 28, 28]);
}

#[test]
fn impossible_views_are_refused() {
    says(&message(View::new(0, MEAN, STD, Device::Cpu)), &["0 pixels"]);
    says(&message(View::new(8, MEAN, [0.2, 0.0, 0.2], Device::Cpu)), &["std must be above 0"]);
    says(&message(View::new(8, [f64::NAN; 3], STD, Device::Cpu)), &["NaN"]);
}
