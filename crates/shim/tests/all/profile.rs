//! The list of operators.
use std::time::Duration;

use heterodyne_shim::profile::operators;
use tch::{Device, Kind, Tensor};

#[test]
fn operators_are_listed_with_their_gradients_the_slowest_first() {
    let ((), list) = operators(|| {
        let x = Tensor::randn([64, 64], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        for _ in 0..3 {
            x.matmul(&x).sum(None::<Kind>).backward();
        }
    })
    .unwrap();
    let find = |name: &str| list.iter().find(|o| o.name == name).unwrap_or_else(|| panic!("no {name} in {list:?}"));
    // One forward product, and a gradient for each factor.
    assert_eq!(find("aten::mm").calls, 9);
    assert_eq!(find("MmBackward0").calls, 3);
    assert!(find("aten::mm").own > Duration::ZERO);
    assert!(list.is_sorted_by_key(|o| std::cmp::Reverse(o.own)));
}

#[test]
fn nothing_is_recorded_outside_and_nothing_is_left_over() {
    let x = Tensor::ones([4], (Kind::Float, Device::Cpu));
    let _ = operators(|| x.exp()).unwrap();
    let _ = x.tan();
    let (_, list) = operators(|| x.cos()).unwrap();
    let names: Vec<_> = list.iter().map(|o| o.name.as_str()).collect();
    assert!(
        names.contains(&"aten::cos") && !names.contains(&"aten::exp") && !names.contains(&"aten::tan"),
        "{names:?}"
    );
}

#[test]
fn a_panic_ends_the_recording() {
    let failed = std::panic::catch_unwind(|| operators(|| panic!("in the work")).map(|((), _)| ()));
    assert!(failed.is_err());
    assert!(operators(|| ()).unwrap().1.is_empty());
}
