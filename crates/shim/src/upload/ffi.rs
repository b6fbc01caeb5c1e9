//! The bridge to upload.h. Every function throws C++ exceptions as `Err`.

#[cxx::bridge(namespace = "heterodyne::upload")]
pub mod bridge {
    unsafe extern "C++" {
        include!("upload/upload.h");

        type Upload;

        fn begin() -> Result<UniquePtr<Upload>>;
        unsafe fn copy(self: &Upload, x: usize) -> Result<usize>;
        fn bytes(length: usize, pinned: bool) -> Result<usize>;
    }
}
