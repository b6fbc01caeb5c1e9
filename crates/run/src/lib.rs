//! placeholder
pub mod recipe { pub mod schema; }
