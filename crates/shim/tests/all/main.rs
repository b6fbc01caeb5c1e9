//! The bridge against PyTorch's formulas, written out with plain operations.
mod attention;
mod cpu;
mod depthwise;
mod flops;
mod fused;
mod norm;
mod packed;
mod profile;
mod ranks;
mod spectrum;
mod state;
mod support;
mod window;
mod winograd;
