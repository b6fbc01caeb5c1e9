//! UHKD: unified heterogeneous knowledge distillation via frequency-domain representations (arXiv 2510.24116).
//!
//! ```text
//! FTM:  A_t^l = N( G . v( crop_K( F2( X_t^l ) ) ) )          (B, C_t, K, K')      no gradient, nothing learnable
//! FAM:  Y_s^l = phi_l( mean over blocks of X_s^l )           (B, C_t, H', W')     learnable
//!       A_s^l = N( G . v( crop_K( F2( Y_s^l ) ) ) )
//! L_freq = mean over levels of mean( (A_s^l - A_t^l)^2 )     over the whole K x K plane
//! L      = CE + alpha T^2 KL(p_t || p_s) + beta L_freq       CE is the trainer's
//! ```
//! * `F2`, `crop_K`: the discrete Fourier transform per channel with factor 1/(HW) and its origin at the image's edge
//!   (or, with `origin = "position"`, at the first position), cropped to the K x K lowest frequencies, of which the
//!   half plane of K x (K/2+1) is computed. [`Band`] describes the choice of frequencies on small, even and unequal
//!   grids; [`Comparison`] describes how the half plane represents the whole.
//! * `v`: real and imaginary parts, the amplitude sqrt(re^2+im^2+eps), or log(1 + amplitude).
//! * `G`: a weight per frequency; `N`: standardisation over the whole plane.
//! * Blocks: the student's map is first averaged over equal blocks, to the smallest grid without aliasing of the kept
//!   frequencies (7x7 for K = 7 and 56x56, 8x8 for 32x32). phi then costs a 64th or a 16th, and still sees what the
//!   band can express; the teacher's own grid is often no finer. `fam_grid = "full"` skips the averaging.
//! * `phi`: 1x1 convolution, BN, ReLU, depthwise 3x3, 1x1 convolution. The last convolution is linear over channels, so
//!   it is swapped with the Fourier transform if that at least halves its work: 56 numbers per channel instead of 3136
//!   positions.
//! * `fam_mode = "direct"`: phi's output, average-pooled to K x K' (two channels per bin for `complex`), is taken as
//!   the spectrum.
//!
//! The two modules, the matching on several levels and the three losses are published; the definitions above are our
//! choice.
use heterodyne_nn::{
    Output, Result, Scope, TapSpec, Terms,
    layers::{BatchNorm2d, Conv, Conv2d, Post},
    shim::NoGrad,
};
use heterodyne_settings::{Checked, choice, range, settings};
use tch::{Kind, Tensor};

use crate::{
    BuildContext, Context, Method, MethodSettings, Signal,
    parts::{
        AveragePool, Band, Comparison, Dft, Levels, Normalise, Origin, Pointwise, Representation, Scaling, StagePair,
        Window, WindowShape, autocast_off, check_classes, check_norm, mean, part_input, push_kd, signal, stage,
        stage_pairs, training,
    },
};

/// The square of a smaller width cannot be used as a divisor.
const MIN_SIGMA: f64 = 1e-6;
/// A larger width weights all frequencies equally, like `window = "none"`.
const MAX_SIGMA: f64 = 1e6;

choice! { enum FamMode { Spectrum, Direct } }

choice! { enum FamGrid { Band, Full } }

impl FamGrid {
    /// The grid on which phi runs for a map on `grid`.
    fn of(self, grid: (i64, i64), band: Band) -> (i64, i64) {
        match self {
            Self::Band => band.smallest_grid(grid),
            Self::Full => grid,
        }
    }
}

settings! {
    /// Unified heterogeneous knowledge distillation in the frequency domain.
    pub struct Uhkd {
        /// Weight of the logit loss `kd`. The loss is published, its weight was chosen by an ablation.
        alpha: f64 = 3.0, Ours;
        /// Weight of the frequency loss `freq`. The loss is published, its weight was chosen by an ablation.
        beta: f64 = 100.0, Ours;
        /// Temperature of the logit loss, as in the heterogeneous protocol.
        temperature: f64 = 1.0, Ours, positive;
        /// Stages that are matched. The paper matches several but does not state which.
        levels: Levels = Levels::every(), Ours;
        /// Constant of the Fourier transform: "area" (1/HW, so that equal scenes have equal low frequencies on any
        /// grid), "ortho" (1/sqrt(HW)) or "none" (1); it matters if the spectra are logarithmic or not standardised.
        scaling: Scaling = Scaling::Area, Ours;
        /// Where phases are counted from: "edge" (of the image, so that equal scenes have equal phases on any grid) or
        /// "position" (the first one, as in a plain FFT).
        origin: Origin = Origin::Edge, Ours;
        /// Frequencies kept per axis, the lowest with their negatives (an even number keeps one less); clipped to the
        /// smaller grid of the pair.
        k: i64 = 7, Ours, count;
        /// What is compared at each frequency: "complex" (real and imaginary part), "amplitude" or "log_amplitude"
        /// (log(1 + amplitude)); chosen by an ablation.
        representation: Representation = Representation::Complex, Ours;
        /// Weight of each frequency: "gaussian", "none", "ideal" (1 up to radius sigma * k, else 0) or "learnable" (the
        /// Gaussian times learnable factors whose mean is 1).
        window: WindowShape = WindowShape::Gaussian, Ours;
        /// Width of the Gaussian, or radius of the ideal window, in units of `k`.
        sigma: f64 = 0.5, Ours, between(MIN_SIGMA, MAX_SIGMA);
        /// Standardisation of a spectrum: "sample" (over channels and frequencies of an image), "channel" (over the
        /// frequencies of a channel) or "none".
        normalise: Normalise = Normalise::Sample, Ours;
        /// Where the projection sees the student's map: "band" averages it over equal blocks to the smallest grid that
        /// holds the kept frequencies, "full" leaves it as it is.
        fam_grid: FamGrid = FamGrid::Band, Ours;
        /// "spectrum" takes the Fourier transform of the projected student features, "direct" takes the projection
        /// itself as the spectrum and needs a smaller `beta`.
        fam_mode: FamMode = FamMode::Spectrum, Ours;
    }
}

