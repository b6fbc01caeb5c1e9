//! Tests the methods against an independent implementation, finite differences, and properties of their equations.
mod bank;
mod configure;
mod finite_differences;
mod goldens;
mod hcd;
mod lfcc;
mod logits;
mod ranks;
mod relations;
mod standardise;
mod support;
mod sweep;
mod uhkd;
