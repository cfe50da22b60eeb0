use crate::{
    Error, Result,
    gpu::{DEADLINE, Gpu, Numerics, audit, guard, lock},
};
use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Which adapter to open, and how much of it to use.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Part of the adapter's name, in any case; an error if nothing matches.
    pub adapter: Option<String>,
    /// Leave software adapters out.
    pub hardware_only: bool,
    /// Ask for 64 KiB buffers, 16 KiB bindings and 7 workgroups per dimension, so that small tensors cross every
    /// boundary that large ones do.
    pub tiny: bool,
    /// Supervise every buffer: see [`Gpu::audit`].
    pub audited: bool,
}

/// What is said where there is none.
pub(crate) const NO_ADAPTER: &str = "no Vulkan, Metal or DX12 adapter was found";

/// An adapter of this machine.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterSummary {
    /// Name, API, driver, and "software" where that is what it is: to print beside numbers.
    #[serde(skip)]
    pub title: String,
    /// The adapter's own name.
    pub name: String,
    /// Vulkan, Metal or Dx12.
    pub backend: String,
    /// Driver and version.
    pub driver: String,
    /// PCI number of its maker.
    pub vendor: u32,
    /// Whether it runs on the CPU.
    pub software: bool,
    /// Longest storage binding, in bytes.
    pub max_binding_bytes: u64,
    /// Longest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// Whether it can time its own work.
    pub timestamps: bool,
}

/// Every adapter that wgpu can see; none is not an error.
pub fn adapters() -> Vec<AdapterSummary> {
    guard::bounded(DEADLINE, || enumerate().iter().map(summary).collect()).unwrap_or_default()
}

/// Every adapter, and what its arithmetic does, or why it cannot be opened; each is opened itself, not by its name, which
/// two equal cards share.
pub fn probe() -> Vec<(AdapterSummary, Result<Numerics>)> {
    let found = guard::bounded(DEADLINE, || {
        enumerate().into_iter().map(|a| (summary(&a), a)).collect::<Vec<_>>()
    });
    let measured = |a: wgpu::Adapter| {
        late(guard::bounded(DEADLINE, move || Gpu::open_adapter(&a, &GpuOptions::default())))
            .map(|gpu| gpu.numerics())
    };
    found.unwrap_or_default().into_iter().map(|(summary, a)| (summary, measured(a))).collect()
}

/// What comes of opening a device in time.
fn late<T>(opened: Option<Result<T>>) -> Result<T> {
    opened.unwrap_or_else(|| {
        let seconds = DEADLINE.as_secs();
        Err(Error::NoGpu(format!("the driver failed, or did not answer within {seconds} seconds")))
    })
}

impl Gpu {
    /// Opens an adapter, hardware before software, and measures its arithmetic.
    ///
    /// # Errors
    ///
    /// [`Error::NoGpu`] if no adapter matches, it refuses a device, or its self-test fails.
    pub fn open(options: &GpuOptions) -> Result<Self> {
        let options = options.clone();
        late(guard::bounded(DEADLINE, move || Self::open_now(&options)))
    }

    fn open_now(options: &GpuOptions) -> Result<Self> {
        let mut found = enumerate();
        found.retain(|a| !options.hardware_only || !is_software(a));
        if let Some(wanted) = &options.adapter {
            let names = found.iter().map(|a| a.get_info().name).collect::<Vec<_>>().join(", ");
            found.retain(|a| a.get_info().name.to_lowercase().contains(&wanted.to_lowercase()));
            if found.is_empty() {
                return Err(Error::NoGpu(format!(
                    "no adapter is called {wanted:?}; there are: {names}"
                )));
            }
        }
        found.sort_by_key(|a| rank(a.get_info().device_type));
        let adapter = found.first().ok_or_else(|| Error::NoGpu(NO_ADAPTER.into()))?;
        Self::open_adapter(adapter, options)
    }

    fn open_adapter(adapter: &wgpu::Adapter, options: &GpuOptions) -> Result<Self> {
        let matrices = matrix_features(adapter);
        if !matrices.is_empty() && !options.tiny {
            // A driver that fails on its experimental matrices is opened again without them.
            if let Ok(gpu) = Self::request(adapter, options, matrices) {
                return Ok(gpu);
            }
        }
        Self::request(adapter, options, wgpu::Features::empty())
    }