impl MethodSettings for Uhkd {
    const NAME: &str = "uhkd";
    const SOURCE: &str = "Yu et al. 2025 (arXiv 2510.24116)";
    const COMPARES_LOGITS: bool = true;

    fn demands(&self) -> Checked {
        range::weights(&[("alpha", self.alpha), ("beta", self.beta)])
    }

    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        check_classes(Self::NAME, student, teacher)?;
        for pair in stage_pairs(Self::NAME, &self.levels, student, teacher)? {
            let band = Band::shared(self.k, pair.student.grid, pair.teacher.grid);
            check_norm(Self::NAME, &format!("level {}", pair.level), batch, self.fam_grid.of(pair.student.grid, band))?;
        }
        Ok(())
    }

    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>> {
        let BuildContext { scope, student, teacher, .. } = *pair;
        let pairs = stage_pairs(Self::NAME, &self.levels, student, teacher)?;
        let levels = pairs.iter().map(|pair| Level::new(scope, pair, self)).collect::<Result<_>>()?;
        Ok(Box::new(UhkdLoss { settings: self.clone(), levels, kind: scope.kind() }))
    }
}

struct UhkdLoss {
    settings: Uhkd,
    levels: Vec<Level>,
    kind: Kind,
}

/// One pair of stages with its frequency alignment module.
struct Level {
    level: usize,
    blocks: Option<Blocks>,
    phi: Phi,
    last: Last,
    teacher: Dft,
    comparison: Comparison,
    band: Band,
    /// The teacher's channels.
    channels: i64,
}

/// Averaging over equal blocks.
struct Blocks {
    mean: AveragePool,
    grid: (i64, i64),
}

/// phi without its last 1x1 convolution.
struct Phi {
    project: Conv2d,
    norm: BatchNorm2d,
    depthwise: Conv2d,
}

/// The position of phi's last 1x1 convolution relative to the transform.
enum Last {
    /// On the map, before the transform.
    Map(Pointwise, Dft),
    /// On the spectrum; the tensor is the transform of the constant 1, which the bias multiplies.
    Spectrum(Pointwise, Dft, Tensor),
    /// On the map pooled to the band's size; the result is taken as the spectrum, with this many numbers per bin.
    Direct(Pointwise, Band, i64),
}

impl Level {
    fn new(scope: &Scope, pair: &StagePair, settings: &Uhkd) -> Result<Self> {
        let scope = scope.sub(pair.scope());
        let (kind, device) = (scope.kind(), scope.device());
        let (student, teacher) = (pair.student, pair.teacher);
        let band = Band::shared(settings.k, student.grid, teacher.grid);
        let (c_s, c_t) = (student.channels, teacher.channels);
        let grid = settings.fam_grid.of(student.grid, band);
        let blocks = (grid != student.grid)
            .then(|| Blocks { mean: AveragePool::new(c_s, student.grid, &[grid], kind, device), grid });
        let phi = Phi {
            project: Conv2d::new(&scope.sub("project"), c_s, c_t, Conv::same(1))?,
            norm: BatchNorm2d::new(&scope.sub("norm"), c_t)?,
            depthwise: Conv2d::new(&scope.sub("depthwise"), c_t, c_t, Conv::same(3).groups(c_t))?,
        };
        let parts = settings.representation.parts();
        let last = match settings.fam_mode {
            FamMode::Direct => Last::Direct(Pointwise::new(&scope.sub("last"), c_t, c_t * parts)?, band, parts),
            FamMode::Spectrum => {
                let last = Pointwise::new(&scope.sub("last"), c_t, c_t)?;
                let dft = settings.scaling.dft(settings.origin, grid, band, kind, device);
                if 4 * band.size().0 * band.size().1 <= grid.0 * grid.1 {
                    let one = dft.of_one()?;
                    Last::Spectrum(last, dft, one)
                } else {
                    Last::Map(last, dft)
                }
            }
        };
        let window = Window::new(&scope, settings.window, band, settings.sigma * settings.k as f64)?;
        Ok(Self {
            level: pair.level,
            blocks,
            phi,
            last,
            teacher: settings.scaling.dft(settings.origin, teacher.grid, band, kind, device),
            comparison: Comparison::new(window, settings.normalise, band, settings.representation)?,
            band,
            channels: c_t,
        })
    }

