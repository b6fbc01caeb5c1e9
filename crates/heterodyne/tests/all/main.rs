//! The built command, as a user runs it: good input, bad input, Ctrl-C, a full disk; also real images and weights, if
//! present.
mod bad_input;
mod classify;
mod compare;
#[cfg(target_os = "linux")]
mod cuda;
mod curves;
mod datasets;
mod described;
#[cfg(unix)]
mod disk;
mod elsewhere;
mod export;
mod features;
mod first_hour;
mod init;
mod inspect;
mod interruption;
mod origin;
mod own_method;
mod package;
mod predict;
mod presented;
mod ranks;
mod real;
mod recipes;
mod reproduce;
mod similarity;
mod support;
mod transformers;
mod use_cases;
mod weights;
