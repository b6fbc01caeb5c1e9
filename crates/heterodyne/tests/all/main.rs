//! The built command, as a user runs it: good input, bad input, Ctrl-C, a full disk; and the real images and weights where they are.
mod bad_input;
mod export;
mod features;
mod inspect;
mod interruption;
mod package;
mod real;
mod recipes;
mod support;
mod use_cases;
mod weights;
