//! The built command, as a user runs it: good input, bad input, Ctrl-C, a full disk; also real images and weights, if
//! present.
mod bad_input;
mod compare;
mod curves;
mod datasets;
mod described;
#[cfg(unix)]
mod disk;
mod export;
mod features;
mod inspect;
mod interruption;
mod origin;
mod own_method;
mod package;
mod presented;
mod real;
mod recipes;
mod similarity;
mod support;
mod transformers;
mod use_cases;
mod weights;
