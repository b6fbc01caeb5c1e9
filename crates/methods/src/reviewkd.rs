//! ReviewKD: distilling knowledge via knowledge review (Chen et al. 2021, arXiv 2104.09044, section 3 and figure 3).
//!
//! From the deepest level up, the fused features of the deeper levels are merged into the next shallower level and
//! compared there:
//!
//! ```text
//! ABF:  x = BN( 1x1( X_s^l ) )                                              (B, M, H_s, W_s)
//!       a = sigmoid( 1x1( [x, up(r)] ) ),  r' = a_1 x + a_2 up(r)           r: output of the deeper level;
//!                                                                           at the deepest level r' = x
//!       Y^l = BN( 3x3( r' resampled to the teacher's grid ) )               (B, C_t, H_t, W_t)
//! HCL:  h(Y, X) = sum_k w_k mean( ( pool_k Y - pool_k X )^2 ) / sum_k w_k   k: the whole grid, 4x4, 2x2, 1x1;
//!                                                                           w = 1, 1/2, 1/4, 1/8
//! L_review = sum over levels of h(Y^l, X_t^l)
//! ```
//! With `embedding`, the pooled embeddings are the deepest level, with a 1x1 grid, as in the authors' classification
//! experiments. up and the resampling use nearest-neighbour interpolation. Pools that are not smaller than the
//! teacher's grid are omitted.
//!
//! The authors compare with the teacher's maps before their last ReLU. Here the comparison uses the tap, as in every
//! other method; in ResNets, VGG and ShuffleNets it comes after the ReLU. A tap before the ReLU would need a second tap
//! in every network, so it is not offered.
use heterodyne_nn::{
    Init, Output, Result, Scope, TapSpec, Terms,
    layers::{BatchNorm2d, Conv, Conv2d},
};
use heterodyne_settings::settings;
use tch::{Kind, Reduction, Tensor};

use crate::{
    BuildContext, Context, Method, MethodSettings, Signal,
    parts::{
        Levels, TensorExt, autocast_off, check_norm, embedding, embedding_signal, embeddings, observe_embedding,
        part_input, signal, stage, stage_pairs, training,
    },
};

/// Pools of the hierarchical context loss in addition to the whole grid.
const POOLS: [i64; 3] = [4, 2, 1];

settings! {
    /// Knowledge review.
    pub struct Review {
        /// Stages that are reviewed; "layers" means all except a stem.
        levels: Levels = Levels::every(), ThirdParty;
        /// Takes the pooled embeddings as the deepest level.
        embedding: bool = true, ThirdParty;
        /// Upper limit for the width of the fused features, M, which is otherwise that of the student's deepest level.
        max_width: i64 = 512, ThirdParty, count;
    }
}

/// The source of a level's features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Stage(usize),
    Embedding,
}

/// One level of both networks: channels and grids.
#[derive(Clone, Copy, Debug)]
struct Level {
    place: Place,
    student: (i64, (i64, i64)),
    teacher: (i64, (i64, i64)),
}

impl Review {
    /// The levels from deep to shallow.
    fn review(&self, student: &TapSpec, teacher: &TapSpec) -> Result<Vec<Level>> {
        let mut pairs = stage_pairs(Self::NAME, &self.levels, student, teacher)?;
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.level));
        let mut levels = Vec::new();
        if self.embedding {
            let (d_s, d_t) = embeddings(Self::NAME, student, teacher)?;
            levels.push(Level { place: Place::Embedding, student: (d_s, (1, 1)), teacher: (d_t, (1, 1)) });
        }
        levels.extend(pairs.iter().map(|pair| Level {
            place: Place::Stage(pair.level),
            student: (pair.student.channels, pair.student.grid),
            teacher: (pair.teacher.channels, pair.teacher.grid),
        }));
        Ok(levels)
    }
}

