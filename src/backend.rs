use crate::{
    Result,
    gpu::{Gpu, GpuOptions},
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
    /// [`Error::NoGpu`](crate::Error::NoGpu) if a GPU was asked for and none can be opened.
    pub fn open(device: Device) -> Result<Self> {
        Self::open_with(device, &GpuOptions::default())
    }

    /// Like [`Backend::open`], choosing the adapter by name or lowering the device's limits.
    ///
    /// # Errors
    ///
    /// [`Error::NoGpu`](crate::Error::NoGpu) if a GPU was asked for, directly or by adapter name, and none can be opened.
    pub fn open_with(device: Device, options: &GpuOptions) -> Result<Self> {
        let gpu = |options: &GpuOptions| Gpu::open(options).map(|gpu| Self::Gpu(Box::new(gpu)));
        match device {
            Device::Cpu => Ok(Self::Cpu),
            Device::Gpu => gpu(options),
            Device::Auto if options.adapter.is_some() => gpu(options),
            Device::Auto => {
                Ok(gpu(&GpuOptions { hardware_only: true, ..options.clone() }).unwrap_or(Self::Cpu))
            }
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
