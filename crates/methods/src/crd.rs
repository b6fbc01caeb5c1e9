//! CRD: contrastive representation distillation (Tian et al. 2020, arXiv 1910.10699, equations 10 to 19).
//!
//! ```text
//! v_s = normalize( W_s f_s + b_s ),   v_t = normalize( W_t f_t + b_t )                        (B,D)
//! bank:   one row M_s[i], M_t[i] (D) for every training image, M[i] <- normalize( m M[i] + (1-m) v_i ) after its step
//!         g(i,j) = exp( v_i . M[j] / tau ) / Z                         Z: N times the mean of exp over the first batch
//!         l(v, M) = -1/B sum_i ( log( g(i,i) / (g(i,i) + K/N) )
//!                                + sum over K images j of other classes of log( (K/N) / (g(i,j) + K/N) ) )
//!         L_crd = l(v_s, M_t) + l(v_t, M_s)
//! batch:  L_crd = CE over j of v_s,i . v_t,j / tau at j = i, and the same from the teacher's side
//!                                                                                  j: images of other classes, and i
//! ```
//! With `draw = "shared"`, one draw of K images serves the whole batch. Each image uses those of other classes, with
//! their sum scaled to K. The expectation equals that of K draws for each image (`"own"`, as in the authors' code), at
//! 1/B of the memory traffic.
use std::cell::Cell;

use heterodyne_nn::{
    Error, Output, Result, TapSpec, Terms,
    layers::Linear,
    shim::{NoGrad, Rng},
};
use heterodyne_settings::{choice, settings};
use tch::{Kind, Reduction, Tensor};

use crate::{
    BuildContext, Context, Method, MethodSettings, Ranks, Signal,
    parts::{
        Bank, Others, TensorExt, autocast_off, check_batch, embedding, embedding_signal, embeddings, normalize,
        observe_embedding, part_input, signal, training,
    },
};

/// Marks a logarithm that has not been estimated yet; exact in float32.
const UNKNOWN: f64 = -65536.0;

choice! { enum Contrast { Bank, Batch } }

choice! { enum Draw { Shared, Own } }

settings! {
    /// Contrastive representation distillation.
    pub struct Crd {
        /// Width of both embeddings, D.
        dim: i64 = 128, ThirdParty, count;
        /// Temperature of the similarities.
        tau: f64 = 0.07, ThirdParty, positive;
        /// What an image is contrasted with: "bank", a memory of all training images (the paper), or "batch", the
        /// images of its batch, which needs no memory (ours).
        contrast: Contrast = Contrast::Bank, Published;
        /// Negatives drawn from the bank, K: images of other classes.
        num_negatives: i64 = 16384, Published, count;
        /// Share of the old row when the bank is refreshed.
        momentum: f64 = 0.5, ThirdParty, between(0.0, 1.0);
        /// "shared" draws the negatives once for a batch, which is faster; "own" draws them for each image, as the
        /// authors do.
        draw: Draw = Draw::Shared, Ours;
    }
}

impl MethodSettings for Crd {
    const NAME: &str = "crd";
    const SOURCE: &str = "Tian et al. 2020 (arXiv 1910.10699)";

    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        embeddings(Self::NAME, student, teacher)?;
        if self.contrast == Contrast::Batch { check_batch(Self::NAME, batch) } else { Ok(()) }
    }

    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>> {
        let BuildContext { scope, student, teacher, sample_classes, ranks } = *pair;
        if ranks.size() > 1 && self.contrast == Contrast::Bank {
            self.check_shared(sample_classes.len(), ranks)?;
        }
        let (d_s, d_t) = embeddings(Self::NAME, student, teacher)?;
        let side = |name: &str, width| {
            let scope = scope.sub(name);
            let memory = || {
                let bank = Bank::new(&scope, "bank", sample_classes.len(), self.dim, self.momentum, ranks)?;
                Ok::<_, Error>(Memory { bank, log_z: scope.buffer("log_z", &[1], UNKNOWN)?, settled: Cell::new(false) })
            };
            Ok::<_, Error>(Side {
                embed: Linear::new(&scope.sub("embed"), width, self.dim)?,
                memory: (self.contrast == Contrast::Bank).then(memory).transpose()?,
            })
        };
        Ok(Box::new(CrdLoss {
            settings: self.clone(),
            student: side("student", d_s)?,
            teacher: side("teacher", d_t)?,
            others: Others::new(Self::NAME, sample_classes, scope.device())?,
            width: d_t,
            seed: scope.seed(),
            kind: scope.kind(),
        }))
    }
}

