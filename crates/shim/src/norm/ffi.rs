//! The bridge to norm.h. Every function throws C++ exceptions as `Err`.

#[cxx::bridge(namespace = "heterodyne::norm")]
pub mod bridge {
    unsafe extern "C++" {
        include!("norm/norm.h");

        unsafe fn batch_norm_act(
            x: usize,
            weight: usize,
            bias: usize,
            running_mean: usize,
            running_var: usize,
            momentum: f64,
            eps: f64,
            residual: usize,
            act: u8,
        ) -> Result<usize>;

        unsafe fn depthwise_conv(x: usize, weight: usize, bias: usize, stride: i64) -> Result<usize>;
        unsafe fn depthwise_suits(x: usize, weight: usize) -> bool;
    }
}
