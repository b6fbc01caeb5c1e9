//! Low-pass filters that bring a grid down to s x s windows, for several s in one product.
//!
//! Windows are those of adaptive pooling: along an axis of n places, window i of s covers `floor(i n/s) .. ceil((i+1) n/s)`. Where s
//! divides n they are disjoint and of size n/s; otherwise sizes differ by at most one place and neighbours share one.
//! A place list `n` is row-major over the grid; the windows `k` of all scales follow each other, each scale row-major.
use heterodyne_nn::{Init, Result, Scope};
use tch::{Device, Kind, Tensor};

/// Start and length of each of `s` windows over `n` places.
#[must_use]
pub fn windows(n: i64, s: i64) -> Vec<(i64, i64)> {
    (0..s).map(|i| (i * n / s, ((i + 1) * n + s - 1) / s - i * n / s)).collect()
}

/// The windows of a grid at one scale as (rows, columns), row-major.
fn windows_2d(grid: (i64, i64), s: i64) -> Vec<((i64, i64), (i64, i64))> {
    let columns = windows(grid.1, s);
    windows(grid.0, s).into_iter().flat_map(|row| columns.iter().map(move |&column| (row, column))).collect()
}

/// Average pooling to all scales at once, as one constant matrix.
#[derive(Debug)]
pub struct AveragePool {
    /// (windows, places)
    matrix: Tensor,
}

impl AveragePool {
    /// For maps on `grid`.
    #[must_use]
    pub fn new(grid: (i64, i64), scales: &[i64], kind: Kind, device: Device) -> Self {
        let mut rows = Vec::new();
        let mut num_windows = 0;
        for ((y, h), (x, w)) in scales.iter().flat_map(|&s| windows_2d(grid, s)) {
            let inside = |i: i64, j: i64| (y..y + h).contains(&i) && (x..x + w).contains(&j);
            rows.extend((0..grid.0).flat_map(|i| (0..grid.1).map(move |j| if inside(i, j) { 1.0 / (h * w) as f64 } else { 0.0 })));
            num_windows += 1;
        }
        Self { matrix: Tensor::from_slice(&rows).reshape([num_windows, grid.0 * grid.1]).to_kind(kind).to_device(device) }
    }

    /// (B,N,C) places to (B,K,C) windows.
    pub fn forward(&self, x_bnc: &Tensor) -> Tensor {
        self.matrix.unsqueeze(0).expand([x_bnc.size()[0], -1, -1], false).bmm(x_bnc)
    }
}

/// Weighted averages over windows with one learnable kernel per channel and scale.
///
/// A scale's kernel has the size of its largest window; a window weights its places by the softmax of the kernel's leading rows and
/// columns. So the weights are positive and sum to 1 in every window (a constant map passes unchanged), and the kernel starts
/// uniform, as average pooling. Where s divides the grid this is a depthwise convolution whose stride is its kernel's size.
///
/// It is computed as one matrix product per channel for all scales together, which reads the map once; the convolution itself was
/// measured to be 1.6 to 3 times slower in float32 and over 50 times slower in bfloat16 on a CPU (56x56, 64 channels).
#[derive(Debug)]
pub struct LowPass {
    kernels: Vec<Kernel>,
    channels: i64,
    places: i64,
    num_windows: i64,
    /// Where the weights of all windows go in (windows * places).
    target: Tensor,
}

#[derive(Debug)]
struct Kernel {
    /// (C, h, w), the softmax's argument.
    theta: Tensor,
    num_windows: i64,
    /// Present where windows differ in size.
    ragged: Option<Ragged>,
}

#[derive(Debug)]
struct Ragged {
    /// (windows, h*w): 0 inside a window, minus infinity outside.
    mask: Tensor,
    /// The entries inside, as indices into windows*h*w.
    inside: Tensor,
}

impl LowPass {
    /// Kernels `theta` under the scale's name, for maps of `channels` on `grid`.
    pub fn new(scope: &Scope, channels: i64, grid: (i64, i64), scales: &[i64]) -> Result<Self> {
        let mut target = Vec::new();
        let mut kernels = Vec::new();
        let mut num_windows = 0;
        for &s in scales {
            let windows = windows_2d(grid, s);
            let h = windows.iter().map(|((_, h), _)| *h).max().unwrap_or(1);
            let w = windows.iter().map(|(_, (_, w))| *w).max().unwrap_or(1);
            let mut mask = Vec::new();
            let mut inside = Vec::new();
            for (k, ((y, rows), (x, columns))) in windows.iter().enumerate() {
                for (i, j) in (0..h).flat_map(|i| (0..w).map(move |j| (i, j))) {
                    let within = i < *rows && j < *columns;
                    mask.push(if within { 0.0 } else { f64::NEG_INFINITY });
                    if within {
                        inside.push((k as i64 * h + i) * w + j);
                        target.push(((num_windows + k as i64) * grid.0 + y + i) * grid.1 + x + j);
                    }
                }
            }
            let count = windows.len() as i64;
            let ragged = (inside.len() < mask.len()).then(|| Ragged {
                mask: Tensor::from_slice(&mask).reshape([count, h * w]).to_kind(scope.kind()).to_device(scope.device()),
                inside: Tensor::from_slice(&inside).to_device(scope.device()),
            });
            let theta = scope.sub(format!("scale{s}")).param_no_decay("theta", &[channels, h, w], Init::Const(0.0))?;
            kernels.push(Kernel { theta, num_windows: count, ragged });
            num_windows += count;
        }
        Ok(Self { kernels, channels, places: grid.0 * grid.1, num_windows, target: Tensor::from_slice(&target).to_device(scope.device()) })
    }

    /// The filters as matrices (C, windows, places); rows sum to 1.
    pub fn matrix(&self) -> Tensor {
        let weights: Vec<Tensor> = self.kernels.iter().map(Kernel::weights).collect();
        let weights = Tensor::cat(&weights, 1);
        let empty = weights.new_zeros([self.channels, self.num_windows * self.places], (weights.kind(), weights.device()));
        empty.index_copy(1, &self.target, &weights).reshape([self.channels, self.num_windows, self.places])
    }

    /// (B,N,C) places to (B,K,C) windows.
    pub fn forward(&self, x_bnc: &Tensor) -> Tensor {
        let out_cbk = x_bnc.permute([2, 0, 1]).bmm(&self.matrix().transpose(1, 2));
        out_cbk.permute([1, 2, 0])
    }
}

impl Kernel {
    /// The weights inside all windows, one window after the other: (C, sum of window sizes).
    fn weights(&self) -> Tensor {
        let theta = self.theta.flatten(1, 2);
        match &self.ragged {
            None => theta.softmax(-1, None::<Kind>).repeat([1, self.num_windows]),
            Some(Ragged { mask, inside }) => (theta.unsqueeze(1) + mask).softmax(-1, None::<Kind>).flatten(1, 2).index_select(1, inside),
        }
    }
}