impl Crd {
    /// Rejects what several processes cannot do with a bank of `n` rows.
    fn check_shared(&self, n: usize, ranks: &dyn Ranks) -> Result<()> {
        if self.draw == Draw::Own {
            return Err(Error::invalid(
                "crd: several processes share the bank, and draw = \"own\" would send most of it in every step; use \
                 draw = \"shared\"",
            ));
        }
        if (n as i64) < ranks.size() {
            return Err(Error::invalid(format!("crd: {n} training images are fewer than {} processes", ranks.size())));
        }
        Ok(())
    }
}

struct CrdLoss {
    settings: Crd,
    student: Side,
    teacher: Side,
    others: Others,
    /// Width of the teacher's embedding.
    width: i64,
    seed: u64,
    kind: Kind,
}

/// The parts of one network.
struct Side {
    embed: Linear,
    memory: Option<Memory>,
}

/// One network's vectors of all training images.
struct Memory {
    bank: Bank,
    /// log Z for comparisons with this bank (1); [`UNKNOWN`] until the first batch.
    log_z: Tensor,
    /// Whether Z is known; read from the device only once after a start or a resume.
    settled: Cell<bool>,
}

impl Memory {
    /// log Z, estimated by `first` on the first batch of training and fixed afterwards.
    fn log_z(&self, training: bool, first: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        if !self.settled.get() {
            let _guard = NoGrad::new();
            if self.log_z.double_value(&[0]) == UNKNOWN {
                let first = first()?;
                if !training {
                    return Ok(first);
                }
                self.log_z.shallow_clone().copy_(&first);
            }
            self.settled.set(true);
        }
        Ok(self.log_z.shallow_clone())
    }
}

/// The negatives of a batch.
struct Negatives {
    /// int64 (K) for the whole batch, or (B,K).
    index: Tensor,
    /// For a shared draw: the weight of each negative for each image, (B,K); each row sums to K.
    weight_bk: Option<Tensor>,
}

