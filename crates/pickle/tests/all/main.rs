//! Files that real PyTorch wrote, files of other kinds, and harmful files.
mod faults;
mod foreign;
mod goldens;
mod hostile;
mod plain;
mod support;
