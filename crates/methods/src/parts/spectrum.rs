//! The low frequencies of a feature map's spectrum, computed without the rest.
//!
//! Shape letters: `u` kept frequencies along the rows, `v` along the columns, `p` real and imaginary part (or the
//! amplitude alone).
use std::f64::consts::TAU;

use heterodyne_nn::{
    Init, Result, Scope,
    shim::{
        flops,
        spectrum::{standard_mse, standard_suits},
    },
};
use heterodyne_settings::choice;
use tch::{Device, Kind, Reduction, Tensor};

use super::ops::TensorExt;

/// Added inside the square root of an amplitude, to make its gradient at zero 0 instead of NaN.
pub const AMPLITUDE_EPS: f64 = 1e-12;

/// Added to a variance: a constant map then gives zeros and a finite gradient.
pub const STANDARD_EPS: f64 = 1e-6;

/// The frequencies, in cycles per image, at which two grids are compared: the `K_h x K_w` lowest around zero.
///
/// Per axis, `K` is clipped to the smaller of the two grids. It is odd, because every frequency comes with its
/// negative; an even number keeps one less. An even grid of n positions so loses its Nyquist line, where n/2 and -n/2
/// coincide and the content depends on the sampling positions.
///
/// Rows hold `u = -floor(K_h/2) ..= floor(K_h/2)`, the order of a centred (`fftshift`) spectrum. Maps are real, so
/// `F(-u,-v)` is the conjugate of `F(u,v)`, and only the half `v = 0 ..= floor(K_w/2)` of the columns is kept: a bin
/// with v > 0 represents two bins of the whole plane ([`Band::roots`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    rows: i64,
    cols: i64,
}

impl Band {
    /// The band of at most `k` frequencies per axis that grids `a` and `b` share.
    #[must_use]
    pub fn shared(k: i64, a: (i64, i64), b: (i64, i64)) -> Self {
        let odd = |n: i64| n - (n + 1) % 2;
        Self { rows: odd(k.min(a.0).min(b.0)), cols: odd(k.min(a.1).min(b.1)) / 2 + 1 }
    }

    /// Number of frequencies (along the rows, along the half columns).
    #[must_use]
    pub fn size(&self) -> (i64, i64) {
        (self.rows, self.cols)
    }

    /// Number of kept bins divided by the number of bins in the whole plane.
    #[must_use]
    pub fn kept_share(&self) -> f64 {
        self.cols as f64 / (2 * self.cols - 1) as f64
    }

    /// The square root of the number of whole-plane bins that each kept bin represents, (K,K',1). After multiplication
    /// by it, a sum of squares over the half plane equals the sum over the whole plane.
    pub fn roots(&self, kind: Kind, device: Device) -> Tensor {
        self.map(|_, v| if v == 0 { 1.0 } else { 2.0f64.sqrt() }, kind, device)
    }

    /// The smallest grid of equal blocks of `grid` without aliasing of the band: it has more positions per axis than
    /// twice the highest frequency.
    #[must_use]
    pub fn smallest_grid(&self, grid: (i64, i64)) -> (i64, i64) {
        let side = |n: i64, highest: i64| (2 * highest + 1..n).find(|m| n % m == 0).unwrap_or(n);
        (side(grid.0, self.rows / 2), side(grid.1, self.cols - 1))
    }

    /// The kept frequencies along the rows.
    #[must_use]
    pub fn u(&self) -> std::ops::Range<i64> {
        -(self.rows / 2)..self.rows / 2 + 1
    }

    /// The kept frequencies along the columns.
    #[must_use]
    pub fn v(&self) -> std::ops::Range<i64> {
        0..self.cols
    }

    /// `f(u,v)` for all kept frequencies, (K,K',1).
    pub fn map(&self, f: impl Fn(i64, i64) -> f64, kind: Kind, device: Device) -> Tensor {
        let values: Vec<f64> = self.u().flat_map(|u| self.v().map(move |v| (u, v))).map(|(u, v)| f(u, v)).collect();
        constant(&values, &[self.rows, self.cols, 1], kind, device)
    }
}

