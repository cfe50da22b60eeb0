/// One compute shader.
///
/// Conventions, checked by `tests/kernels/shaders.rs`: one entry point, `main`; binding 0 is the uniform `params`, made of
/// 4-byte scalars; then the inputs; then the outputs; the workgroup width is the override `WG`; and workgroups take their number
/// from `lib/grid`, since long work is started in parts.
#[derive(Debug)]
pub struct Kernel {
    /// Stem of the `.wgsl`, `.rs` and test file.
    pub name: &'static str,
    /// Library snippets, then the kernel, joined at compile time by [`wgsl!`](crate::wgsl).
    pub wgsl: &'static str,
    /// Invocations per workgroup.
    pub workgroup: u32,
    /// Size of the Rust struct behind `params`, in bytes.
    pub params: usize,
}

impl Kernel {
    /// What the device must offer beyond plain WGSL: what the shader enables.
    pub fn features(&self) -> wgpu::Features {
        let enables = |what: &str| self.wgsl.lines().any(|l| l == format!("enable {what};"));
        let mut features = wgpu::Features::empty();
        features.set(wgpu::Features::SHADER_F16, enables("f16"));
        let matrices = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        features.set(matrices, enables("wgpu_cooperative_matrix"));
        features
    }

    /// Whether the shader may write to a binding.
    pub fn writes(&self, binding: usize) -> bool {
        self.wgsl.contains(&format!("@binding({binding}) var<storage, read_write>"))
    }

    /// Workgroups that hold so many invocations.
    pub fn workgroups(&self, invocations: u64) -> u64 {
        invocations.div_ceil(self.workgroup.into())
    }
}

/// Joins files under `shaders/` at compile time: snippets first, the kernel last.
#[macro_export]
macro_rules! wgsl {
    ($($file:literal),+ $(,)?) => {
        concat!($(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file, ".wgsl")), "\n"),+)
    };
}
