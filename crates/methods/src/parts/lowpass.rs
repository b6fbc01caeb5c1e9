//! Low-pass filters that reduce a map to a few windows, for several numbers of windows in one pass.
//!
//! Windows are those of adaptive pooling: along an axis of n positions, window i of s covers `floor(i n/s) ..
//! ceil((i+1) n/s)`. If s divides n, they are disjoint with size n/s; otherwise sizes differ by at most one, and
//! neighbours share one position. The windows `k` of all scales are concatenated, each scale in row-major order.
use heterodyne_nn::{
    Init, Result, Scope,
    shim::{flops, window},
};
use tch::{Device, Kind, Tensor};

/// Start and length of each of `s` windows over `n` positions.
#[must_use]
pub fn windows(n: i64, s: i64) -> Vec<(i64, i64)> {
    (0..s).map(|i| (i * n / s, ((i + 1) * n + s - 1) / s - i * n / s)).collect()
}

/// The distinct window lengths, the larger first.
fn lengths(n: i64, s: i64) -> Vec<i64> {
    let mut lengths: Vec<i64> = windows(n, s).into_iter().map(|(_, length)| length).collect();
    lengths.sort_by(|a, b| b.cmp(a));
    lengths.dedup();
    lengths
}

/// The distinct window sizes at a scale of (rows, columns) windows, in the order of their kernels.
fn sizes(grid: (i64, i64), scale: (i64, i64)) -> Vec<(i64, i64)> {
    let widths = lengths(grid.1, scale.1);
    lengths(grid.0, scale.0).into_iter().flat_map(|h| widths.iter().map(move |&w| (h, w))).collect()
}

/// Weighted sums over all windows of several scales.
#[derive(Debug)]
pub struct Windows {
    grid: (i64, i64),
    /// Number of windows along the rows and along the columns.
    scales: Vec<(i64, i64)>,
    num_windows: i64,
    /// For each position of each window: the row of its weight, and its destination in (windows * places).
    weight: Tensor,
    target: Tensor,
}

impl Windows {
    /// The windows of `scales` on `grid`.
    #[must_use]
    pub fn new(grid: (i64, i64), scales: &[(i64, i64)], device: Device) -> Self {
        let (mut weight, mut target) = (Vec::new(), Vec::new());
        let (mut num_windows, mut first) = (0, 0);
        for &scale in scales {
            let mut kernels = Vec::new();
            for size in sizes(grid, scale) {
                kernels.push((size, first));
                first += size.0 * size.1;
            }
            for (y, h) in windows(grid.0, scale.0) {
                for (x, w) in windows(grid.1, scale.1) {
                    let kernel = kernels.iter().find(|(size, _)| *size == (h, w)).map_or(0, |(_, first)| *first);
                    for (i, j) in (0..h).flat_map(|i| (0..w).map(move |j| (i, j))) {
                        weight.push(kernel + i * w + j);
                        target.push((num_windows * grid.0 + y + i) * grid.1 + x + j);
                    }
                    num_windows += 1;
                }
            }
        }
        let on_device = |indices: &[i64]| Tensor::from_slice(indices).to_device(device);
        Self { grid, scales: scales.to_vec(), num_windows, weight: on_device(&weight), target: on_device(&target) }
    }

    /// The filters as matrices (C, windows, places). `weights` (R,C) as for [`window::window_sums`].
    pub fn matrix(&self, weights: &Tensor) -> Tensor {
        let (places, channels) = (self.grid.0 * self.grid.1, weights.size()[1]);
        let empty = weights.new_zeros([self.num_windows * places, channels], (weights.kind(), weights.device()));
        let filled = empty.index_copy(0, &self.target, &weights.index_select(0, &self.weight));
        filled.reshape([self.num_windows, places, channels]).permute([2, 0, 1])
    }

    /// (B,C,H,W) to (B,K,C) in the kind of `weights` (R,C).
    ///
    /// As matrices, the windows of all scales are one product per channel, but the map is copied twice; the kernel of
    /// [`window`] reads it in place.
    pub fn sums(&self, x_bchw: &Tensor, weights: &Tensor) -> Result<Tensor> {
        if has_kernel(x_bchw, weights) {
            return Ok(window::window_sums(x_bchw, weights, &self.scales)?);
        }
        let x_cbn = x_bchw.flatten(2, 3).permute([1, 0, 2]).to_kind(weights.kind());
        Ok(x_cbn.bmm(&self.matrix(weights).transpose(1, 2)).permute([1, 2, 0]))
    }
}