choice! {
    /// The place from which phases are counted.
    pub enum Origin {
        /// The image's edge, half a position before the first one.
        Edge,
        /// The first position, as a plain FFT does; where it lies in the image differs between grids.
        Position,
    }
}

/// A discrete Fourier transform of a grid, cropped to a [`Band`]: `F(u,v) = 1/(HW) sum_hw x(h,w) exp(-2 pi i (u (h +
/// 1/2)/H + v (w + 1/2)/W))`, without the halves for [`Origin::Position`].
///
/// A grid position represents the centre of its cell of the image. With phases counted from the image's edge and the
/// factor, the transform is therefore the Fourier series of the scene: equal scenes have equal low bins on any grid. It
/// is computed as two products with small constant matrices; no bin is computed and discarded.
#[derive(Debug)]
pub struct Dft {
    band: Band,
    /// (2K', W), rows ordered (part, v).
    along_cols: Tensor,
    /// (2K, 2H), rows ordered (part, u) and columns (h, part): the complex product in real numbers.
    along_rows: Tensor,
    /// The zero frequency of the constant 1.
    one: f64,
}

impl Dft {
    /// The transform of maps on `grid`, with phases from the image's edge.
    #[must_use]
    pub fn new(grid: (i64, i64), band: Band, kind: Kind, device: Device) -> Self {
        Self::from_origin(Origin::Edge, grid, band, kind, device)
    }

    /// The transform of maps on `grid`, with phases from `origin`.
    #[must_use]
    pub fn from_origin(origin: Origin, (h, w): (i64, i64), band: Band, kind: Kind, device: Device) -> Self {
        let half = i64::from(origin == Origin::Edge);
        // Full turns are removed in integer arithmetic, which keeps the angle exact.
        let angle = |f: i64, i: i64, n: i64| TAU * (f * (2 * i + half)).rem_euclid(2 * n) as f64 / (2 * n) as f64;
        let mut cols = Vec::new();
        for part in 0..2 {
            for v in band.v() {
                cols.extend(
                    (0..w).map(|i| if part == 0 { angle(v, i, w).cos() } else { -angle(v, i, w).sin() } / w as f64),
                );
            }
        }
        let mut rows = Vec::new();
        for part in 0..2 {
            for u in band.u() {
                for i in 0..h {
                    // (cos - i sin)(re + i im) = (cos re + sin im) + i (cos im - sin re)
                    let (sin, cos) = angle(u, i, h).sin_cos();
                    rows.extend(if part == 0 { [cos, sin] } else { [-sin, cos] }.map(|x| x / h as f64));
                }
            }
        }
        let (k, k_half) = band.size();
        Self {
            band,
            along_cols: constant(&cols, &[2 * k_half, w], kind, device),
            along_rows: constant(&rows, &[2 * k, 2 * h], kind, device),
            one: 1.0,
        }
    }

    /// Multiplies the transform by a constant.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        if factor == 1.0 { self } else { Self { along_rows: self.along_rows * factor, one: self.one * factor, ..self } }
    }

    /// The band of a map (B,C,H,W) of the constants' kind: real and imaginary parts (B,2,K,K',C). Channels come last
    /// because tokens and channels-last maps have this memory layout; they are read without a copy. Other layouts that
    /// shrink along the columns are transformed in place; only the smaller result is transposed.
    pub fn forward(&self, x_bchw: &Tensor) -> Tensor {
        let [b, c, h, w] = x_bchw.size()[..] else { panic!("a spectrum needs (B,C,H,W), got {:?}", x_bchw.size()) };
        let (k, k_half) = self.band.size();
        let x_bhwc = x_bchw.permute([0, 2, 3, 1]);
        let half = if x_bchw.stride()[1] == 1 || w <= 2 * k_half {
            self.along_cols.matmul(&x_bhwc.contiguous())
        } else {
            x_bchw.matmul(&self.along_cols.tr()).permute([0, 2, 3, 1])
        };
        let half = half.reshape([b, 2 * h, k_half * c]);
        self.along_rows.matmul(&half).reshape([b, 2, k, k_half, c])
    }

    /// The transform of the constant 1: (2,K,K',1), zero except for the real part of the zero frequency.
    pub fn of_one(&self) -> Result<Tensor> {
        let options = (self.along_cols.kind(), self.along_cols.device());
        let real = self.band.map(|u, v| if (u, v) == (0, 0) { self.one } else { 0.0 }, options.0, options.1);
        Ok(Tensor::f_stack(&[&real, &real.f_zeros_like()?], 0)?)
    }
}

