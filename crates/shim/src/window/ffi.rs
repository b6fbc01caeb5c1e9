//! The bridge to window.h. Every function throws C++ exceptions as `Err`.

#[cxx::bridge(namespace = "heterodyne::window")]
pub mod bridge {
    unsafe extern "C++" {
        include!("window/window.h");

        unsafe fn window_sums(x: usize, weights: usize, counts: &[i64]) -> Result<usize>;
        unsafe fn window_suits(x: usize) -> bool;
    }
}