impl MethodSettings for Review {
    const NAME: &str = "reviewkd";
    const SOURCE: &str = "Chen et al. 2021 (arXiv 2104.09044)";

    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        for level in self.review(student, teacher)? {
            check_norm(Self::NAME, &format!("the fusion of {}", level.place.name()), batch, level.student.1)?;
            check_norm(Self::NAME, &format!("the fusion of {}", level.place.name()), batch, level.teacher.1)?;
        }
        Ok(())
    }

    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>> {
        let BuildContext { scope, student, teacher, .. } = *pair;
        let levels = self.review(student, teacher)?;
        let width = levels.first().map_or(1, |deepest| deepest.student.0.min(self.max_width));
        let fusion = |(i, level): (usize, &Level)| Fusion::new(&scope.sub(level.place.scope()), *level, width, i > 0);
        let fusions = levels.iter().enumerate().map(fusion).collect::<Result<_>>()?;
        Ok(Box::new(ReviewLoss { fusions, kind: scope.kind() }))
    }
}

impl Place {
    fn name(self) -> String {
        match self {
            Self::Stage(level) => format!("stage {level}"),
            Self::Embedding => "the embedding".to_owned(),
        }
    }

    fn scope(self) -> String {
        match self {
            Self::Stage(level) => format!("level{level}"),
            Self::Embedding => "embedding".to_owned(),
        }
    }

    /// As a map (B,C,H,W).
    fn read(self, output: &Output, side: &str) -> Result<Tensor> {
        match self {
            Self::Stage(level) => Ok(stage(output, level, side)?.to_map()),
            Self::Embedding => Ok(embedding(output, side)?.unsqueeze(-1).unsqueeze(-1)),
        }
    }
}

/// Attention-based fusion at one level.
struct Fusion {
    level: Level,
    reduce: (Conv2d, BatchNorm2d),
    /// `None` at the deepest level, which has no deeper input.
    attention: Option<Attention>,
    expand: (Conv2d, BatchNorm2d),
}

impl Fusion {
    fn new(scope: &Scope, level: Level, width: i64, fuses: bool) -> Result<Self> {
        // kaiming_uniform_ with a = 1, the authors' choice.
        let normed = |name: &str, kernel: i64, from: i64, to: i64| {
            let bound = (3.0 / (from * kernel * kernel) as f64).sqrt();
            let scope = scope.sub(name);
            let conv = Conv2d::new(&scope.sub("conv"), from, to, Conv::same(kernel).init(Init::Uniform { bound }))?;
            Ok::<_, heterodyne_nn::Error>((conv, BatchNorm2d::new(&scope.sub("norm"), to)?))
        };
        Ok(Self {
            level,
            reduce: normed("reduce", 1, level.student.0, width)?,
            attention: fuses.then(|| Attention::new(&scope.sub("attention"), width)).transpose()?,
            expand: normed("expand", 3, width, level.teacher.0)?,
        })
    }

    /// Returns the features to compare with the teacher, and the features for the next shallower level.
    fn forward(&self, x_bchw: &Tensor, deeper: Option<&Tensor>) -> (Tensor, Tensor) {
        let apply = |(conv, norm): &(Conv2d, BatchNorm2d), x: &Tensor| norm.forward(&conv.forward(x), training());
        let x = apply(&self.reduce, x_bchw);
        let fused = match (&self.attention, deeper) {
            (Some(attention), Some(deeper)) => {
                let a = attention.forward(&x, deeper);
                x * a.narrow(1, 0, 1) + nearest(deeper, self.level.student.1) * a.narrow(1, 1, 1)
            }
            _ => x,
        };
        (apply(&self.expand, &nearest(&fused, self.level.teacher.1)), fused)
    }
}

/// sigmoid( 1x1( [x, up(r)] ) ), two attention maps. A 1x1 convolution commutes with nearest-neighbour upsampling, so
/// r's part is computed on r's own grid, without concatenation.
struct Attention {
    weight: Tensor,
    bias: Tensor,
}

