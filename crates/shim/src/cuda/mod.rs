//! Loads CUDA at run time. The binary links only libtorch's CPU half; the other half registers its kernels when it is
//! loaded, so one binary serves machines with and without a GPU.
mod runtime;

use std::{error, fmt, sync::OnceLock};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Device, Kind, Tensor};

use runtime::Runtime;

use crate::Error;

/// The devices that CUDA shows, in their order.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// The GPU that is used, the first one that CUDA shows (`CUDA_VISIBLE_DEVICES` selects it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Its compute capability, such as (9, 0).
    pub compute: (u32, u32),
    /// The version of its driver; `None` if the system does not report it.
    pub driver: Option<String>,
    /// The version of CUDA that libtorch uses.
    pub cuda: Version,
}

/// A version of CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 10)
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { name, compute, driver, cuda } = self;
        write!(f, "{name} (compute capability {}.{}), ", compute.0, compute.1)?;
        driver.iter().try_for_each(|driver| write!(f, "driver {driver}, "))?;
        write!(f, "CUDA {cuda}")
    }
}

/// Why CUDA cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CudaError {
    /// libtorch's CUDA half or one of the libraries it needs is missing.
    #[error(
        "libtorch's CUDA half cannot be loaded: {0}\n  hint: on a machine with an NVIDIA driver, `make libtorch` \
         installs it; `make libtorch CUDA=1` installs it anywhere"
    )]
    Library(String),
    /// CUDA finds no device, or does not start.
    #[error(
        "{reason} ({})\n  hint: {}",
        driver.as_ref().map_or_else(|| "no NVIDIA driver is loaded".to_owned(), |version| format!("driver {version}")),
        advice(reason, driver.is_some())
    )]
    Device {
        /// CUDA's own words.
        reason: String,
        /// The version of the driver, if there is one.
        driver: Option<String>,
    },
    /// The device does not run libtorch's kernels.
    #[error(
        "{gpu} does not run libtorch's kernels: {reason}\n  hint: set LIBTORCH to a libtorch {} that was built for \
         this GPU before `make libtorch`, or use device = \"cpu\"",
        crate::LIBTORCH
    )]
    Kernel {
        /// The device.
        gpu: String,
        /// libtorch's own words.
        reason: String,
    },
}

fn advice(reason: &str, driver: bool) -> String {
    if !driver {
        return "install an NVIDIA driver, or use device = \"cpu\"".to_owned();
    }
    if reason.contains("driver version is insufficient") {
        return "this libtorch needs a newer driver; install one, or set LIBTORCH to a libtorch for an older CUDA \
                before `make libtorch`"
            .to_owned();
    }
    let visible = std::env::var(VISIBLE).map(|list| format!(", which is \"{list}\""));
    format!("check nvidia-smi, and CUDA_VISIBLE_DEVICES{}", visible.unwrap_or_default())
}

/// Loads libtorch's CUDA half, starts CUDA and runs a kernel, once per process.
pub fn load_cuda() -> Result<&'static Gpu, CudaError> {
    static LOADED: OnceLock<Result<Gpu, CudaError>> = OnceLock::new();
    LOADED.get_or_init(load).as_ref().map_err(Clone::clone)
}

/// Lets CUDA show one device only: the one at `place` among those that it shows now. Has no effect once CUDA has
/// started.
///
/// # Errors
/// `CUDA_VISIBLE_DEVICES` names fewer devices.
pub fn select_gpu(place: u32) -> crate::Result<()> {
    let shown = std::env::var(VISIBLE).ok().filter(|list| !list.trim().is_empty());
    let name = match &shown {
        None => place.to_string(),
        Some(list) => list
            .split(',')
            .nth(place as usize)
            .map(str::trim)
            .map(str::to_owned)
            .ok_or_else(|| Error(format!("{VISIBLE} is \"{list}\", which has no device for LOCAL_RANK {place}")))?,
    };
    Ok(crate::ffi::bridge::set_variable(VISIBLE, &name)?)
}

