//! The bridge to winograd.h. Every function throws C++ exceptions as `Err`.

#[cxx::bridge(namespace = "heterodyne::winograd")]
pub mod bridge {
    unsafe extern "C++" {
        include!("winograd/winograd.h");

        /// # Safety
        /// Both must be addresses of live at::Tensor objects.
        unsafe fn conv3x3(x_bchw: usize, weight: usize) -> Result<usize>;
        /// # Safety
        /// Both must be addresses of live at::Tensor objects.
        unsafe fn suits(x_bchw: usize, weight: usize) -> Result<bool>;
    }
}
