//! LFCC: low-frequency components-based contrastive knowledge distillation (arXiv 2405.18524).
//!
//! ```text
//! T^{l,s} = AvgPool_{s x s}( X_t^l )                               (B, C_t, s, s)      no gradient
//! S^{l,s} = psi_{l,s}( LPF_{l,s}( X_s^l ) )                        (B, C_t, s, s)      psi: 1x1 convolution + BN
//! LPF     : depthwise window of size and stride H'/s whose kernel is softmax(theta_{l,s})
//! q_i = normalize(flatten S_i),  k_i = normalize(flatten T_i),  M_ij = q_i . k_j / tau
//! L_con^{l,s} = -(1/B) sum_i log softmax_j(M_ij)[j = i]       j: the images of the batch, or of all processes' batches
//! L = CE + alpha T^2 KL(p_t || p_s) + beta mean over (l,s) of L_con^{l,s}             CE is the trainer's
//! ```
//! [`lowpass`](crate::parts::lowpass) defines the windows if s does not divide the grid. A scale larger than the grid
//! of either side (in rows or columns) adds no information and is left out at that level; a level without scales is an
//! error.
//!
//! The multi-scale low-pass filters on both sides, the compact space and the sample-level contrastive task are
//! published; the definitions above are our choice.
use heterodyne_nn::{
    Error, Init, Labels, Output, Result, Scope, TapSpec, Terms,
    layers::{BatchNorm2d, Linear},
    shim::NoGrad,
};
use heterodyne_settings::{Checked, choice, range, settings};
use tch::{Kind, Tensor};

use crate::{
    BuildContext, Context, Method, MethodSettings, Ranks, Signal,
    parts::{
        AveragePool, Levels, LowPass, StagePair, TensorExt, autocast_off, check_classes, normalize, push_kd, shape,
        signal, square, stage, stage_pairs, training,
    },
    ranks::Alone,
};

/// The largest factor that a learnable temperature may reach, as in CLIP (arXiv 2103.00020).
const MAX_SCALE: f64 = 100.0;

choice! { enum FilterKind { Learnable, Avgpool } }

choice! { enum Negatives { Local, Global } }

impl Negatives {
    /// The processes whose images are negatives.
    fn among(self, all: &dyn Ranks) -> &dyn Ranks {
        match self {
            Self::Local => &Alone,
            Self::Global => all,
        }
    }
}

settings! {
    /// Low-frequency components-based contrastive distillation.
    pub struct Lfcc {
        /// Weight of the logit loss `kd`; chosen by an ablation.
        alpha: f64 = 3.0, Ours;
        /// Weight of the contrastive loss `con`. The loss is published, its weight was chosen by an ablation.
        beta: f64 = 3.0, Ours;
        /// Temperature of the logit loss, as in the heterogeneous protocol.
        temperature: f64 = 1.0, Ours, positive;
        /// Stages that are contrasted. The paper contrasts intermediate features but does not state which.
        levels: Levels = Levels::every(), Ours;
        /// Windows per axis, one filter each; the paper has several scales but does not state which. A scale larger
        /// than a grid is left out at that level.
        scales: Vec<i64> = vec![1, 2, 4], Ours;
        /// Temperature of the contrastive loss, or its initial value if it is learned.
        tau: f64 = 0.07, Ours, positive;
        /// Learns one factor 1/tau for all levels and scales, at most 100; chosen by an ablation.
        tau_learnable: bool = true, Ours;
        /// The student's low-pass filter: "learnable" (softmax kernels that start uniform) or "avgpool" (pooling, one
        /// of the paper's two filters according to a secondary source).
        filter: FilterKind = FilterKind::Learnable, Ours;
        /// What an image is contrasted with: "local" (the part of the batch in its own process) or "global" (the batch
        /// of all processes that train together; the same if there is only one).
        negatives: Negatives = Negatives::Global, Ours;
        /// Averages both directions, student to teacher and back.
        symmetric: bool = false, Ours;
        /// Leaves other images of the same class out of the negatives.
        mask_same_class: bool = false, Ours;
    }
}

impl Lfcc {
    /// The scales that both grids of a pair can hold.
    fn scales_of(&self, pair: &StagePair) -> Result<Vec<i64>> {
        let ((a, b), (c, d)) = (pair.student.grid, pair.teacher.grid);
        let side = a.min(b).min(c).min(d);
        let scales: Vec<i64> = self.scales.iter().copied().filter(|&s| s <= side).collect();
        if scales.is_empty() {
            return Err(Error::invalid(format!(
                "lfcc: none of the scales {:?} fits level {}, where the student has {} and the teacher {}: add a \
                 scale of at most {side}, or remove the level from `levels`",
                self.scales,
                pair.level,
                shape(&pair.student),
                shape(&pair.teacher)
            )));
        }
        Ok(scales)
    }
}

impl MethodSettings for Lfcc {
    const NAME: &str = "lfcc";
    const SOURCE: &str = "Wu et al. 2024 (arXiv 2405.18524)";
    const COMPARES_LOGITS: bool = true;

