//! The bridge to packed.h. Every function throws C++ exceptions as `Err`.

#[cxx::bridge(namespace = "heterodyne::packed")]
pub mod bridge {
    unsafe extern "C++" {
        include!("packed/packed.h");

        type Linear;
        type Conv;

        unsafe fn version(x: usize) -> Result<u64>;

        unsafe fn linear_new(weight: usize, bias: usize) -> Result<UniquePtr<Linear>>;
        unsafe fn linear_forward(
            linear: &Linear,
            x: usize,
            post: u8,
            other: usize,
            from: i64,
            count: i64,
        ) -> Result<usize>;
        unsafe fn mlp_forward(first: &Linear, second: &Linear, x: usize, post: u8, other: usize) -> Result<usize>;
        unsafe fn mix_forward(linear: &Linear, x: usize, post: u8, other: usize) -> Result<usize>;
        unsafe fn mix_mlp_forward(first: &Linear, second: &Linear, x: usize, post: u8, other: usize) -> Result<usize>;
        unsafe fn attention_forward(q: usize, k: usize, v: usize, heads: i64) -> Result<usize>;

        unsafe fn conv_new(
            weight: usize,
            bias: usize,
            stride: i64,
            padding: i64,
            groups: i64,
        ) -> Result<UniquePtr<Conv>>;
        unsafe fn conv_forward(conv: &Conv, x: usize, post: u8, other: usize) -> Result<usize>;
    }
}
