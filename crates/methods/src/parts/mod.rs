//! Building blocks shared by methods.

pub mod bank;
pub mod divergence;
pub mod heads;
pub mod levels;
pub mod lowpass;
pub mod mode;
pub mod ops;
pub mod pair;
pub mod pointwise;
pub mod spectrum;
pub mod vectors;

pub use bank::{Bank, Others};
pub use divergence::{kl_sum, mean, push_kd};
pub use heads::{Head, SepConv};
pub use levels::{Levels, NUM_LEVELS};
pub use lowpass::{AveragePool, LowPass, square};
pub use mode::{autocast_off, float, part_input, training};
pub use ops::TensorExt;
pub use pair::{
    StagePair, averaged, check_batch, check_classes, check_norm, embedding, embedding_signal, embeddings,
    observe_embedding, shape, signal, stage, stage_pairs, stage_spec,
};
pub use pointwise::Pointwise;
pub use spectrum::{Band, Comparison, Dft, Normalise, Origin, Representation, Scaling, Window, WindowShape};
pub use vectors::normalize;