/// Average pooling to all scales at once.
#[derive(Debug)]
pub struct AveragePool {
    scales: Vec<(i64, i64)>,
    /// (R,C)
    weights: Tensor,
}

impl AveragePool {
    /// For maps of `channels` on `grid`.
    #[must_use]
    pub fn new(channels: i64, grid: (i64, i64), scales: &[(i64, i64)], kind: Kind, device: Device) -> Self {
        let of_size = |(h, w): (i64, i64)| (0..h * w).map(move |_| 1.0 / (h * w) as f64);
        let weights: Vec<f64> = scales.iter().flat_map(|&scale| sizes(grid, scale)).flat_map(of_size).collect();
        let weights = Tensor::from_slice(&weights).to_kind(kind).to_device(device);
        Self { scales: scales.to_vec(), weights: weights.unsqueeze(1).repeat([1, channels]) }
    }

    /// (B,C,H,W) to (B,K,C).
    pub fn forward(&self, x_bchw: &Tensor) -> Result<Tensor> {
        if has_kernel(x_bchw, &self.weights) {
            return Ok(window::window_sums(x_bchw, &self.weights, &self.scales)?);
        }
        let x_bchw = x_bchw.to_kind(self.weights.kind());
        let at_scale =
            |&(rows, columns): &(i64, i64)| x_bchw.adaptive_avg_pool2d([rows, columns]).flatten(2, 3).transpose(1, 2);
        Ok(Tensor::cat(&self.scales.iter().map(at_scale).collect::<Vec<_>>(), 1))
    }
}

/// Weighted averages over windows with one learnable kernel per channel and scale.
///
/// A scale's kernel has the size of its largest window. A window weights its positions by the softmax of the kernel's
/// leading rows and columns. The weights are positive and sum to 1 in every window (a constant map passes unchanged),
/// and the kernel starts uniform, as average pooling. If s divides the grid, this is a depthwise convolution whose
/// stride is its kernel size. That convolution was measured to be 1.6 to 3 times slower in float32 and over 50 times
/// slower in bfloat16 on a CPU than the matrix products in [`Windows`] (56x56, 64 channels).
#[derive(Debug)]
pub struct LowPass {
    windows: Windows,
    kernels: Vec<Kernel>,
}

#[derive(Debug)]
struct Kernel {
    /// (C, h, w), the argument of the softmax.
    theta: Tensor,
    /// The window sizes.
    sizes: Vec<(i64, i64)>,
}

impl LowPass {
    /// Creates the kernels `theta` under the scale's name, for maps of `channels` on `grid`, with as many windows along
    /// the rows as along the columns.
    pub fn new(scope: &Scope, channels: i64, grid: (i64, i64), scales: &[i64]) -> Result<Self> {
        let kernel = |&s: &i64| {
            let sizes = sizes(grid, (s, s));
            let (h, w) = sizes.first().copied().unwrap_or((1, 1));
            let theta = scope.sub(format!("scale{s}")).param_no_decay("theta", &[channels, h, w], Init::Const(0.0))?;
            Ok(Kernel { theta, sizes })
        };
        let kernels = scales.iter().map(kernel).collect::<Result<_>>()?;
        Ok(Self { windows: Windows::new(grid, &square(scales), scope.device()), kernels })
    }

    /// The weights of all windows, (R,C).
    fn weights(&self) -> Tensor {
        Tensor::cat(&self.kernels.iter().flat_map(Kernel::weights).collect::<Vec<_>>(), 0)
    }

    /// The filters as matrices (C, windows, places); rows sum to 1.
    pub fn matrix(&self) -> Tensor {
        self.windows.matrix(&self.weights())
    }

    /// (B,C,H,W) to (B,K,C).
    pub fn forward(&self, x_bchw: &Tensor) -> Result<Tensor> {
        self.windows.sums(x_bchw, &self.weights())
    }
}

impl Kernel {
    /// (h*w,C) for each window size.
    fn weights(&self) -> Vec<Tensor> {
        let of_size = |&(h, w): &(i64, i64)| {
            let theta = self.theta.narrow(1, 0, h).narrow(2, 0, w).flatten(1, 2);
            theta.softmax(-1, None::<Kind>).transpose(0, 1)
        };
        self.sizes.iter().map(of_size).collect()
    }
}

fn has_kernel(x_bchw: &Tensor, weights: &Tensor) -> bool {
    weights.kind() == Kind::Float && !flops::plain() && window::window_suits(x_bchw)
}

/// The scales with `sides` windows along both axes.
#[must_use]
pub fn square(sides: &[i64]) -> Vec<(i64, i64)> {
    sides.iter().map(|&s| (s, s)).collect()
}