choice! {
    /// The constant factor of a transform.
    pub enum Scaling {
        /// 1/(HW): equal scenes have equal low bins on any grid.
        Area,
        /// 1/sqrt(HW): the transform preserves the energy of the map.
        Ortho,
        /// 1.
        None,
    }
}

impl Scaling {
    /// The transform of a grid with this factor.
    #[must_use]
    pub fn dft(self, origin: Origin, (h, w): (i64, i64), band: Band, kind: Kind, device: Device) -> Dft {
        let area = (h * w) as f64;
        Dft::from_origin(origin, (h, w), band, kind, device).scaled(match self {
            Self::Area => 1.0,
            Self::Ortho => area.sqrt(),
            Self::None => area,
        })
    }
}

choice! {
    /// The numbers compared for each frequency.
    pub enum Representation {
        /// Real and imaginary part.
        Complex,
        /// `sqrt(re^2 + im^2 + eps)`.
        Amplitude,
        /// `log(1 + amplitude)`.
        LogAmplitude,
    }
}

impl Representation {
    /// Numbers per frequency.
    #[must_use]
    pub fn parts(self) -> i64 {
        if self == Self::Complex { 2 } else { 1 }
    }

    /// Converts real and imaginary parts (B,2,K,K',C) to (B,P,K,K',C).
    pub fn of(self, s_bpuvc: &Tensor) -> Tensor {
        let amplitude = || (s_bpuvc.square().sum_keepdim(1) + AMPLITUDE_EPS).sqrt();
        match self {
            Self::Complex => s_bpuvc.shallow_clone(),
            Self::Amplitude => amplitude(),
            Self::LogAmplitude => amplitude().log1p(),
        }
    }
}

choice! {
    /// The weighting of frequencies.
    pub enum WindowShape {
        /// `exp(-(u^2+v^2) / (2 sigma^2))`.
        Gaussian,
        /// 1 everywhere.
        None,
        /// 1 where `u^2+v^2 <= sigma^2`, 0 elsewhere.
        Ideal,
        /// The Gaussian times factors `n softmax(theta)` with mean 1 over the n frequencies, so the weights cannot all
        /// vanish; theta starts at 0.
        Learnable,
    }
}

/// Weights (K,K',1) of the frequencies of a band.
#[derive(Debug)]
pub struct Window {
    fixed: Tensor,
    /// (K,K')
    theta: Option<Tensor>,
}

impl Window {
    /// `sigma` in cycles per image; the learnable window keeps `window` in `scope`.
    pub fn new(scope: &Scope, shape: WindowShape, band: Band, sigma: f64) -> Result<Self> {
        let weight = |u: i64, v: i64| {
            let square = (u * u + v * v) as f64;
            match shape {
                WindowShape::None => 1.0,
                WindowShape::Ideal => f64::from(u8::from(square <= sigma * sigma)),
                WindowShape::Gaussian | WindowShape::Learnable => (-square / (2.0 * sigma * sigma)).exp(),
            }
        };
        let theta = || scope.param_no_decay("window", &[band.rows, band.cols], Init::Const(0.0));
        Ok(Self {
            fixed: band.map(weight, scope.kind(), scope.device()),
            theta: (shape == WindowShape::Learnable).then(theta).transpose()?,
        })
    }

    /// The current weights, (K,K',1).
    pub fn weights(&self) -> Tensor {
        match &self.theta {
            None => self.fixed.shallow_clone(),
            Some(theta) => {
                &self.fixed * (theta.flatten(0, 1).softmax(0, None::<Kind>) * theta.numel() as f64).view_as(&self.fixed)
            }
        }
    }
}

