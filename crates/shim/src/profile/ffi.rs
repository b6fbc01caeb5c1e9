//! The bridge to profile.h. Every function throws C++ exceptions as `Err`.

#[cxx::bridge(namespace = "heterodyne::profile")]
pub mod bridge {
    /// See [`super::super::Operator`].
    struct Operator {
        name: String,
        calls: u64,
        own_ns: u64,
    }

    unsafe extern "C++" {
        include!("profile/profile.h");

        fn start() -> Result<()>;
        fn stop();
        fn operators() -> Vec<Operator>;
        fn elsewhere(work: fn());
    }
}