impl Attention {
    fn new(scope: &Scope, width: i64) -> Result<Self> {
        let bound = 1.0 / (2.0 * width as f64).sqrt();
        Ok(Self {
            weight: scope.param("weight", &[2, 2 * width, 1, 1], Init::TorchDefault)?,
            bias: scope.param("bias", &[2], Init::Uniform { bound })?,
        })
    }

    /// (B,2,H,W) on the grid of `x`.
    fn forward(&self, x_bchw: &Tensor, deeper: &Tensor) -> Tensor {
        let width = x_bchw.size()[1];
        let part = |x: &Tensor, first: i64, bias: Option<&Tensor>| {
            x.conv2d(&self.weight.narrow(1, first, width), bias, [1, 1], [0, 0], [1, 1], 1)
        };
        let grid = (x_bchw.size()[2], x_bchw.size()[3]);
        (part(x_bchw, 0, Some(&self.bias)) + nearest(&part(deeper, width, None), grid)).sigmoid()
    }
}

/// Resamples (B,C,H,W) to another grid by nearest neighbour.
fn nearest(x_bchw: &Tensor, (h, w): (i64, i64)) -> Tensor {
    if x_bchw.size()[2..] == [h, w] { x_bchw.shallow_clone() } else { x_bchw.upsample_nearest2d([h, w], None, None) }
}

/// The hierarchical context loss of two maps of equal shape.
fn context_loss(y_bchw: &Tensor, x_bchw: &Tensor) -> Tensor {
    let side = x_bchw.size()[2].min(x_bchw.size()[3]);
    let pools = || (1..).zip(POOLS.into_iter().filter(|&pool| pool < side)).map(|(i, pool)| (0.5f64.powi(i), pool));
    let whole = y_bchw.mse_loss(x_bchw, Reduction::Mean);
    let sum = pools().fold(whole, |sum, (weight, pool)| {
        let pooled = |x: &Tensor| x.adaptive_avg_pool2d([pool, pool]);
        sum + pooled(y_bchw).mse_loss(&pooled(x_bchw), Reduction::Mean) * weight
    });
    sum / (1.0 + pools().map(|(weight, _)| weight).sum::<f64>())
}

struct ReviewLoss {
    /// From deep to shallow.
    fusions: Vec<Fusion>,
    kind: Kind,
}

impl Method for ReviewLoss {
    fn signals(&self) -> Vec<Signal> {
        let of = |f: &Fusion| {
            let (channels, (h, w)) = f.level.teacher;
            match f.level.place {
                Place::Stage(level) => Signal { name: format!("stage{level} as a map"), shape: vec![channels, h, w] },
                Place::Embedding => embedding_signal(channels),
            }
        };
        self.fusions.iter().map(of).collect()
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        let of = |f: &Fusion| match f.level.place {
            Place::Stage(_) => Ok(f.level.place.read(teacher, "teacher")?.detach().to_kind(self.kind)),
            Place::Embedding => observe_embedding(teacher, self.kind),
        };
        self.fusions.iter().map(of).collect()
    }

    fn is_recordable(&self) -> bool {
        true
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let mut losses = Vec::with_capacity(self.fusions.len());
        let mut deeper = None;
        for (i, fusion) in self.fusions.iter().enumerate() {
            let x_bchw = part_input(&fusion.level.place.read(step.student, "student")?, self.kind)?;
            let (y_bchw, fused) = fusion.forward(&x_bchw, deeper.as_ref());
            deeper = Some(fused);
            let _float32 = autocast_off(y_bchw.device())?;
            let y_bchw = y_bchw.to_kind(self.kind);
            losses.push(context_loss(&y_bchw, &signal(step.teacher, i, self.kind)?.reshape(y_bchw.size())));
        }
        let mut terms = Terms::default();
        terms.push("review", 1.0, Tensor::stack(&losses, 0).sum_all());
        Ok(terms)
    }
}
