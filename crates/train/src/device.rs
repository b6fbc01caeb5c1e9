//! The device of a run and its number format.
use std::path::Path;

use heterodyne_run::{
    Machine,
    recipe::schema::{DeviceChoice, Precision},
};
use heterodyne_shim::{AllowTf32, Autocast, Tf32, cpu};
use tch::{Device, Kind};

use crate::Result;

/// The device that a recipe names, with its libraries loaded.
///
/// # Errors
/// The choice is `cuda` and the machine has no usable GPU.
pub fn device(choice: DeviceChoice) -> Result<Device> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(heterodyne_shim::load_cuda().map_or(Device::Cpu, |_| Device::Cuda(0))),
        DeviceChoice::Cuda => {
            heterodyne_shim::load_cuda()?;
            Ok(Device::Cuda(0))
        }
    }
}

/// The device's name in recipes and reports.
#[must_use]
pub fn name(device: Device) -> &'static str {
    if device == Device::Cpu { "cpu" } else { "cuda" }
}

/// The machine of this process, with its GPU if `device` is one.
#[must_use]
pub fn machine(device: Device) -> Machine {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.trim_start().strip_prefix(':'));
    Machine {
        processor: model.map_or_else(|| std::env::consts::ARCH.to_owned(), |name| name.trim().to_owned()),
        instructions: cpu::Level::current().name().to_owned(),
        gpu: if device == Device::Cpu { None } else { heterodyne_shim::load_cuda().ok().map(ToString::to_string) },
        threads: usize::try_from(tch::get_num_threads()).unwrap_or(1),
    }
}

/// The largest memory so far, in bytes: that of tensors on a GPU, or the resident size of this process on a CPU; `None`
/// if the system does not report it.
#[must_use]
pub fn peak_memory(device: Device) -> Option<u64> {
    heterodyne_shim::peak_device(device).or_else(heterodyne_shim::peak_rss)
}

/// Why `auto` chose the CPU on a machine with an NVIDIA driver; `None` without a driver, or if CUDA works.
#[must_use]
pub fn cuda_problem() -> Option<String> {
    let driver = Path::new("/dev/nvidiactl").exists();
    heterodyne_shim::load_cuda().err().filter(|_| driver).map(|e| e.to_string())
}

/// The number format of `precision` on `device`; never `Auto`.
#[must_use]
pub fn concrete(precision: Precision, device: Device) -> Precision {
    match precision {
        Precision::Auto if cpu::fast_bf16(device) => Precision::Bf16,
        Precision::Auto if cpu::fast_fp16(device) => Precision::Fp16,
        Precision::Auto => Precision::Fp32,
        given => given,
    }
}

/// The number format of training on `device` if the recipe names none; never `Auto`.
#[must_use]
pub fn usual(device: Device) -> Precision {
    concrete(if device == Device::Cpu { Precision::Fp32 } else { Precision::Auto }, device)
}

/// The format to which autocast casts; `None` for no autocast.
#[must_use]
pub fn autocast_format(precision: Precision) -> Option<Kind> {
    match precision {
        Precision::Bf16 => Some(Kind::BFloat16),
        Precision::Fp16 => Some(Kind::Half),
        Precision::Fp32 | Precision::Tf32 | Precision::Auto => None,
    }
}

/// Guards under which a network in `precision` computes its products: autocast, and TF32 if it is allowed.
pub fn guards(device: Device, precision: Precision) -> Result<(Autocast, Option<AllowTf32>)> {
    let tf32 = (precision == Precision::Tf32).then(|| AllowTf32::new(Tf32::Everywhere)).transpose()?;
    Ok((Autocast::to(device, autocast_format(precision))?, tf32))
}

/// Waits until a GPU has finished its queue; returns at once on a CPU.
pub fn wait(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}