impl CrdLoss {
    /// Depends only on the run's seed and the step, so a resumed run draws the same negatives.
    fn negatives(&self, index_b: &Tensor, step: u64) -> Result<Negatives> {
        let k = self.settings.num_negatives;
        let rng = Rng::new(self.seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Ok(match self.settings.draw {
            Draw::Own => Negatives { index: self.others.draw_for_each(index_b, k, &rng)?, weight_bk: None },
            Draw::Shared => {
                let index = self.others.draw(k, &rng)?;
                let differ_bk = self.others.is_negative(index_b, &index).to_kind(self.kind);
                let num_b1 = differ_bk.sum_keepdim(1);
                Negatives { index, weight_bk: Some(differ_bk * k as f64 / num_b1.clamp_min(1.0)) }
            }
        })
    }

    /// l(v, M): contrasts one network's vectors with the other's bank. `all_b` are the images of all processes.
    fn against_bank(
        &self,
        v_bd: &Tensor,
        memory: &Memory,
        all_b: &Tensor,
        negatives: &Negatives,
        ranks: &dyn Ranks,
    ) -> Result<Tensor> {
        let Crd { tau, num_negatives, draw, .. } = self.settings;
        let rows = memory.bank.read(&negatives.index, ranks)?;
        let negative_bk = match draw {
            Draw::Shared => v_bd.matmul(&rows.transpose(0, 1)),
            Draw::Own => rows.matmul(&v_bd.unsqueeze(2)).squeeze_dim(2),
        } / tau;
        let batch = v_bd.size()[0];
        let own_bd = memory.bank.read(all_b, ranks)?.narrow(0, ranks.rank() * batch, batch);
        let positive_b = (v_bd * own_bd).sum_over(1) / tau;

        let (b, n, k) = (batch as f64, self.others.num_images() as f64, num_negatives as f64);
        let log_z = memory.log_z(training(), || {
            let counted = negatives
                .weight_bk
                .as_ref()
                .map_or_else(|| negative_bk.shallow_clone(), |weight_bk| &negative_bk + weight_bk.log());
            let all = Tensor::cat(&[&positive_b, &counted.flatten(0, -1)], 0);
            let all = ranks.gather(&all.logsumexp([0i64].as_slice(), true))?.logsumexp([0i64].as_slice(), true);
            Ok(all + (n / (b * ranks.size() as f64 * (k + 1.0))).ln())
        })?;
        // With x = log g - log(K/N):  -log( g / (g + K/N) ) = softplus(-x),  -log( (K/N) / (g + K/N) ) = softplus(x).
        let shift = log_z + (k / n).ln();
        let pull_b = (&shift - &positive_b).softplus();
        let push_bk = (&negative_bk - &shift).softplus();
        let push_bk =
            negatives.weight_bk.as_ref().map_or_else(|| push_bk.shallow_clone(), |weight_bk| &push_bk * weight_bk);
        Ok((pull_b.sum_all() + push_bk.sum_all()) / b)
    }

    /// The loss within the batch, from both sides.
    fn within_batch(&self, v_s: &Tensor, v_t: &Tensor, index_b: &Tensor) -> Tensor {
        let own_b = Tensor::arange(v_s.size()[0], (Kind::Int64, v_s.device()));
        let same_bb = self.others.is_negative(index_b, index_b).logical_not().fill_diagonal_(0, false);
        let m_bb = (v_s.matmul(&v_t.transpose(0, 1)) / self.settings.tau).masked_fill(&same_bb, f64::NEG_INFINITY);
        let contrast = |m_bb: &Tensor| m_bb.cross_entropy_loss::<Tensor>(&own_b, None, Reduction::Mean, -100, 0.0);
        contrast(&m_bb) + contrast(&m_bb.transpose(0, 1))
    }
}

impl Method for CrdLoss {
    fn signals(&self) -> Vec<Signal> {
        vec![embedding_signal(self.width)]
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        Ok(vec![observe_embedding(teacher, self.kind)?])
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let e_s = self.student.embed.forward(&part_input(embedding(step.student, "student")?, self.kind)?);
        let e_t = self.teacher.embed.forward(&part_input(&signal(step.teacher, 0, self.kind)?, self.kind)?);
        let _float32 = autocast_off(e_s.device())?;
        let (v_s, v_t) = (normalize(&e_s.to_kind(self.kind)), normalize(&e_t.to_kind(self.kind)));
        let index_b = self.index(step.samples, v_s.size()[0])?.f_to(v_s.device())?;
        let ranks = step.ranks;
        let all_b = ranks.gather(&index_b)?;
        let mut terms = Terms::default();
        match (&self.student.memory, &self.teacher.memory) {
            (Some(student), Some(teacher)) => {
                let negatives = self.negatives(&index_b, step.progress.step)?;
                let value = self.against_bank(&v_s, teacher, &all_b, &negatives, ranks)?
                    + self.against_bank(&v_t, student, &all_b, &negatives, ranks)?;
                if training() {
                    student.bank.refresh(&all_b, &ranks.gather(&v_s.detach())?, ranks)?;
                    teacher.bank.refresh(&all_b, &ranks.gather(&v_t.detach())?, ranks)?;
                }
                terms.push("crd", 1.0, value);
            }
            _ => terms.push("crd", 1.0, self.within_batch(&ranks.gather(&v_s)?, &ranks.gather(&v_t)?, &all_b)),
        }
        Ok(terms)
    }
}

impl CrdLoss {
    /// The training indices of a batch's images, int64 (B), on the CPU.
    fn index(&self, samples: &[usize], batch: i64) -> Result<Tensor> {
        let n = self.others.num_images();
        if samples.len() as i64 != batch || samples.iter().any(|&sample| sample as i64 >= n) {
            return Err(Error::invalid(format!(
                "crd keeps a row for each of {n} training images, but a batch of {batch} has the indices {samples:?}"
            )));
        }
        Ok(Tensor::f_from_slice(&samples.iter().map(|&sample| sample as i64).collect::<Vec<_>>())?)
    }
}
