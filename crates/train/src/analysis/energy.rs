//! The distribution of features' energy over the spectrum.
use tch::{Device, Kind, Tensor};

use crate::Result;

/// Sums over minibatches of `|F2(X)|^2` (2-D DFT over rows and columns), by whole cycles per image.
#[derive(Debug, Default)]
pub struct Energy {
    /// float64 (rings).
    sum: Option<Tensor>,
}

impl Energy {
    /// Adds maps (B,C,H,W).
    pub fn add(&mut self, x_bchw: &Tensor) -> Result<()> {
        let (h, w) = (x_bchw.size()[2], x_bchw.size()[3]);
        let spectrum = x_bchw.to_kind(Kind::Float).f_fft_fft2(None::<&[i64]>, [2, 3].as_slice(), "ortho")?;
        let power_hw = spectrum.abs().square().sum_dim_intlist([0i64, 1].as_slice(), false, Kind::Double);
        let rings = rings(h, w);
        let count = rings.iter().max().map_or(0, |ring| ring + 1);
        let index = Tensor::f_from_slice(&rings)?.f_to(power_hw.device())?;
        let sum = Tensor::f_zeros([count], (Kind::Double, power_hw.device()))?.f_index_add(
            0,
            &index,
            &power_hw.flatten(0, -1),
        )?;
        self.sum = Some(match self.sum.take() {
            Some(old) => old + sum,
            None => sum,
        });
        Ok(())
    }

    /// The share of each ring, from the zero frequency outwards; empty if there is no energy.
    pub fn shares(&self) -> Result<Vec<f64>> {
        let Some(sum) = &self.sum else { return Ok(Vec::new()) };
        let sums = Vec::<f64>::try_from(sum.to_device(Device::Cpu)).map_err(heterodyne_nn::Error::from)?;
        let total: f64 = sums.iter().sum();
        Ok(if total > 0.0 && total.is_finite() { sums.iter().map(|s| s / total).collect() } else { Vec::new() })
    }
}

/// For every bin of an H x W transform, the rounded distance from the zero frequency in cycles per image.
fn rings(h: i64, w: i64) -> Vec<i64> {
    let cycles = |i: i64, n: i64| i.min(n - i) as f64;
    (0..h).flat_map(|u| (0..w).map(move |v| cycles(u, h).hypot(cycles(v, w)).round() as i64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn wave(h: i64, w: i64, cycles: (f64, f64)) -> Tensor {
        let value = |i: i64| {
            let (y, x) = ((i / w) as f64 / h as f64, (i % w) as f64 / w as f64);
            (TAU * (cycles.0 * y + cycles.1 * x)).cos() as f32
        };
        Tensor::from_slice(&(0..h * w).map(value).collect::<Vec<f32>>()).reshape([1, 1, h, w])
    }

    fn shares(x: &Tensor) -> Vec<f64> {
        let mut energy = Energy::default();
        energy.add(x).unwrap();
        energy.shares().unwrap()
    }

    /// A scene has the same spectrum on any grid that can represent it.
    #[test]
    fn a_wave_is_one_ring_whatever_the_grid() {
        for (h, w) in [(16, 16), (7, 7), (14, 9)] {
            for (cycles, ring) in [((0.0, 0.0), 0), ((1.0, 0.0), 1), ((2.0, 2.0), 3), ((0.0, 3.0), 3)] {
                let found = shares(&wave(h, w, cycles));
                assert!((found[ring] - 1.0).abs() < 1e-5, "{h}x{w} {cycles:?}: {found:?}");
            }
        }
    }

    /// Parseval: the energies of waves and an offset are proportional to their squares.
    #[test]
    fn shares_are_those_of_the_squares() {
        let x = wave(8, 8, (1.0, 0.0)) * 2.0 + wave(8, 8, (0.0, 3.0)) + 1.0;
        let found = shares(&x);
        // cos^2 has mean 1/2.
        for (ring, expected) in [(0, 1.0), (1, 2.0), (3, 0.5)] {
            assert!((found[ring] - expected / 3.5).abs() < 1e-5, "{found:?}");
        }
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(shares(&Tensor::zeros([2, 3, 4, 4], (Kind::Float, Device::Cpu))).is_empty());
    }
}
