//! Counted arithmetic against the definitions.
use heterodyne_shim::flops::{Flops, count, plain};
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

#[test]
fn products_convolutions_and_attention_count_what_their_definitions_say() {
    let weight = Tensor::randn([24, 8, 3, 3], F32).set_requires_grad(true);
    let linear = Tensor::randn([10, 24], F32).set_requires_grad(true);
    let qkv = Tensor::randn([2, 3, 7, 16], F32).set_requires_grad(true);
    let (_, counted) = count(|| {
        assert!(plain());
        // (4,24,5,6) out of 5x5 windows with stride 2 and padding 1
        let y = Tensor::randn([4, 8, 9, 11], F32).conv2d::<&Tensor>(&weight, None, [2, 2], [1, 1], [1, 1], 1);
        y.mean_dim([2i64, 3].as_slice(), false, None::<Kind>)
            .linear::<&Tensor>(&linear, None)
            .sum(None::<Kind>)
            .backward();
        Tensor::scaled_dot_product_attention::<&Tensor>(&qkv, &qkv, &qkv, None, 0.0, false, None, false)
            .sum(None::<Kind>)
            .backward();
    })
    .unwrap();
    assert!(!plain());
    let convolution = 2 * (4 * 24 * 5 * 6) * (8 * 9);
    let product = 2 * 4 * 10 * 24;
    let attention = 2 * (2 * 3 * 7 * 7 * 16);
    // Backward: the image needs no gradient, both factors of the product do; attention has 2 products forward and 5
    // backward.
    assert_eq!(counted, Flops { products: 3 * product + 7 * attention, convolutions: 2 * convolution });
}

#[test]
fn a_depthwise_convolution_counts_its_group_only_and_nothing_is_counted_afterwards() {
    let conv = || {
        Tensor::randn([1, 8, 5, 5], F32).conv2d::<&Tensor>(
            &Tensor::randn([8, 1, 3, 3], F32),
            None,
            [1, 1],
            [1, 1],
            [1, 1],
            8,
        )
    };
    let (_, counted) = count(conv).unwrap();
    assert_eq!(counted, Flops { products: 0, convolutions: 2 * 8 * 25 * 9 });
    let _uncounted = conv();
    assert_eq!(count(|| ()).unwrap().1, Flops::default());
}
