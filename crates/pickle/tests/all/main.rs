//! Files that real PyTorch wrote, files that are something else, and files made to do harm.
mod faults;
mod foreign;
mod goldens;
mod hostile;
mod plain;
mod support;
