use crate::{
    DType, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    kernels::{
        layers::activation::Activation,
        products::{
            int8::{Channels, Epilogue, Int8, expect, longest},
            requantize,
        },
    },
    wgsl,
};

/// The shader. It stands before the snippets because WGSL wants directives first.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_i8_coop",
    wgsl: wgsl!("products/matmul_i8_coop", "lib/grid", "lib/activation"),
    workgroup: 128,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    m: u32,
    n: u32,
    quads: u32,
    tiles_m: u32,
    tiles_n: u32,
    window: u32,
}

/// Columns of K that a matrix unit takes at a time.
const STEP: usize = 16;

/// Whether rows are whole steps, for there is no other way to load them, and the sums fit a buffer, whatever comes of them.
pub(crate) fn takes(gpu: &Gpu, a: &Int8, w: &Int8) -> bool {
    let sums = (4 * a.words.rows() * w.words.rows()) as u64;
    whole_steps(a) && sums <= gpu.max_bytes()
}

fn whole_steps(a: &Int8) -> bool {
    a.words.cols() > 0 && a.words.cols().is_multiple_of(4)
}

/// [`matmul_i8`](crate::kernels::products::matmul_i8::matmul_i8()) on matrix units that multiply f16 and add in f32.
///
/// `sum[m, n] = Σ_k a[m, k] * (w[n, k] - zero[n]) + offset[n]`, then the epilogue
///
/// - `gpu`: one that [multiplies matrices exactly](crate::kernels::matrix_units); `matmul_i8` asks that first.
/// - the other arguments and the result are those of `matmul_i8`; rows are a multiple of four words.
///
/// Agreement: exact, floats as in `matmul_i8`, on a device whose matrix units lose no bit of an integer below 2^24, in
/// whatever order they add. Sums are moved to integers before they could reach it: after 1,024 columns of signed operands, 512
/// or 256 of others.
///
/// # Errors
///
/// [`Error::Shape`] as in `matmul_i8`, and if rows are no multiple of four words; [`Error::Gpu`] if the device has no such
/// matrices, or fails.
///
/// # Source
///
/// That the units are exact: Khattak and Mikaitis 2025, arXiv 2512.07004. The tile: NVIDIA's `vk_cooperative_matrix_perf`.
pub fn matmul_i8_coop(
    gpu: &Gpu,
    a: &Int8,
    w: &Int8,
    channels: &Channels,
    epilogue: Epilogue<'_>,
) -> Result<Tensor> {
    matmul_i8_coop_as(gpu, &KERNEL, None, a, w, channels, epilogue)
}

/// [`matmul_i8_coop`] with another shader for the same job, or another number of steps of 16 columns between moves to
/// integers: for tests on devices without matrix units, and for the probe that looks how far a device's units are exact.
///
/// # Errors
///
/// As [`matmul_i8_coop`].
pub fn matmul_i8_coop_as(
    gpu: &Gpu,
    kernel: &'static Kernel,
    window: Option<usize>,
    a: &Int8,
    w: &Int8,
    channels: &Channels,
    epilogue: Epilogue<'_>,
) -> Result<Tensor> {
    expect(kernel.name, a, w, channels, epilogue)?;
    if !whole_steps(a) {
        let got = a.words.cols();
        return Err(Error::shape(kernel.name, "words of a", got, "a multiple of 4, above 0"));
    }
    let (kind, activation, rows) = match epilogue {
        Epilogue::Sum => (DType::I32, Activation::None, None),
        Epilogue::Float { rows, activation } => (DType::F32, activation, rows),
        Epilogue::Requantize { zero_point, lowest, highest } => {
            let sums = matmul_i8_coop_as(gpu, kernel, window, a, w, channels, Epilogue::Sum)?;
            return requantize::on_gpu(gpu, &sums, channels, zero_point, lowest, highest);
        }
    };
    let safe = longest(1 << 24, a.signed, w.signed && !channels.zero_points()) / STEP;
    let (m, n) = (a.words.rows(), w.words.rows());
    let out = gpu.alloc(4 * m * n)?;
    let (tiles_m, tiles_n) = (m.div_ceil(128), n.div_ceil(128));
    let params = Params {
        m: m as u32,
        n: n as u32,
        quads: (a.words.cols() / 4) as u32,
        tiles_m: tiles_m as u32,
        tiles_n: tiles_n as u32,
        window: window.unwrap_or(safe) as u32,
    };
    let flag = |on: bool| f64::from(u8::from(on));
    let constants = [
        ("A_SIGNED", flag(a.signed)),
        ("W_SIGNED", flag(w.signed)),
        ("ROW_SCALES", flag(rows.is_some())),
        ("FLOAT", flag(kind == DType::F32)),
        ("ACTIVATION", activation.code()),
    ];
    let table = channels.table().buffer()?;
    // Any buffer does for scales that are not read.
    let rows = rows.map(Tensor::buffer).transpose()?.unwrap_or(table);
    let buffers = [a.words.buffer()?, w.words.buffer()?, table, rows, &out];
    let (workgroups, operations) =
        (tiles_m as u64 * tiles_n as u64, (m * n * a.words.cols() * 4) as u64);
    gpu.dispatch_long(kernel, &constants, &params, (&buffers, workgroups), operations)?;
    Ok(Tensor::gpu(kind, m, n, out))
}
