//! AT: paying more attention to attention (Zagoruyko and Komodakis 2017, arXiv 1612.03928, section 3.1).
//!
//! ```text
//! X at the smaller of both grids, by averaging
//! Q(X)  = vec( sum_c x_c^2 ),   q = Q / |Q|                (B,N)
//! L_at  = sum over levels of  mean( (q_s - q_t)^2 )        as in RepDistiller, with weight 1000
//! ```
use heterodyne_nn::{Result, Scope};
use heterodyne_settings::settings;
use tch::{Reduction, Tensor};

use crate::{
    Signal, StageLoss,
    parts::{Levels, StagePair, TensorExt, averaged},
};

settings! {
    /// Attention transfer.
    pub struct At {
        /// Stages whose attention is compared, summed; "layers" means all except a stem.
        levels: Levels = Levels::every(), ThirdParty;
    }
}

/// q (B,N) of a map (B,C,H,W).
fn attention(x_bchw: &Tensor, grid: (i64, i64)) -> Tensor {
    let q = averaged(x_bchw, grid).square().sum_over(1).flatten(1, 2);
    &q / q.norm_keepdim(1)
}

impl StageLoss for At {
    const NAME: &str = "at";
    const SOURCE: &str = "Zagoruyko and Komodakis 2017 (arXiv 1612.03928)";
    const TERM: &str = "attention";
    type Parts = ();

    fn levels(&self) -> &Levels {
        &self.levels
    }

    fn parts(&self, _: &Scope, _: &StagePair) -> Result<()> {
        Ok(())
    }

    fn signal(pair: &StagePair) -> Signal {
        let (h, w) = pair.common_grid();
        Signal { name: format!("attention of stage{} on {h}x{w}", pair.level), shape: vec![h * w] }
    }

    fn observe(pair: &StagePair, x_t: &Tensor) -> Tensor {
        attention(x_t, pair.common_grid())
    }

    fn loss(&self, pair: &StagePair, (): &(), x_s: &Tensor, q_t: &Tensor) -> Tensor {
        attention(x_s, pair.common_grid()).mse_loss(q_t, Reduction::Mean)
    }
}
