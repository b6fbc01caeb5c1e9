//! All tests of the crate's public interface, against their own server on the loopback device.
mod cached;
mod environment;
mod faults;
mod fetched;
mod names;
mod server;
mod world;
