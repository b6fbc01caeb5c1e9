//! HCD: heterogeneous complementary distillation (arXiv 2511.10942).
//!
//! For stages i, n sub-logits each, embeddings f_s (d_s wide) and f_t (d_t wide):
//! ```text
//! f_s^i   = P_i( X_s^i )                              (B, D)     D = max(d_s, d_t); token stages: d_s
//! u^i     = CFM_i( [ f_s^i , f_t ] )                  (B, nC)    Linear(-> d_t), ReLU, Linear(-> nC), or one Linear
//! v^{i,j} = lambda_s u^{i,j} + lambda_t z_t           (B, C)     u^{i,j}: the j-th of n contiguous chunks
//! L_gt    = sum_i mean_j CE(v^{i,j}, y)                          CE(z_s, y) is the trainer's
//! L_kd    = T^2 KL(p_t || p_s)
//! L_hcd   = sum_i mean_j T^2 KL( softmax(v^{i,j}/T) || p_s )
//! L_ol    = sum_i mean over b, j != j' of ReLU( cos(g^{i,j}, g^{i,j'}) - theta )^2
//! L       = CE + w_gt L_gt + w_kd L_kd + w_hcd L_hcd + w_ol L_ol
//! ```
//! By default, the sums over stages are means and v is detached in L_hcd; `reduce` and `detach_sub` restore the
//! equations above.
//!
//! g is v with the label's entry set to zero; a large negative number instead would make every cosine 1 and L_ol
//! constant. The label of a mixed image is the class with the largest share.
//!
//! P_i for a CNN stage: 4-i separable convolutions that halve the grid and double the channels, the last with D outputs
//! (i = 4: a 1x1 convolution), then the mean over positions. P_i for a token stage: patch merging to at most 7x7,
//! max(4-i, 1) transformer blocks of width d_s, then the mean over positions. CFM begins with a linear map, so another
//! linear map from d_s to D before it would add nothing.
//!
//! The idea is published (complementary features, shared and decomposed logits, orthogonality). The equations and
//! defaults follow a third-party implementation, except for mixed labels, token widths, the averaging over stages and
//! the detached v, which are our choice.
use heterodyne_nn::{Labels, Output, Result, Scope, TapSpec, Terms, layers::Linear};
use heterodyne_settings::{Checked, choice, range, settings};
use tch::{Kind, Tensor};

use crate::{
    BuildContext, Context, Method, MethodSettings, Signal,
    parts::{
        Head, Levels, TensorExt, autocast_off, check_classes, embedding, embeddings, float, kl_sum, push_kd, signal,
        stage, stage_spec,
    },
};

/// More sub-logits than this are a mistake: their number multiplies the number of classes.
const MAX_SUB: i64 = 1024;
/// Added inside the square root of a norm.
const NORM_EPS: f64 = 1e-12;

choice! { enum CfmKind { Mlp, Linear } }

choice! { enum Reduce { Sum, Mean } }

settings! {
    /// Heterogeneous complementary distillation.
    pub struct Hcd {
        /// Weight of the logit loss `kd`.
        w_kd: f64 = 1.0, ThirdParty;
        /// Weight of the sub-logits' cross-entropy `gt`.
        w_gt: f64 = 1.0, ThirdParty;
        /// Weight of `hcd`, the distillation from sub-logits to the student.
        w_hcd: f64 = 6.0, ThirdParty;
        /// Weight of the orthogonality loss `ol`.
        w_ol: f64 = 1.0, ThirdParty, non_negative;
        /// Temperature of `kd` and `hcd`.
        temperature: f64 = 1.0, ThirdParty, positive;
        /// The student's stages that are used.
        levels: Levels = Levels::every(), ThirdParty;
        /// Sub-logits per stage, n; with one there are no pairs and `ol` is left out.
        num_sub: i64 = 4, ThirdParty, count_to(MAX_SUB);
        /// Cosine between two sub-logits above which they are pushed apart.
        theta: f64 = 0.5, ThirdParty, between(-1.0, 1.0);
        /// Share of the complementary logits in a sub-logit.
        lambda_s: f64 = 1.0, ThirdParty, positive;
        /// Share of the teacher's logits in a sub-logit.
        lambda_t: f64 = 1.0, ThirdParty, non_negative;
        /// The complementary feature mapper: "mlp" (two linear maps with a ReLU between them) or "linear" (one).
        cfm: CfmKind = CfmKind::Mlp, ThirdParty;
        /// Stops the gradient of `hcd` to the sub-logits, so they only teach; chosen by an ablation (third-party:
        /// false).
        detach_sub: bool = true, Ours;
        /// "mean" averages the stages, "sum" adds them up, so four stages weigh four times as much against the
        /// cross-entropy; chosen by an ablation (third-party: "sum").
        reduce: Reduce = Reduce::Mean, Ours;
    }
}

