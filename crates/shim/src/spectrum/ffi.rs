//! The bridge to spectrum.h. Every function throws C++ exceptions as `Err`.

#[cxx::bridge(namespace = "heterodyne::spectrum")]
pub mod bridge {
    unsafe extern "C++" {
        include!("spectrum/spectrum.h");

        unsafe fn standard_mse(
            x: usize,
            weight: usize,
            direction: usize,
            target: usize,
            share: f64,
            eps: f64,
        ) -> Result<usize>;
        unsafe fn standard_suits(x: usize) -> bool;
    }
}
