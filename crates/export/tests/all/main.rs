//! Exports of every network.
mod graph;
