use crate::{
    Error, Result,
    gpu::{Gpu, GpuOptions, NO_ADAPTER},
};

/// Where the caller wants the kernels to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// A hardware GPU if there is one, otherwise the CPU. A software Vulkan driver is slower than the CPU backend
    /// and is not taken.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// Any GPU adapter, software ones included; an error where there is none.
    Gpu,
}

/// Where kernels run; opened once. Both produce the same bytes.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Device};
///
/// let on = Backend::open(Device::Cpu)?;
/// assert_eq!(on.name(), "cpu");
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Debug)]
pub enum Backend {
    /// This machine's processor: the references, over blocks of rows in parallel.
    Cpu,
    /// A wgpu device.
    Gpu(Box<Gpu>),
}

impl Backend {
    /// Opens the device that was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::NoGpu`] if a GPU was asked for and none can be opened.
    pub fn open(device: Device) -> Result<Self> {
        Self::open_with(device, &GpuOptions::default())
    }

    /// Like [`Backend::open`], choosing the adapter by name or lowering the device's limits.
    ///
    /// # Errors
    ///
    /// [`Error::NoGpu`] if a GPU was asked for, directly or by adapter name, and none can be opened.
    pub fn open_with(device: Device, options: &GpuOptions) -> Result<Self> {
        Self::open_or_say(device, options).map(|(backend, _)| backend)
    }

    /// Like [`Backend::open_with`], and says why a hardware GPU that is there could not be opened, where the CPU is taken instead.
    ///
    /// # Errors
    ///
    /// As [`Backend::open_with`].
    pub fn open_or_say(device: Device, options: &GpuOptions) -> Result<(Self, Option<Error>)> {
        let gpu = |options: &GpuOptions| Gpu::open(options).map(|gpu| Self::Gpu(Box::new(gpu)));
        match device {
            Device::Cpu => Ok((Self::Cpu, None)),
            Device::Auto if options.adapter.is_none() => {
                match gpu(&GpuOptions { hardware_only: true, ..options.clone() }) {
                    Ok(gpu) => Ok((gpu, None)),
                    Err(Error::NoGpu(why)) if why == NO_ADAPTER => Ok((Self::Cpu, None)),
                    Err(why) => Ok((Self::Cpu, Some(why))),
                }
            }
            Device::Auto | Device::Gpu => Ok((gpu(options)?, None)),
        }
    }

    /// The name to print beside every number this backend produces.
    pub fn name(&self) -> &str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu(gpu) => gpu.title(),
        }
    }
}
