//! The bridge to cpu.h.

#[cxx::bridge(namespace = "heterodyne::cpu")]
pub mod bridge {
    unsafe extern "C++" {
        include!("cpu/cpu.h");

        fn found_code() -> u8;
        fn level_code() -> u8;
        fn limit_code(most: u8) -> u8;
        fn fast_bf16() -> bool;
        fn complaint() -> String;
    }
}
