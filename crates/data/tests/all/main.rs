//! All tests of the crate in one binary.
mod audit;
mod augment;
mod cifar;
mod decode;
mod digits;
mod folder;
mod layouts;
mod loader;
mod mix;
mod parquet;
mod rand_augment;
mod real;
mod select;
mod support;
mod transforms;
mod view;