    fn request(
        adapter: &wgpu::Adapter,
        options: &GpuOptions,
        matrices: wgpu::Features,
    ) -> Result<Self> {
        let offered = adapter.limits();
        let mut limits = wgpu::Limits {
            max_buffer_size: offered.max_buffer_size & !3,
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size & !3,
            max_compute_workgroups_per_dimension: offered.max_compute_workgroups_per_dimension,
            ..Default::default()
        };
        if options.tiny {
            limits.max_buffer_size = 64 << 10;
            let guards = if options.audited { audit::GUARD_BYTES } else { 0 };
            limits.max_storage_buffer_binding_size = (16 << 10) + guards;
            limits.max_uniform_buffer_binding_size = 16 << 10;
            limits.max_compute_workgroups_per_dimension = 7;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("tersor"),
            required_features: adapter.features() & wgpu::Features::TIMESTAMP_QUERY | matrices,
            required_limits: limits.clone(),
            experimental_features: match matrices.is_empty() {
                true => wgpu::ExperimentalFeatures::disabled(),
                false => experimental(),
            },
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) =
            guard::quietly(|| pollster::block_on(adapter.request_device(&descriptor)))
                .ok_or_else(|| Error::NoGpu("the driver failed while opening the device".into()))?
                .map_err(|e| Error::NoGpu(e.to_string()))?;
        let lost = Arc::new(Mutex::new(None));
        let flag = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            *lock(&flag) = Some(format!("{reason:?} {message}"));
        });
        // Errors outside a scope have no caller to return to: treat the device as lost.
        let flag = lost.clone();
        device.on_uncaptured_error(Arc::new(move |e| *lock(&flag) = Some(e.to_string())));
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let mut gpu = Self {
            number: OPENED.fetch_add(1, Relaxed),
            device,
            queue,
            adapter: summary(adapter),
            limits,
            numerics: Numerics::default(),
            matrices: OnceLock::new(),
            lost,
            pipelines: Mutex::default(),
            timer: Mutex::default(),
            #[cfg(feature = "faults")]
            faults: Default::default(),
            audit: options.audited.then(|| Mutex::new(audit::Audit::new())),
        };
        gpu.numerics = Numerics::measure(&gpu).map_err(|e| Error::NoGpu(e.to_string()))?;
        Ok(gpu)
    }
}

/// What this adapter needs for products on matrix units, none if it cannot run them as `matmul_i8_coop` is written: 16 x 16 x 16,
/// halves in, floats out, subgroups of 32 whatever the driver chooses.
fn matrix_features(adapter: &wgpu::Adapter) -> wgpu::Features {
    use wgpu::CooperativeScalarType::{F16, F32};
    let needed = wgpu::Features::SHADER_F16 | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    let info = adapter.get_info();
    let subgroups_of_32 = (info.subgroup_min_size, info.subgroup_max_size) == (32, 32);
    let fits = |p: &wgpu::CooperativeMatrixProperties| {
        (p.m_size, p.n_size, p.k_size, p.ab_type, p.cr_type) == (16, 16, 16, F16, F32)
    };
    match adapter.features().contains(needed) && subgroups_of_32 {
        true if adapter.cooperative_matrix_properties().iter().any(fits) => needed,
        _ => wgpu::Features::empty(),
    }
}

/// Cooperative matrices are experimental in wgpu.
#[allow(unsafe_code, reason = "the one agreement to an experimental feature of wgpu")]
fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: only `matmul_i8_coop` uses it, whose source is a constant of this crate, and no result counts before a probe has
    // compared its like with that of plain integer code.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let descriptor = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let listed = || {
        let mut descriptor = descriptor.with_env();
        // No dispatch is indirect; the pipelines that would check them are compiled as a device is opened, where a driver that
        // fails makes wgpu panic.
        descriptor.flags.remove(wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL);
        let instance = wgpu::Instance::new(descriptor);
        pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY))
    };
    // A broken driver must not take the CPU backend down with it.
    guard::quietly(listed).unwrap_or_default()
}

fn is_software(adapter: &wgpu::Adapter) -> bool {
    adapter.get_info().device_type == wgpu::DeviceType::Cpu
}

fn rank(kind: wgpu::DeviceType) -> u32 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

/// The name of an API in reports.
fn api(backend: wgpu::Backend) -> &'static str {
    match backend {
        wgpu::Backend::Noop => "Noop",
        wgpu::Backend::Vulkan => "Vulkan",
        wgpu::Backend::Metal => "Metal",
        wgpu::Backend::Dx12 => "Dx12",
        wgpu::Backend::Gl => "Gl",
        wgpu::Backend::BrowserWebGpu => "BrowserWebGpu",
    }
}

fn summary(adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, limits, software) = (adapter.get_info(), adapter.limits(), is_software(adapter));
    let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
    let kind = if software { ", software" } else { "" };
    let api = api(info.backend);
    AdapterSummary {
        title: format!("{} ({api}, {driver}{kind})", info.name),
        name: info.name,
        backend: api.into(),
        driver,
        vendor: info.vendor,
        software,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        timestamps: adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY),
    }
}
