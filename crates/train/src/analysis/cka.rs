//! Linear CKA over minibatches (Nguyen, Raghu and Kornblith 2021, arXiv 2010.15327, equations 2 and 3).
//!
//! ```text
//! K = X X^T with its diagonal set to 0                                                       (n,n) of features X (n,p)
//! HSIC_1(K,L) = ( tr(K L) + 1^T K 1 1^T L 1 / ((n-1)(n-2)) - 2/(n-2) 1^T K L 1 ) / ( n(n-3) )
//! CKA = mean of HSIC_1(K,L) / sqrt( mean of HSIC_1(K,K)  mean of HSIC_1(L,L) )                means over minibatches
//! ```
//! HSIC_1 is unbiased (Song et al. 2012). Unlike the plain estimator, its value does not depend on the minibatch size.
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// Smallest minibatch that has an unbiased estimate.
pub const LEAST_BATCH: usize = 4;

/// Sums over minibatches, for all pairs of `S` sets of features.
#[derive(Debug, Default)]
pub struct Cka {
    /// HSIC_1 of all pairs, float64 (S,S).
    sum: Option<Tensor>,
}

impl Cka {
    /// Adds a minibatch: for each set, the features (n, ..) of the same images, with n at least [`LEAST_BATCH`].
    pub fn add(&mut self, features: &[Tensor]) -> Result<()> {
        let n = features.first().map_or(0, |x| x.size()[0]);
        if (n as usize) < LEAST_BATCH {
            return Err(Error::Plan(format!(
                "CKA needs minibatches of at least {LEAST_BATCH} images, but this one has {n}"
            )));
        }
        let grams: Vec<Tensor> = features.iter().map(gram).collect();
        let k_snn = Tensor::f_stack(&grams, 0)?;
        let (flat, row_sn) = (k_snn.flatten(1, 2), k_snn.sum_dim_intlist([2i64].as_slice(), false, None::<Kind>));
        let all_s1 = row_sn.sum_dim_intlist([1i64].as_slice(), true, None::<Kind>);
        let n = n as f64;
        let hsic = flat.matmul(&flat.tr()) + all_s1.matmul(&all_s1.tr()) / ((n - 1.0) * (n - 2.0))
            - row_sn.matmul(&row_sn.tr()) * (2.0 / (n - 2.0));
        let hsic = hsic / (n * (n - 3.0));
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + hsic,
            None => hsic,
        });
        Ok(())
    }

    /// The alignment of all pairs; `None` if one side of a pair does not vary.
    pub fn values(&self) -> Result<Vec<Vec<Option<f64>>>> {
        let Some(sum) = &self.sum else { return Ok(Vec::new()) };
        let sum = Vec::<Vec<f64>>::try_from(sum.to_device(Device::Cpu)).map_err(heterodyne_nn::Error::from)?;
        let value = |i: usize, j: usize| {
            let value = sum[i][j] / (sum[i][i] * sum[j][j]).sqrt();
            (sum[i][i] > 0.0 && sum[j][j] > 0.0).then_some(value).filter(|v| v.is_finite())
        };
        Ok((0..sum.len()).map(|i| (0..sum.len()).map(|j| value(i, j)).collect()).collect())
    }
}