/// Whether there is a GPU, of at least this compute capability.
pub(crate) fn at_least(compute: (u32, u32)) -> bool {
    load_cuda().is_ok_and(|gpu| gpu.compute >= compute)
}

fn load() -> Result<Gpu, CudaError> {
    // SAFETY: loading runs the library's static initialisers, which register kernels and may run at any time.
    let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
    // The kernels stay registered until the process ends.
    std::mem::forget(library.map_err(|e| CudaError::Library(causes(&e)))?);
    let runtime = Runtime::find();
    let driver = runtime::driver();
    let absent = |reason: String| CudaError::Device { reason, driver: driver.clone() };
    match runtime.devices() {
        Ok(0) => return Err(absent("CUDA shows no device".to_owned())),
        Ok(_) => {}
        Err(reason) => return Err(absent(format!("CUDA does not start: {reason}"))),
    }
    if !tch::Cuda::is_available() {
        return Err(absent("libtorch finds no CUDA device".to_owned()));
    }
    let gpu = Gpu { name: runtime.name(), compute: runtime.compute(), driver: driver.clone(), cuda: runtime.version() };
    // Cannot fail: the settings are variables of libtorch's.
    let _ = crate::numerics::start();
    runs(gpu, || {
        let sum = Tensor::f_ones([2], (Kind::Float, Device::Cuda(0)))?.f_sum(Kind::Float)?;
        f64::try_from(&sum).map(|_| ())
    })
}

/// Checks that a kernel runs on the device.
fn runs(gpu: Gpu, kernel: impl FnOnce() -> Result<(), tch::TchError>) -> Result<Gpu, CudaError> {
    kernel().map(|()| gpu.clone()).map_err(|e| {
        let reason = e.to_string().lines().next().unwrap_or_default().to_owned();
        CudaError::Kernel { gpu: gpu.to_string(), reason }
    })
}

/// An error with all its causes: the message of the outermost one leaves out the library's name.
fn causes(e: &dyn error::Error) -> String {
    let mut innermost = e;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volta() -> Gpu {
        let name = "Tesla V100".to_owned();
        Gpu { name, compute: (7, 0), driver: Some("580.65.06".to_owned()), cuda: Version(13000) }
    }

    #[test]
    fn a_device_without_kernels_is_refused_by_name() {
        assert_eq!(runs(volta(), || Ok(())).unwrap(), volta());
        let missing = "CUDA error: no kernel image is available for execution on the device\nsearch for it".to_owned();
        let text = runs(volta(), || Err(tch::TchError::Torch(missing))).unwrap_err().to_string();
        for part in ["Tesla V100 (compute capability 7.0), driver 580.65.06, CUDA 13.0", "no kernel image", "LIBTORCH"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("search for it"), "{text}");
    }

    #[test]
    fn an_old_driver_is_told_from_an_absent_one_and_an_absent_device() {
        let text = |reason: &str, driver: Option<&str>| {
            CudaError::Device { reason: reason.to_owned(), driver: driver.map(str::to_owned) }.to_string()
        };
        let insufficient = "CUDA driver version is insufficient for CUDA runtime version";
        let old = text(insufficient, Some("535.104.05"));
        assert!(old.contains("(driver 535.104.05)") && old.contains("needs a newer driver"), "{old}");
        assert!(text(insufficient, None).contains("no NVIDIA driver is loaded"));
        assert!(text("CUDA shows no device", Some("580.65.06")).contains("CUDA_VISIBLE_DEVICES"));
    }

    #[test]
    fn a_library_that_cannot_be_opened_is_named() {
        // SAFETY: there is no such library, so nothing is run.
        let e = unsafe { Library::open(Some("libof_no_kind.so"), RTLD_NOW) }.unwrap_err();
        assert!(causes(&e).starts_with("libof_no_kind.so: cannot open"), "{}", causes(&e));
    }
}
