//! Shared by networks on patches: the patch embedding, and the choice of tapped blocks.
use heterodyne_nn::{
    Error, Init, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{Frozen, Post},
    shim::packed::PackedConv,
};
use heterodyne_settings::{Checked, KeyError};
use tch::Tensor;

use crate::Request;

/// A convolution whose stride equals its kernel size: `proj.weight` (D,3,p,p) and `proj.bias` (D).
#[derive(Debug)]
pub struct PatchEmbed {
    weight: Tensor,
    bias: Tensor,
    patch: i64,
    frozen: Frozen<PackedConv>,
}

impl PatchEmbed {
    pub fn new(scope: &Scope, patch: i64, d: i64, weight: Init, bias: Init) -> Result<Self> {
        let scope = scope.sub("proj");
        let weight = scope.param("weight", &[d, 3, patch, patch], weight)?;
        Ok(Self { weight, bias: scope.param("bias", &[d], bias)?, patch, frozen: Frozen::default() })
    }

    /// (B,3,H,W) to (B,N,D), row by row.
    pub fn forward(&self, x_bchw: &Tensor) -> Tensor {
        let Self { weight, bias, patch, frozen } = self;
        let map = match frozen.get(&[weight, bias], |kind| PackedConv::new(weight, Some(bias), *patch, 0, 1, kind)) {
            Some(packed) => packed.forward(x_bchw, Post::None).unwrap_or_else(|e| panic!("{e}")),
            None => x_bchw.conv2d(weight, Some(bias), [*patch; 2], [0, 0], [1, 1], 1),
        };
        map.flatten(2, 3).transpose(1, 2)
    }
}

/// Patches along one side of an image.
pub fn grid(img: i64, patch: i64) -> Result<i64> {
    if img % patch == 0 {
        return Ok(img / patch);
    }
    let (below, above) = (img / patch * patch, (img / patch + 1) * patch);
    let nearest = if below == 0 {
        format!("the smallest size is {above}")
    } else {
        format!("the nearest sizes are {below} and {above}")
    };
    Err(Error::invalid(format!(
        "an image of {img} px cannot be divided into patches of {patch} px: {nearest}; change `img` or `patch`"
    )))
}

/// The depths (in blocks, from 1) at which a network of `depth` >= 4 blocks is tapped: 1/6, 1/3, 5/6 and all of its
/// blocks, rounded and distinct. At depth 12 these are the blocks 1, 3, 9 and 11 (from 0) of OFA-KD (Hao et al. 2023).
pub fn tap_depths(depth: i64) -> [i64; 4] {
    let first = (depth + 3) / 6;
    let second = ((2 * depth + 3) / 6).max(first + 1);
    let third = ((5 * depth + 3) / 6).min(depth - 1);
    [first, second, third, depth]
}

/// Four equal stages, for a token sequence of constant width.
pub fn taps(prefix: i64, channels: i64, grid: i64, request: &Request) -> TapSpec {
    let stage = StageSpec { kind: StageKind::Tokens { prefix }, channels, grid: (grid, grid) };
    TapSpec { stages: vec![stage; 4], stem: false, embedding: Some(channels), classes: request.classes }
}

/// Refuses a number of heads that does not divide the width.
pub fn divides(heads: i64, dim: i64) -> Checked {
    if dim % heads == 0 {
        return Ok(());
    }
    let message = format!("a width of {dim} cannot be split into {heads} heads; `heads` must divide `dim`");
    Err(KeyError::new("heads", message))
}

/// Beyond these a slip of the keyboard would fill the memory before anything is said.
pub const MAX_BLOCKS: i64 = 1000;
pub const MAX_SIZE: i64 = 65536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_lie_where_ofa_puts_them_and_are_distinct_at_any_depth() {
        assert_eq!(tap_depths(12).map(|d| d - 1), [1, 3, 9, 11]);
        assert_eq!(tap_depths(24).map(|d| d - 1), [3, 7, 19, 23]);
        assert_eq!(tap_depths(4), [1, 2, 3, 4]);
        for depth in 4..100 {
            let taps = tap_depths(depth);
            assert!(taps[0] >= 1 && taps.windows(2).all(|w| w[0] < w[1]) && taps[3] == depth, "{depth}: {taps:?}");
        }
    }
}
