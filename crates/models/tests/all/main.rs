//! Tests of the networks: against timm's numbers, over the whole registry, and with weights that do and do not fit.
mod foreign;
mod frozen;
mod golden;
mod initial;
mod options;
mod package;
mod registry;
mod support;
mod weights;
