//! Feature maps of all network families, and the only conversions between their shapes.
use tch::{Kind, Tensor};

/// The output of one stage of a network.
#[derive(Debug)]
pub enum FeatureMap {
    /// A spatial map (B,C,H,W).
    Map(Tensor),
    /// A token sequence (B, prefix + H*W, C), row-major over the grid; the prefix holds class and distillation tokens.
    Tokens {
        /// The sequence, prefix included.
        tokens: Tensor,
        /// Number of leading tokens without a position in the image.
        prefix: i64,
        /// Rows and columns of the grid.
        grid: (i64, i64),
    },
}

impl FeatureMap {
    /// The tensor in the network's own shape: (B,C,H,W) or (B, prefix + H*W, C).
    pub fn tensor(&self) -> &Tensor {
        match self {
            Self::Map(x_bchw) => x_bchw,
            Self::Tokens { tokens, .. } => tokens,
        }
    }

    /// As a spatial map (B,C,H,W): prefix tokens are dropped, the rest is folded onto its grid. A view where possible.
    pub fn to_map(&self) -> Tensor {
        match self {
            Self::Map(x_bchw) => x_bchw.shallow_clone(),
            Self::Tokens { tokens, prefix, grid: (h, w) } => {
                let n = h * w;
                tokens.narrow(1, *prefix, n).transpose(1, 2).reshape([tokens.size()[0], tokens.size()[2], *h, *w])
            }
        }
    }

    /// As a sequence of positions (B,H*W,C), without prefix tokens. A view where possible.
    pub fn to_tokens(&self) -> Tensor {
        match self {
            Self::Map(x_bchw) => x_bchw.flatten(2, 3).transpose(1, 2),
            Self::Tokens { tokens, prefix, grid: (h, w) } => tokens.narrow(1, *prefix, h * w),
        }
    }

    /// The mean over positions (B,C), without prefix tokens.
    pub fn pooled(&self) -> Tensor {
        match self {
            // In this order the gradient has its channels innermost too, like the map's other gradients, to which it is
            // added.
            Self::Map(x_bchw) => x_bchw.permute([0, 2, 3, 1]).mean_dim([1i64, 2].as_slice(), false, None::<Kind>),
            Self::Tokens { .. } => self.to_tokens().mean_dim([1i64].as_slice(), false, None::<Kind>),
        }
    }

    /// Another handle to the same values, in the same graph.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        match self {
            Self::Map(x) => Self::Map(x.shallow_clone()),
            Self::Tokens { tokens, prefix, grid } => {
                Self::Tokens { tokens: tokens.shallow_clone(), prefix: *prefix, grid: *grid }
            }
        }
    }

    /// The same values, detached from the graph.
    #[must_use]
    pub fn detach(&self) -> Self {
        match self {
            Self::Map(x) => Self::Map(x.detach()),
            Self::Tokens { tokens, prefix, grid } => {
                Self::Tokens { tokens: tokens.detach(), prefix: *prefix, grid: *grid }
            }
        }
    }

    /// Kind, channels and grid, read from the tensor.
    #[must_use]
    pub fn spec(&self) -> StageSpec {
        match self {
            Self::Map(x) => {
                let size = x.size();
                StageSpec { kind: StageKind::Map, channels: size[1], grid: (size[2], size[3]) }
            }
            Self::Tokens { tokens, prefix, grid } => {
                StageSpec { kind: StageKind::Tokens { prefix: *prefix }, channels: tokens.size()[2], grid: *grid }
            }
        }
    }
}

/// Whether a stage is a spatial map or a token sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageKind {
    /// (B,C,H,W)
    Map,
    /// (B, prefix + H*W, C)
    Tokens {
        /// Number of leading tokens without a position in the image.
        prefix: i64,
    },
}

/// The shape of a stage, known before a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageSpec {
    /// Spatial or sequence.
    pub kind: StageKind,
    /// Channels (width of a token).
    pub channels: i64,
    /// Rows and columns.
    pub grid: (i64, i64),
}

/// The taps that a network offers to distillation methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapSpec {
    /// Stages from shallow to deep; four, or none for a teacher that offers logits only.
    pub stages: Vec<StageSpec>,
    /// Whether the first stage is the stem's output, which is not counted by protocols that count layers.
    pub stem: bool,
    /// Width of the pooled penultimate embedding, if the network offers it.
    pub embedding: Option<i64>,
    /// Number of classes.
    pub classes: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn tokens_fold_onto_their_grid_without_the_prefix() {
        let x_bnc = Tensor::arange(2 * 7 * 3, (Kind::Float, Device::Cpu)).reshape([2, 7, 3]);
        let feature = FeatureMap::Tokens { tokens: x_bnc.shallow_clone(), prefix: 1, grid: (2, 3) };
        let map = feature.to_map();
        assert_eq!(map.size(), [2, 3, 2, 3]);
        // Row 1, column 2 is token 1 + 1*3 + 2.
        assert_eq!(map.double_value(&[1, 2, 1, 2]), x_bnc.double_value(&[1, 6, 2]));
        let back = FeatureMap::Map(map).to_tokens();
        assert_eq!(back, feature.to_tokens());
        assert!(feature.pooled().allclose(&FeatureMap::Map(feature.to_map()).pooled(), 1e-6, 1e-6, false));
    }
}