    fn demands(&self) -> Checked {
        range::weights(&[("alpha", self.alpha), ("beta", self.beta)])?;
        range::distinct("scales", &self.scales)?;
        if self.tau_learnable {
            range::between("tau", self.tau, 1.0 / MAX_SCALE, f64::MAX)?;
        }
        Ok(())
    }

    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        check_classes(Self::NAME, student, teacher)?;
        check_contrast(batch as i64)?;
        stage_pairs(Self::NAME, &self.levels, student, teacher)?
            .iter()
            .try_for_each(|pair| self.scales_of(pair).map(drop))
    }

    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>> {
        let BuildContext { scope, student, teacher, .. } = *pair;
        let pairs = stage_pairs(Self::NAME, &self.levels, student, teacher)?;
        let levels = pairs
            .iter()
            .map(|pair| Level::new(scope, pair, &self.scales_of(pair)?, self.filter))
            .collect::<Result<_>>()?;
        let logit_scale = || scope.param("logit_scale", &[], Init::Const(-self.tau.ln()));
        let logit_scale = self.tau_learnable.then(logit_scale).transpose()?;
        Ok(Box::new(LfccLoss { settings: self.clone(), levels, logit_scale, kind: scope.kind() }))
    }
}

fn check_contrast(batch: i64) -> Result<()> {
    if batch >= 2 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "lfcc contrasts each image with the others of its batch, but the batch has {batch}: use a batch of at least 2 \
         and drop the last incomplete batch"
    )))
}

struct LfccLoss {
    settings: Lfcc,
    levels: Vec<Level>,
    /// log(1/tau), if it is learned.
    logit_scale: Option<Tensor>,
    kind: Kind,
}

/// One pair of stages with its filters.
struct Level {
    level: usize,
    teacher: AveragePool,
    student: Filter,
    psi: Vec<Psi>,
    /// The teacher's channels.
    channels: i64,
}

enum Filter {
    Learnable(LowPass),
    Average(AveragePool),
}

/// The projection of one scale.
struct Psi {
    num_windows: i64,
    project: Linear,
    norm: BatchNorm2d,
}

impl Level {
    fn new(scope: &Scope, pair: &StagePair, scales: &[i64], filter: FilterKind) -> Result<Self> {
        let scope = scope.sub(pair.scope());
        let (kind, device) = (scope.kind(), scope.device());
        let (c_s, c_t) = (pair.student.channels, pair.teacher.channels);
        let psi = |&s: &i64| {
            let scope = scope.sub(format!("scale{s}"));
            Ok(Psi {
                num_windows: s * s,
                project: Linear::with(&scope.sub("project"), c_s, c_t, Init::TorchDefault, None)?,
                norm: BatchNorm2d::new(&scope.sub("norm"), c_t)?,
            })
        };
        Ok(Self {
            level: pair.level,
            teacher: AveragePool::new(c_t, pair.teacher.grid, &square(scales), kind, device),
            student: match filter {
                FilterKind::Learnable => Filter::Learnable(LowPass::new(&scope, c_s, pair.student.grid, scales)?),
                FilterKind::Avgpool => {
                    Filter::Average(AveragePool::new(c_s, pair.student.grid, &square(scales), kind, device))
                }
            },
            psi: scales.iter().map(psi).collect::<Result<_>>()?,
            channels: c_t,
        })
    }

    /// Each scale's projection with the offset of its windows in the list of all windows.
    fn scales(&self) -> impl Iterator<Item = (&Psi, i64)> {
        let firsts = self.psi.iter().scan(0, |next, psi| {
            *next += psi.num_windows;
            Some(*next - psi.num_windows)
        });
        self.psi.iter().zip(firsts)
    }

    /// The teacher's side: the unit vectors k of all scales, concatenated.
    fn signal(&self) -> Signal {
        let windows: Vec<_> = self.psi.iter().map(|psi| psi.num_windows).collect();
        Signal {
            name: format!("unit vectors of stage{} averaged to {windows:?} windows", self.level),
            shape: vec![windows.iter().sum::<i64>() * self.channels],
        }
    }

    fn observe(&self, teacher: &Output) -> Result<Tensor> {
        let _constant = NoGrad::new();
        let x_bchw = stage(teacher, self.level, "teacher")?.to_map();
        let _float32 = autocast_off(x_bchw.device())?;
        let t_bkc = self.teacher.forward(&x_bchw)?;
        let k: Vec<Tensor> = self
            .scales()
            .map(|(psi, first)| normalize(&t_bkc.narrow(1, first, psi.num_windows).flatten(1, 2)))
            .collect();
        Ok(Tensor::cat(&k, 1))
    }

    /// The student's side: the unit vectors q of every scale, each (B,D).
    fn vectors(&self, student: &Output) -> Result<Vec<Tensor>> {
        let x_bchw = stage(student, self.level, "student")?.to_map();
        let s_bkc = match &self.student {
            Filter::Learnable(filter) => filter.forward(&x_bchw),
            Filter::Average(filter) => filter.forward(&x_bchw),
        }?;
        Ok(self
            .scales()
            .map(|(psi, first)| normalize(&psi.forward(&s_bkc.narrow(1, first, psi.num_windows)).flatten(1, 2)))
            .collect())
    }

