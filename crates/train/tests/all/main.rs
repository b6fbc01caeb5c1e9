//! The trainer on the embedded digits: parts against explicit formulas, whole runs against each other.
mod absurd;
mod cache;
mod evals;
mod half;
mod parts;
mod plan;
mod recorded;
mod runs;
mod steps;
mod support;