impl MethodSettings for Hcd {
    const NAME: &str = "hcd";
    const SOURCE: &str = "Xu et al. 2025 (arXiv 2511.10942)";

    fn demands(&self) -> Checked {
        let w_ol = if self.num_sub > 1 { self.w_ol } else { 0.0 };
        range::weights(&[("w_kd", self.w_kd), ("w_gt", self.w_gt), ("w_hcd", self.w_hcd), ("w_ol", w_ol)])
    }

    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        check_classes(Self::NAME, student, teacher)?;
        embeddings(Self::NAME, student, teacher)?;
        let levels = self.levels.of(student, teacher);
        levels.into_iter().try_for_each(|level| Head::check(Self::NAME, level, student, teacher, batch))
    }

    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>> {
        let BuildContext { scope, student, teacher, .. } = *pair;
        let (d_s, d_t) = embeddings(Self::NAME, student, teacher)?;
        let outputs = self.num_sub * student.classes;
        let mapper = |level: usize| {
            let spec = stage_spec(Self::NAME, "student", level, student, teacher)?;
            let scope = scope.sub(format!("level{level}"));
            let head = Head::new(&scope.sub("head"), &spec, level, d_s.max(d_t), d_s)?;
            let cfm = Cfm::new(&scope.sub("cfm"), self.cfm, head.width() + d_t, d_t, outputs)?;
            Ok(Mapper { level, head, cfm })
        };
        let mappers = self.levels.of(student, teacher).into_iter().map(mapper).collect::<Result<_>>()?;
        let n = self.num_sub;
        let options = (scope.kind(), scope.device());
        let others_nn = (1.0 - Tensor::eye(n, options)) / (n * (n - 1)).max(1) as f64;
        Ok(Box::new(HcdLoss { settings: self.clone(), mappers, others_nn, teacher_width: d_t, kind: scope.kind() }))
    }
}

struct HcdLoss {
    settings: Hcd,
    mappers: Vec<Mapper>,
    /// (n,n): weights that average over the pairs j != j'.
    others_nn: Tensor,
    /// d_t
    teacher_width: i64,
    kind: Kind,
}

/// P_i and CFM_i of one stage.
struct Mapper {
    level: usize,
    head: Head,
    cfm: Cfm,
}

enum Cfm {
    Mlp(Linear, Linear),
    Linear(Linear),
}

impl Cfm {
    fn new(scope: &Scope, kind: CfmKind, inputs: i64, hidden: i64, outputs: i64) -> Result<Self> {
        Ok(match kind {
            CfmKind::Mlp => Self::Mlp(
                Linear::new(&scope.sub("fc1"), inputs, hidden)?,
                Linear::new(&scope.sub("fc2"), hidden, outputs)?,
            ),
            CfmKind::Linear => Self::Linear(Linear::new(&scope.sub("fc"), inputs, outputs)?),
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Mlp(first, second) => second.forward(&first.forward(x).relu()),
            Self::Linear(only) => only.forward(x),
        }
    }
}

impl HcdLoss {
    /// All sub-logits v, (B,S,n,C).
    fn sub_logits(&self, step: &Context) -> Result<Tensor> {
        let Hcd { num_sub, lambda_s, lambda_t, .. } = self.settings;
        let f_t = signal(step.teacher, 0, self.kind)?;
        let complementary = |mapper: &Mapper| {
            let f_s = mapper.head.forward(stage(step.student, mapper.level, "student")?)?;
            Ok(mapper.cfm.forward(&Tensor::cat(&[&f_s, &f_t.to_kind(f_s.kind())], 1)))
        };
        let u: Vec<Tensor> = self.mappers.iter().map(complementary).collect::<Result<_>>()?;
        let _float32 = autocast_off(f_t.device())?;
        let u_bsnc = Tensor::stack(&u, 1).to_kind(self.kind).unflatten(-1, [num_sub, -1]);
        let z_t = step.teacher.logits.detach().to_kind(self.kind).unsqueeze(1).unsqueeze(1);
        Ok(u_bsnc * lambda_s + z_t * lambda_t)
    }