/// K of one set. HSIC_1 is invariant to a shift of all features; subtracting their mean keeps products small and exact.
fn gram(x: &Tensor) -> Tensor {
    let x_np = x.to_kind(Kind::Float).flatten(1, -1);
    let x_np = &x_np - x_np.mean_dim([0i64].as_slice(), true, None::<Kind>);
    x_np.matmul(&x_np.tr()).to_kind(Kind::Double).fill_diagonal_(0.0, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heterodyne_shim::Rng;

    fn random(rng: &Rng, shape: &[i64]) -> Tensor {
        let x = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        rng.normal(&x, 0.0, 1.0).unwrap();
        x
    }

    fn of(batches: &[Vec<Tensor>]) -> Vec<Vec<Option<f64>>> {
        let mut cka = Cka::default();
        batches.iter().for_each(|batch| cka.add(batch).unwrap());
        cka.values().unwrap()
    }

    /// HSIC_1 by definition: the mean of Gretton's h, a product of centred kernels, over all quadruples of different
    /// images.
    fn hsic_of_quadruples(x: &Tensor, y: &Tensor) -> f64 {
        let n = x.size()[0];
        let dot = |x: &Tensor| -> Vec<Vec<f64>> {
            Vec::try_from(x.to_kind(Kind::Double).matmul(&x.to_kind(Kind::Double).tr())).unwrap()
        };
        let (k, l) = (dot(x), dot(y));
        let (mut sum, mut count) = (0.0, 0.0);
        let n = n as usize;
        for i in 0..n {
            for j in (0..n).filter(|j| *j != i) {
                for q in (0..n).filter(|q| *q != i && *q != j) {
                    for r in (0..n).filter(|r| ![i, j, q].contains(r)) {
                        sum += k[i][j] * l[i][j] + k[i][j] * l[q][r] - 2.0 * k[i][j] * l[i][q];
                        count += 1.0;
                    }
                }
            }
        }
        sum / count
    }

    #[test]
    fn it_is_the_mean_over_quadruples_of_images() {
        let rng = Rng::new(1);
        let batches: Vec<Vec<Tensor>> = (0..2)
            .map(|_| {
                let x = random(&rng, &[7, 5]);
                let y = x.narrow(1, 0, 3) + random(&rng, &[7, 3]) * 0.5;
                vec![x, y]
            })
            .collect();
        let hsic = |i: usize, j: usize| batches.iter().map(|b| hsic_of_quadruples(&b[i], &b[j])).sum::<f64>();
        let expected = hsic(0, 1) / (hsic(0, 0) * hsic(1, 1)).sqrt();
        let found = of(&batches)[0][1].unwrap();
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
        assert_eq!(of(&batches)[0][1], of(&batches)[1][0]);
        assert!((of(&batches)[1][1].unwrap() - 1.0).abs() < 1e-12);
    }

    /// CKA ignores rotation, scale and shift of features.
    #[test]
    fn it_sees_features_up_to_rotation_scale_and_shift() {
        let rng = Rng::new(2);
        let (x, y) = (random(&rng, &[32, 2, 3, 1]), random(&rng, &[32, 4]));
        let y = y + x.flatten(1, -1).narrow(1, 0, 4);
        let moved = x.flip([1, 2]) * 30.0 - 100.0;
        let values = of(&[vec![x, y, moved]]);
        assert!((values[0][1].unwrap() - values[2][1].unwrap()).abs() < 1e-4, "{values:?}");
        assert!((values[0][2].unwrap() - 1.0).abs() < 1e-4);
        // A linear map that is not a rotation changes it.
        assert!(values[0][1].unwrap() < 0.95 && values[0][1].unwrap() > 0.2);
    }

    /// Unbiased: independent features give about 0 even in minibatches far smaller than their width; the plain
    /// estimator gives about 1.
    #[test]
    fn independent_features_are_not_alike_in_small_minibatches() {
        let rng = Rng::new(3);
        let batches: Vec<Vec<Tensor>> =
            (0..60).map(|_| vec![random(&rng, &[8, 500]), random(&rng, &[8, 500])]).collect();
        let found = of(&batches)[0][1].unwrap();
        assert!(found.abs() < 0.1, "{found}");
    }

    #[test]
    fn features_that_do_not_vary_have_no_alignment_and_tiny_batches_are_refused() {
        let rng = Rng::new(4);
        let values = of(&[vec![random(&rng, &[8, 3]), Tensor::ones([8, 3], (Kind::Float, Device::Cpu))]]);
        assert_eq!((values[0][1], values[1][1]), (None, None));
        assert!(Cka::default().add(&[random(&rng, &[3, 2])]).unwrap_err().to_string().contains("at least 4"));
        assert!(Cka::default().values().unwrap().is_empty());
    }
}
