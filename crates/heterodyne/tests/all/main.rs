//! The built command, as a user runs it: good input, bad input, Ctrl-C, a full disk; and the real images and weights where they are.
mod bad_input;
mod features;
mod inspect;
mod interruption;
mod real;
mod support;
mod use_cases;
