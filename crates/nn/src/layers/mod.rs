//! Layers with PyTorch's parameter names. They only compute; the caller controls gradients and precision.
mod attention;
mod conv;
mod frozen;
mod linear;
mod norm;
mod transformer;

pub use attention::{Attention, self_attention};
pub use conv::{Conv, Conv2d};
pub use frozen::Frozen;
pub use heterodyne_shim::packed::Post;
pub use linear::Linear;
pub use norm::{BatchNorm2d, LayerNorm};
pub use transformer::{Block, BlockStyle, Mlp};
