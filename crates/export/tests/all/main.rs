//! Exports of every network.
mod every;
mod refusals;
mod support;