choice! {
    /// The dimensions over which a spectrum is standardised to mean 0 and variance 1.
    pub enum Normalise {
        /// Frequencies and channels of each image.
        Sample,
        /// Frequencies of each channel of each image.
        Channel,
        /// No standardisation.
        None,
    }
}

/// The comparison of two spectra: weighted by frequency, standardised, then the mean squared difference over the whole
/// plane.
///
/// The mean of the real parts (or the amplitudes) is subtracted. The mean of the imaginary parts is 0, because they
/// change sign with the frequency. The variance is over all real and imaginary numbers of the plane.
#[derive(Debug)]
pub struct Comparison {
    window: Window,
    /// The window's weights times the roots, (P,K,K',1), if they are fixed.
    fixed: Option<Tensor>,
    normalise: Normalise,
    band: Band,
    /// (K,K',1)
    roots: Tensor,
    /// (P,K,K',1), 0 for imaginary parts.
    real_roots: Tensor,
}

impl Comparison {
    /// Creates the comparison of spectra of `representation` in `band`.
    pub fn new(window: Window, normalise: Normalise, band: Band, representation: Representation) -> Result<Self> {
        let roots = band.roots(window.fixed.kind(), window.fixed.device());
        let mut parts = vec![roots.shallow_clone()];
        parts.resize_with(representation.parts() as usize, || roots.zeros_like());
        let real_roots = Tensor::f_stack(&parts, 0)?;
        let fixed = window.theta.is_none().then(|| (&window.fixed * &roots).expand_as(&real_roots).contiguous());
        Ok(Self { window, fixed, normalise, band, real_roots, roots })
    }

    /// The loss of a spectrum (B,P,K,K',C) whose target is the teacher's [`Comparison::of`]: the mean squared
    /// difference of the standardised spectra.
    pub fn loss(&self, s_bpuvc: &Tensor, target: &Tensor) -> Result<Tensor> {
        let [s_bnc, target_bnc] = [s_bpuvc, target].map(|t| t.flatten(1, 3));
        match &self.fixed {
            Some(weights) if self.normalise == Normalise::Sample && !flops::plain() && standard_suits(&s_bnc) => {
                let (weights, direction) = (weights.flatten(0, -1), self.real_roots.flatten(0, -1));
                let share = self.band.kept_share();
                Ok(standard_mse(&s_bnc, &weights, &direction, &target_bnc, share, STANDARD_EPS)?)
            }
            _ => Ok(self.mse(&self.of(s_bpuvc), target)),
        }
    }

    /// N( G v ) of (B,P,K,K',C), with each bin multiplied by its root ([`Band::roots`]).
    pub fn of(&self, s_bpuvc: &Tensor) -> Tensor {
        let x = match &self.fixed {
            Some(weights) => s_bpuvc * weights,
            None => s_bpuvc * (self.window.weights() * &self.roots),
        };
        let (over, channels): (&[i64], _) = match self.normalise {
            Normalise::None => return x,
            Normalise::Sample => (&[1, 2, 3, 4], true),
            Normalise::Channel => (&[1, 2, 3], false),
        };
        let kept = (self.band.rows * self.band.cols) as f64;
        let mean_b1c =
            self.real_roots.flatten(0, -1).unsqueeze(0).matmul(&x.flatten(1, 3)) * (self.band.kept_share() / kept);
        let mean = if channels { mean_b1c.mean_keepdim(&[2]) } else { mean_b1c };
        let x = x - mean.unsqueeze(1).unsqueeze(1) * &self.real_roots;
        let variance = x.square().mean_dim(over, true, None::<Kind>) * self.band.kept_share();
        x * (variance + STANDARD_EPS).rsqrt()
    }

    /// The mean over the whole plane of the squared difference of two results of [`Comparison::of`].
    pub fn mse(&self, a: &Tensor, b: &Tensor) -> Tensor {
        a.mse_loss(b, Reduction::Mean) * self.band.kept_share()
    }
}

fn constant(values: &[f64], shape: &[i64], kind: Kind, device: Device) -> Tensor {
    Tensor::from_slice(values).reshape(shape).to_kind(kind).to_device(device)
}
