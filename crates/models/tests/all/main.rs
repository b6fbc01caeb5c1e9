//! Tests of the networks: comparisons with timm, properties of the whole registry, and weights that do and do not fit.
mod foreign;
mod frozen;
mod golden;
mod initial;
mod options;
mod package;
mod registry;
mod support;
mod weights;
