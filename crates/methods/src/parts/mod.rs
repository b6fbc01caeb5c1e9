//! What two methods share.
