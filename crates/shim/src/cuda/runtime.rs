//! What CUDA itself says about the first device. libtorch's CUDA half brings the runtime; tch has no access to it.
use std::{
    ffi::{CStr, c_char, c_int, c_uint},
    fs,
    path::Path,
};

use libloading::os::unix::{Library, Symbol};

use super::Version;

/// `cudaDevAttrComputeCapabilityMajor` and `cudaDevAttrComputeCapabilityMinor`.
const CAPABILITY: [c_int; 2] = [75, 76];
const LONGEST_NAME: usize = 256;

/// The loaded CUDA runtime.
pub struct Runtime(Library);

impl Runtime {
    /// The runtime that the process has loaded.
    pub fn find() -> Self {
        Self(Library::this())
    }

    /// Number of devices.
    pub fn devices(&self) -> Result<usize, String> {
        type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
        let mut count = 0;
        // SAFETY: the function has this type in every version of the runtime, and writes one integer.
        let status = unsafe { self.get::<Count>(b"cudaGetDeviceCount\0").map(|call| call(&raw mut count)) };
        match status {
            Some(0) => Ok(usize::try_from(count).unwrap_or(0)),
            Some(error) => Err(self.words(error)),
            None => Err("its runtime library is not loaded".to_owned()),
        }
    }

    /// The version of CUDA that the runtime belongs to; 0.0 if it does not say.
    pub fn version(&self) -> Version {
        type Get = unsafe extern "C" fn(*mut c_int) -> c_int;
        let mut version = 0;
        // SAFETY: as in `devices`.
        unsafe { self.get::<Get>(b"cudaRuntimeGetVersion\0").map(|call| call(&raw mut version)) };
        Version(c_uint::try_from(version).unwrap_or(0))
    }

    /// The compute capability of the first device.
    pub fn compute(&self) -> (u32, u32) {
        let [major, minor] = CAPABILITY.map(|attribute| self.attribute(attribute));
        (major, minor)
    }

    fn attribute(&self, attribute: c_int) -> u32 {
        type Get = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
        let mut value = 0;
        // SAFETY: as in `devices`; the last argument is the first device.
        unsafe { self.get::<Get>(b"cudaDeviceGetAttribute\0").map(|call| call(&raw mut value, attribute, 0)) };
        u32::try_from(value).unwrap_or(0)
    }

    /// The name of the first device; `a CUDA device` if the driver does not say.
    pub fn name(&self) -> String {
        type Get = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
        let mut name = [0; LONGEST_NAME];
        // SAFETY: the driver writes at most the given number of bytes, with a zero at their end.
        let known = unsafe {
            let driver = Library::new("libcuda.so.1").ok();
            let get = driver.as_ref().and_then(|driver| driver.get::<Get>(b"cuDeviceGetName\0").ok());
            get.is_some_and(|get| get(name.as_mut_ptr(), LONGEST_NAME as c_int - 1, 0) == 0)
        };
        if known { text(&name) } else { "a CUDA device".to_owned() }
    }

    fn words(&self, error: c_int) -> String {
        type Get = unsafe extern "C" fn(c_int) -> *const c_char;
        // SAFETY: the runtime returns a constant string, or null.
        let words = unsafe {
            let words = self.get::<Get>(b"cudaGetErrorString\0").map(|get| get(error)).filter(|words| !words.is_null());
            words.map(|words| CStr::from_ptr(words).to_string_lossy().into_owned())
        };
        words.unwrap_or_else(|| format!("error {error}"))
    }

    /// # Safety
    /// `T` is the type of the function `name`.
    unsafe fn get<T>(&self, name: &[u8]) -> Option<Symbol<T>> {
        // SAFETY: the caller's.
        unsafe { self.0.get(name) }.ok()
    }
}

fn text(bytes: &[c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|&c| c.cast_unsigned()).take_while(|&c| c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The version of the NVIDIA driver, as the kernel reports it.
pub fn driver() -> Option<String> {
    let module = fs::read_to_string("/sys/module/nvidia/version").ok();
    module.map(|version| version.trim().to_owned()).or_else(|| stated(Path::new("/proc/driver/nvidia/version")))
}

/// The version in the driver's own file: the first word with digits and a dot, behind `Module`.
fn stated(path: &Path) -> Option<String> {
    in_text(&fs::read_to_string(path).ok()?)
}

fn in_text(text: &str) -> Option<String> {
    let line = text.lines().next()?;
    let number = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    line.split_whitespace().find(number).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_file_states_its_version() {
        let closed =
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC 12.2";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)";
        assert_eq!(in_text(closed).as_deref(), Some("535.104.05"));
        assert_eq!(in_text(open).as_deref(), Some("580.65.06"));
        assert_eq!((in_text(""), in_text("NVRM version: none")), (None, None));
    }

    #[test]
    fn the_runtime_speaks_for_itself() {
        let runtime = Runtime::find();
        match runtime.devices() {
            Ok(0) => {}
            Ok(_) => assert!(runtime.compute() >= (3, 0), "{:?}", runtime.compute()),
            Err(reason) => {
                assert!(reason.len() > 5 && !reason.starts_with("error "), "{reason}");
                assert_eq!(runtime.compute(), (0, 0));
            }
        }
        // libtorch_cpu brings the runtime of CUDA 13; a libtorch without CUDA brings none.
        assert!(["13.0", "0.0"].contains(&runtime.version().to_string().as_str()), "{}", runtime.version());
    }
}
