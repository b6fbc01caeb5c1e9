//! Tests of initialisers against PyTorch, the parameter store, load reports and weights files.
mod files;
mod frozen;
mod init;
mod store;
