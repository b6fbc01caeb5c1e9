//! All tests of the crate that use its public interface, against a server of their own on the loopback device.
mod cached;
mod environment;
mod faults;
mod fetched;
mod names;
mod server;
mod world;
