//! Networks with timm's parameter names: a configuration table, blocks and a forward pass per file, and nothing else.
//! Adding a model is a row in a table; adding a family is one file and one word in the list below.

use std::path::Path;

use heterodyne_nn::{LoadReport, Network, ParamStore, Result, Scope, config::KeyError};
use tch::Device;

/// How images are to be presented to a network that comes with timm's weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    /// Side of the square input in pixels.
    pub img: i64,
    /// Mean of the channels R, G, B, in [0,1].
    pub mean: [f64; 3],
    /// Standard deviation of the channels.
    pub std: [f64; 3],
    /// Share of the shorter side that the centre crop of an evaluation keeps.
    pub crop: f64,
}
