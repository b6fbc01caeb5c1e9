//! The methods against an independent implementation, finite differences, and the properties that their equations
//! promise.
mod bank;
mod configure;
mod finite_differences;
mod goldens;
mod hcd;
mod lfcc;
mod logits;
mod relations;
mod standardise;
mod support;
mod sweep;
mod uhkd;