    /// The teacher's side: A_t, or the unweighted spectrum if the window is learnable.
    fn signal(&self, settings: &Uhkd) -> Signal {
        let Uhkd { representation, window, sigma, normalise, k, scaling, origin, .. } = settings;
        let Self { level, band, channels, .. } = self;
        let weighed = match window {
            WindowShape::Learnable => "not weighed".to_owned(),
            fixed => format!("{fixed:?} window of {sigma} * {k} on the whole plane, standardised by {normalise:?}"),
        };
        let from = match origin {
            Origin::Edge => "its edge",
            Origin::Position => "its first position",
        };
        let (rows, cols) = band.size();
        Signal {
            name: format!(
                "{representation:?} spectrum of stage{level} from {from}, {rows} x {cols} bins scaled by \
                 {scaling:?}, {weighed}"
            ),
            shape: vec![representation.parts(), rows, cols, *channels],
        }
    }

    fn observe(&self, teacher: &Output, settings: &Uhkd, kind: Kind) -> Result<Tensor> {
        let _constant = NoGrad::new();
        let x_bchw = stage(teacher, self.level, "teacher")?.to_map();
        let _float32 = autocast_off(x_bchw.device())?;
        let spectrum = settings.representation.of(&self.teacher.forward(&x_bchw.to_kind(kind)));
        Ok(if settings.window == WindowShape::Learnable { spectrum } else { self.comparison.of(&spectrum) })
    }

    fn loss(&self, step: &Context, i: usize, settings: &Uhkd, kind: Kind) -> Result<Tensor> {
        let x_bchw = stage(step.student, self.level, "student")?.to_map();
        let x_bchw =
            self.blocks.as_ref().map_or_else(|| Ok(x_bchw.shallow_clone()), |blocks| blocks.forward(&x_bchw))?;
        let y_bchw = self.phi.forward(&part_input(&x_bchw, kind)?);
        let y_bchw = if let Last::Map(last, _) = &self.last { last.on_map(&y_bchw) } else { y_bchw };
        let _float32 = autocast_off(y_bchw.device())?;
        let mut target = signal(step.teacher, i, kind)?;
        if settings.window == WindowShape::Learnable {
            let _constant = NoGrad::new();
            target = self.comparison.of(&target);
        }
        let y_bchw = y_bchw.to_kind(kind);
        let spectrum = match &self.last {
            Last::Map(_, dft) => settings.representation.of(&dft.forward(&y_bchw)),
            Last::Spectrum(last, dft, one) => settings.representation.of(&last.on_spectrum(&dft.forward(&y_bchw), one)),
            Last::Direct(last, band, parts) => direct(&y_bchw, last, *band, *parts),
        };
        self.comparison.loss(&spectrum, &target)
    }
}

impl UhkdLoss {
    /// The levels if their loss has a weight, otherwise none.
    fn compared(&self) -> impl Iterator<Item = &Level> {
        self.levels.iter().filter(|_| self.settings.beta > 0.0)
    }
}

/// A map (B,C,H,W) pooled and projected to (B,P,K,K',C).
fn direct(y_bchw: &Tensor, last: &Pointwise, band: Band, parts: i64) -> Tensor {
    let (k, k_half) = band.size();
    let pooled = y_bchw.adaptive_avg_pool2d([k, k_half]).permute([0, 2, 3, 1]);
    last.on_last(&pooled).unflatten(-1, [parts, -1]).permute([0, 3, 1, 2, 4])
}

impl Blocks {
    /// (B,C,H,W) to (B,C,H',W').
    fn forward(&self, x_bchw: &Tensor) -> Result<Tensor> {
        Ok(self.mean.forward(x_bchw)?.transpose(1, 2).unflatten(2, [self.grid.0, self.grid.1]))
    }
}

impl Phi {
    fn forward(&self, x_bchw: &Tensor) -> Tensor {
        self.depthwise.forward(&self.norm.forward_post(&self.project.forward(x_bchw), training(), Post::Relu))
    }
}

impl Method for UhkdLoss {
    fn signals(&self) -> Vec<Signal> {
        self.compared().map(|level| level.signal(&self.settings)).collect()
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        self.compared().map(|level| level.observe(teacher, &self.settings, self.kind)).collect()
    }

    fn is_recordable(&self) -> bool {
        true
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let Uhkd { alpha, beta, temperature, .. } = self.settings;
        let mut terms = Terms::default();
        push_kd(&mut terms, step, alpha, temperature)?;
        if beta > 0.0 {
            let values: Vec<Tensor> = self
                .levels
                .iter()
                .enumerate()
                .map(|(i, level)| level.loss(step, i, &self.settings, self.kind))
                .collect::<Result<_>>()?;
            terms.push("freq", beta, mean(&values));
        }
        Ok(terms)
    }
}