    /// The mean cross-entropy of all sub-logits.
    fn cross_entropy(v_bsnc: &Tensor, labels: &Labels, smoothing: f64) -> Tensor {
        let [b, s, n, c] = v_bsnc.size()[..] else { panic!("sub-logits are (B,S,n,C), got {:?}", v_bsnc.size()) };
        let labels = match labels {
            Labels::Hard(index_b) => Labels::Hard(index_b.unsqueeze(1).expand([b, s * n], false).reshape([-1])),
            Labels::Soft(p_bc) => Labels::Soft(p_bc.unsqueeze(1).expand([b, s * n, c], false).reshape([-1, c])),
        };
        labels.cross_entropy(&v_bsnc.reshape([-1, c]), smoothing)
    }

    /// The mean over images, stages and pairs of sub-logits of `ReLU(cos - theta)^2`, without the label's entry.
    fn orthogonality(&self, v_bsnc: &Tensor, labels: &Labels) -> Tensor {
        let [b, s, n, _] = v_bsnc.size()[..] else { panic!("sub-logits are (B,S,n,C), got {:?}", v_bsnc.size()) };
        let g_bsnc = v_bsnc.scatter_value(3, &labels.index().reshape([b, 1, 1, 1]).expand([b, s, n, 1], false), 0.0);
        let square = g_bsnc.square().sum_keepdim(3);
        let g_bsnc = g_bsnc * (square + NORM_EPS).rsqrt();
        let cos_bsnn = g_bsnc.matmul(&g_bsnc.transpose(2, 3));
        ((cos_bsnn - self.settings.theta).relu().square() * &self.others_nn).sum_all() / (b * s) as f64
    }
}

impl HcdLoss {
    /// Whether any loss of the sub-logits has a weight.
    fn wants_sub_logits(&self) -> bool {
        let Hcd { w_gt, w_hcd, w_ol, num_sub, .. } = self.settings;
        w_gt > 0.0 || w_hcd > 0.0 || (w_ol > 0.0 && num_sub > 1)
    }
}

impl Method for HcdLoss {
    fn signals(&self) -> Vec<Signal> {
        let embedding = Signal { name: "embedding".to_owned(), shape: vec![self.teacher_width] };
        self.wants_sub_logits().then_some(embedding).into_iter().collect()
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        let f_t = || Ok(embedding(teacher, "teacher")?.detach().to_kind(self.kind));
        self.wants_sub_logits().then(f_t).into_iter().collect()
    }

    fn is_recordable(&self) -> bool {
        true
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let Hcd { w_kd, w_gt, w_hcd, w_ol, temperature, num_sub, detach_sub, reduce, .. } = self.settings;
        let z_s = &step.student.logits;
        let w_ol = if num_sub > 1 { w_ol } else { 0.0 };
        let sub_logits = self.wants_sub_logits().then(|| self.sub_logits(step)).transpose()?;
        let _float32 = autocast_off(z_s.device())?;
        let mut terms = Terms::default();
        push_kd(&mut terms, step, w_kd, temperature)?;
        let Some(v_bsnc) = sub_logits else { return Ok(terms) };
        // All terms below are means over the stages; multiplying by the number of stages gives the sum.
        let stages = if reduce == Reduce::Sum { self.mappers.len() as f64 } else { 1.0 };
        if w_gt > 0.0 {
            terms.push("gt", w_gt, Self::cross_entropy(&v_bsnc, step.labels, step.smoothing) * stages);
        }
        if w_hcd > 0.0 {
            let targets = if detach_sub { v_bsnc.detach() } else { v_bsnc.shallow_clone() };
            let [b, s, n, _] = v_bsnc.size()[..] else { panic!("sub-logits are (B,S,n,C), got {:?}", v_bsnc.size()) };
            let z_s = float(z_s).unsqueeze(1).unsqueeze(1);
            terms.push("hcd", w_hcd, kl_sum(&targets, &z_s, temperature) * (stages / (b * s * n) as f64));
        }
        if w_ol > 0.0 {
            terms.push("ol", w_ol, self.orthogonality(&v_bsnc, step.labels) * stages);
        }
        Ok(terms)
    }
}
