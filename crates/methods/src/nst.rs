//! NST: knowledge distillation via neuron selectivity transfer (Huang and Wang 2017, arXiv 1707.01219, equations 4 to
//! 6).
//!
//! ```text
//! X at the smaller of both grids, by averaging;  f_c = vec(x_c) / |x_c|          the positions that channel c selects
//! k(a,b) = (a . b)^2
//! L_nst  = sum over levels of  mean_cc' k(f_s, f_s) + mean_cc' k(f_t, f_t) - 2 mean_cc' k(f_s, f_t)
//! ```
//! This is the squared maximum mean discrepancy (MMD) between the two sets of channels under the polynomial kernel; the
//! numbers of channels may differ. The usual weight is 50.
use heterodyne_nn::{Result, Scope};
use heterodyne_settings::settings;
use tch::Tensor;

use crate::{
    Signal, StageLoss,
    parts::{Levels, StagePair, TensorExt, averaged},
};

settings! {
    /// Neuron selectivity transfer.
    pub struct Nst {
        /// Stages whose channels are compared, summed; "layers" means all except a stem.
        levels: Levels = Levels::every(), ThirdParty;
    }
}

/// f (B,C,N) of a map (B,C,H,W).
fn selectivity(x_bchw: &Tensor, grid: (i64, i64)) -> Tensor {
    let x = averaged(x_bchw, grid).flatten(2, 3);
    &x / x.norm_keepdim(2)
}

/// The mean of k over images and pairs of channels.
fn kernel(a_bcn: &Tensor, b_bcn: &Tensor) -> Tensor {
    a_bcn.bmm(&b_bcn.transpose(1, 2)).square().mean_all()
}

impl StageLoss for Nst {
    const NAME: &str = "nst";
    const SOURCE: &str = "Huang and Wang 2017 (arXiv 1707.01219)";
    const TERM: &str = "selectivity";
    type Parts = ();

    fn levels(&self) -> &Levels {
        &self.levels
    }

    fn parts(&self, _: &Scope, _: &StagePair) -> Result<()> {
        Ok(())
    }

    fn signal(pair: &StagePair) -> Signal {
        let (h, w) = pair.common_grid();
        let name = format!("channels of stage{} on {h}x{w}", pair.level);
        Signal { name, shape: vec![pair.teacher.channels, h * w] }
    }

    fn observe(pair: &StagePair, x_t: &Tensor) -> Tensor {
        selectivity(x_t, pair.common_grid())
    }

    fn loss(&self, pair: &StagePair, (): &(), x_s: &Tensor, f_t: &Tensor) -> Tensor {
        let f_s = selectivity(x_s, pair.common_grid());
        kernel(&f_s, &f_s) + kernel(f_t, f_t) - kernel(&f_s, f_t) * 2.0
    }
}