    /// Splits the concatenated vectors of all scales.
    fn split(&self, vectors: &Tensor) -> Vec<Tensor> {
        self.scales()
            .map(|(psi, first)| vectors.narrow(1, first * self.channels, psi.num_windows * self.channels))
            .collect()
    }
}

impl Psi {
    /// (B,K,C) to (B,K,C').
    fn forward(&self, x_bkc: &Tensor) -> Tensor {
        self.norm.forward(&self.project.forward(x_bkc).flatten(0, 1), training()).unflatten(0, [-1, self.num_windows])
    }
}

/// The products of all pairs of rows, (B,D) and (N,D) to (B,N), scale by scale.
fn similarities<'a>(a: &'a [Tensor], b: &'a [Tensor]) -> impl Iterator<Item = Tensor> + 'a {
    a.iter().zip(b).map(|(a_bd, b_nd)| a_bd.matmul(&b_nd.transpose(0, 1)))
}

/// InfoNCE of similarities divided by tau (L,B,N), whose positives begin at column `first`; the mean over all pairs of
/// stage and scale.
fn contrast(m_lbn: &Tensor, first: i64) -> Tensor {
    -m_lbn.log_softmax(2, None::<Kind>).diagonal(first, 1, 2).mean_all()
}

/// Whether two different images are of the same class, (B,N); the images themselves begin at column `first`.
fn same_class(labels: &Labels, ranks: &dyn Ranks, first: i64) -> Result<Tensor> {
    let index_b = labels.index();
    let same_bn = index_b.unsqueeze(1).eq_tensor(&ranks.gather(&index_b)?.unsqueeze(0));
    let _ = same_bn.diagonal(first, 0, 1).fill_(0);
    Ok(same_bn)
}

/// The factor whose logarithm is learned. As in CLIP, the parameter itself is clamped: a bound only inside the graph
/// would give no gradient beyond it, so a parameter past the bound would stay there.
fn scale(log_scale: &Tensor) -> Tensor {
    if !training() {
        return log_scale.clamp_max(MAX_SCALE.ln()).exp();
    }
    {
        let _constant = NoGrad::new();
        let _ = log_scale.shallow_clone().clamp_max_(MAX_SCALE.ln());
    }
    log_scale.exp()
}

impl LfccLoss {
    /// The levels if their loss has a weight, otherwise none.
    fn compared(&self) -> impl Iterator<Item = &Level> {
        self.levels.iter().filter(|_| self.settings.beta > 0.0)
    }

    /// The mean of L_con over (l,s), and over both directions if the loss is symmetric.
    fn contrasts(&self, step: &Context) -> Result<Tensor> {
        let Lfcc { tau, negatives, symmetric, mask_same_class, .. } = self.settings;
        let ranks = negatives.among(step.ranks);
        let batch = step.student.logits.size()[0];
        check_contrast(batch * ranks.size())?;
        let first = ranks.rank() * batch;
        let (mut to_teacher, mut to_student) = (Vec::new(), Vec::new());
        for (i, level) in self.levels.iter().enumerate() {
            let k = signal(step.teacher, i, self.kind)?;
            let q = level.vectors(step.student)?;
            to_teacher.extend(similarities(&q, &level.split(&ranks.gather(&k)?)));
            if symmetric && ranks.size() > 1 {
                to_student.extend(similarities(&level.split(&k), &level.split(&ranks.gather(&Tensor::cat(&q, 1))?)));
            }
        }
        if symmetric && ranks.size() == 1 {
            to_student = to_teacher.iter().map(|cosine_bb| cosine_bb.transpose(0, 1)).collect();
        }
        let scale = self.logit_scale.as_ref().map(scale);
        let masked = mask_same_class.then(|| same_class(step.labels, ranks, first)).transpose()?;
        let towards = |cosines: &[Tensor]| {
            let cosine_lbn = Tensor::stack(cosines, 0);
            let m_lbn = scale.as_ref().map_or_else(|| &cosine_lbn / tau, |scale| &cosine_lbn * scale);
            // The positives stay, so no row is masked entirely.
            let m_lbn = masked
                .as_ref()
                .map_or_else(|| m_lbn.shallow_clone(), |masked| m_lbn.masked_fill(masked, f64::NEG_INFINITY));
            contrast(&m_lbn, first)
        };
        let loss = towards(&to_teacher);
        Ok(if symmetric { (loss + towards(&to_student)) * 0.5 } else { loss })
    }
}

impl Method for LfccLoss {
    fn signals(&self) -> Vec<Signal> {
        self.compared().map(Level::signal).collect()
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        self.compared().map(|level| level.observe(teacher)).collect()
    }

    fn is_recordable(&self) -> bool {
        true
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let Lfcc { alpha, beta, temperature, .. } = self.settings;
        let _float32 = autocast_off(step.student.logits.device())?;
        let mut terms = Terms::default();
        push_kd(&mut terms, step, alpha, temperature)?;
        if beta > 0.0 {
            terms.push("con", beta, self.contrasts(step)?);
        }
        Ok(terms)
    }
}
