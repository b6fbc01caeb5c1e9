//! The bridge to attention.h. Every function throws C++ exceptions as `Err`.

#[cxx::bridge(namespace = "heterodyne::attention")]
pub mod bridge {
    unsafe extern "C++" {
        include!("attention/attention.h");

        unsafe fn attention_suits(qkv: usize) -> bool;
        unsafe fn self_attention(qkv: usize, heads: i64, bias: usize) -> Result<usize>;
    }
}
