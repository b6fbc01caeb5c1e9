//! The trainer on the embedded digits: its parts against written-out formulas, whole runs against each other.
mod absurd;
mod cache;
mod parts;
mod plan;
mod runs;
mod steps;
mod support;
