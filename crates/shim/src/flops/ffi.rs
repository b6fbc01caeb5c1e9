//! The bridge to flops.h.

#[cxx::bridge(namespace = "heterodyne::flops")]
pub mod bridge {
    unsafe extern "C++" {
        include!("flops/flops.h");

        fn start() -> Result<()>;
        fn stop();
        fn products() -> u64;
        fn convolutions() -> u64;
    }
}
