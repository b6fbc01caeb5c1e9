//! SP: similarity-preserving distillation (Tung and Mori 2019, arXiv 1907.09682, equations 1 to 4).
//!
//! ```text
//! A = X as rows, one per image            (B, CHW)
//! G = A A^T, each row divided by its norm (B,B)
//! L_sp = sum over levels of  |G_s - G_t|_F^2 / B^2
//! ```
use heterodyne_nn::{FeatureMap, Result, Scope};
use heterodyne_settings::settings;
use tch::{Reduction, Tensor};

use crate::{
    Signal, StageLoss,
    parts::{Levels, StagePair, TensorExt, check_batch},
};

settings! {
    /// Similarity-preserving distillation.
    pub struct Sp {
        /// Stages whose similarities are compared, summed; the paper takes the last one.
        levels: Levels = Levels::Stages(vec![4]), Published;
    }
}

/// G of rows (B,N).
fn similarities(a_bn: &Tensor) -> Tensor {
    let g_bb = a_bn.mm(&a_bn.tr());
    &g_bb / g_bb.norm_keepdim(1)
}

impl StageLoss for Sp {
    const NAME: &str = "sp";
    const SOURCE: &str = "Tung and Mori 2019 (arXiv 1907.09682)";
    const TERM: &str = "similarity";
    const RELATES_IMAGES: bool = true;
    type Parts = ();

    fn levels(&self) -> &Levels {
        &self.levels
    }

    fn check(&self, _: &StagePair, batch: usize) -> Result<()> {
        check_batch(Self::NAME, batch)
    }

    fn parts(&self, _: &Scope, _: &StagePair) -> Result<()> {
        Ok(())
    }

    fn signal(pair: &StagePair) -> Signal {
        let (h, w) = pair.teacher.grid;
        Signal { name: format!("stage{} as a row", pair.level), shape: vec![pair.teacher.channels * h * w] }
    }

    /// Inner products of rows do not depend on the order of elements, so tokens need no reordering.
    fn features(x: &FeatureMap) -> Tensor {
        x.to_tokens().flatten(1, 2)
    }

    fn observe(_: &StagePair, a_t: &Tensor) -> Tensor {
        a_t.shallow_clone()
    }

    fn loss(&self, _: &StagePair, (): &(), a_s: &Tensor, a_t: &Tensor) -> Tensor {
        similarities(a_s).mse_loss(&similarities(a_t), Reduction::Mean)
    }
}
