//! Self-attention against its definition (Vaswani et al. 2017, equation 1), in float64.
use heterodyne_shim::{Rng, attention::self_attention};
use tch::{Device, Kind, Tensor};

use crate::support::{gradients, normal, off};

/// Images, tokens, heads, width of a head, and groups of a bias, if any.
type Case = (i64, i64, i64, i64, Option<i64>);

const CASES: [Case; 8] = [
    (2, 5, 2, 3, None),
    (3, 1, 1, 4, None),
    (4, 16, 3, 32, None),
    // Several parts of a few images, the last one smaller.
    (11, 197, 3, 64, None),
    // One image does not fit into a part: single heads.
    (2, 600, 3, 8, None),
    (12, 49, 3, 32, Some(1)),
    (96, 49, 4, 8, Some(16)),
    (4, 600, 2, 4, Some(2)),
];

fn reference(qkv: &Tensor, heads: i64, bias: Option<&Tensor>) -> Tensor {
    let [b, n, d] = qkv.size()[..] else { panic!() };
    let d = d / 3;
    let part = |i: i64| qkv.narrow(2, i * d, d).reshape([b, n, heads, d / heads]).transpose(1, 2);
    let scores = part(0).matmul(&part(1).transpose(2, 3)) / ((d / heads) as f64).sqrt();
    let scores = match bias {
        Some(bias) => scores + bias.repeat([b / bias.size()[0], 1, 1, 1]),
        None => scores,
    };
    scores.softmax(-1, Kind::Double).matmul(&part(2)).transpose(1, 2).reshape([b, n, d])
}

#[test]
fn attention_and_its_gradients_equal_the_definition() {
    let rng = Rng::new(8);
    for case @ (images, tokens, heads, width, groups) in CASES {
        for (kind, tolerance) in [(Kind::Float, 5e-6), (Kind::BFloat16, 2e-2)] {
            let qkv = normal(&rng, &[images, tokens, 3 * heads * width]).to_kind(kind).set_requires_grad(true);
            let bias = groups.map(|g| normal(&rng, &[g, heads, tokens, tokens]).set_requires_grad(true));
            let ours = self_attention(&qkv, heads, bias.as_ref()).unwrap();
            assert_eq!(ours.kind(), kind);
            let double = |t: &Tensor| t.detach().to_kind(Kind::Double).set_requires_grad(true);
            let (qkv64, bias64) = (double(&qkv), bias.as_ref().map(double));
            let theirs = reference(&qkv64, heads, bias64.as_ref());
            assert!(off(&ours, &theirs) < tolerance, "{case:?} in {kind:?}: {}", off(&ours, &theirs));

            let dy = normal(&rng, &ours.size());
            let leaves = |qkv, bias| std::iter::once(qkv).chain(bias).collect::<Vec<&Tensor>>();
            let ours = gradients(&(ours * &dy).sum(Kind::Float), &leaves(&qkv, bias.as_ref()));
            let theirs =
                gradients(&(theirs * dy.to_kind(Kind::Double)).sum(Kind::Double), &leaves(&qkv64, bias64.as_ref()));
            assert_eq!(ours[0].kind(), kind);
            for (what, (a, b)) in ["qkv", "bias"].iter().zip(ours.iter().zip(&theirs)) {
                // A single token always gets all the attention, so nothing depends on its scores.
                let error =
                    if tokens == 1 { (a.to_kind(Kind::Double) - b).abs().max().double_value(&[]) } else { off(a, b) };
                assert!(error < tolerance, "gradient in {what} of {case:?} in {kind:?}: {error}");
            }
        }
    }
}

#[test]
fn a_token_that_is_shut_out_has_no_influence() {
    let rng = Rng::new(9);
    let qkv = normal(&rng, &[2, 20, 3 * 16]);
    let mask = Tensor::zeros([1, 2, 20, 20], (Kind::Float, Device::Cpu));
    let _ = mask.narrow(3, 7, 1).fill_(f64::NEG_INFINITY);
    let y = self_attention(&qkv, 2, Some(&mask)).unwrap();
    let changed = qkv.copy();
    let _ = changed.narrow(1, 7, 1).narrow(2, 16, 32).fill_(1e4);
    assert_eq!(self_attention(&changed, 2, Some(&mask)).unwrap(), y);
    assert!(off(&y, &reference(&qkv.to_kind(Kind::Double), 2, Some(&mask.to_kind(Kind::Double)))) < 5e-6);
}

#[test]
fn what_is_not_a_number_shows_where_it_belongs() {
    let rng = Rng::new(10);
    let qkv = normal(&rng, &[2, 20, 3 * 16]);
    // A query of the second image, in the second head.
    let _ = qkv.narrow(0, 1, 1).narrow(1, 3, 1).narrow(2, 8, 1).fill_(f64::NAN);
    let bad = self_attention(&qkv, 2, None).unwrap().isnan();
    assert_eq!(bad.sum(Kind::Int64).int64_value(&[]), 8);
    assert_eq!(bad.narrow(0, 1, 1).narrow(1, 3, 1).narrow(2, 8, 8).sum(Kind::Int64).int64_value(&[]), 8);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let rng = Rng::new(11);
    let qkv = normal(&rng, &[4, 5, 24]);
    let refused = |qkv: &Tensor, heads, bias: Option<&[i64]>, words: &str| {
        let bias = bias.map(|shape| normal(&rng, shape));
        let message = self_attention(qkv, heads, bias.as_ref()).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    };
    refused(&qkv, 3, None, "[4, 5, 24] cannot be split into 3 heads");
    refused(&qkv, 0, None, "into 0 heads");
    refused(&qkv, 2, Some(&[3, 2, 5, 5]), "G a divisor of 4");
    refused(&qkv, 2, Some(&[1, 2, 5, 4]), "float (G,2,5,5)");
    refused(&qkv.to_kind(Kind::Double), 2, None, "float or bfloat16");
    refused(&qkv.select(0, 0), 2, None, "(B,N,3D)");
}
