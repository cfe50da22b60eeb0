use crate::{
    Backend, Error, Result, Tensor,
    gpu::{Gpu, Kernel},
    parallel::spans,
    wgsl,
};

/// The shader.
pub static KERNEL: Kernel = Kernel {
    name: "gather_rows",
    wgsl: wgsl!("lib/grid", "layers/gather_rows"),
    workgroup: 256,
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    words: u32,
    total: u32,
}

/// Copies rows of a table, as an embedding does.
///
/// `gathered[i, ..] = table[rows[i], ..]`
///
/// - `table`: any type, `[count, cols]`; a row fills whole 32-bit words.
/// - `rows`: numbers of rows, each below `count`, in any order and repeated at will.
/// - returns the table's type, `[rows.len(), cols]`.
///
/// Agreement: exact: words are copied.
///
/// # Errors
///
/// [`Error::Shape`] if a row is not a whole number of words, or a number is no row of the table; [`Error::Gpu`] if the device
/// fails.
///
/// # Example
///
/// ```
/// use tersor::{Backend, Tensor, kernels};
///
/// let on = Backend::Cpu;
/// let table = Tensor::from_f32(&on, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3)?;
/// let rows = kernels::gather_rows(&on, &table, &[2, 0, 2])?;
/// assert_eq!(rows.read_f32(&on)?, [5.0, 6.0, 1.0, 2.0, 5.0, 6.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
pub fn gather_rows(on: &Backend, table: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let bits = table.cols() * table.dtype().bits();
    if !bits.is_multiple_of(32) {
        let got = format!("rows of {bits} bits");
        return Err(Error::shape(KERNEL.name, "table", got, "rows of whole 32-bit words"));
    }
    if let Some(row) = rows.iter().find(|row| **row as usize >= table.rows()) {
        let expected = format!("below {}", table.rows());
        return Err(Error::shape(KERNEL.name, "rows", format!("row {row}"), expected));
    }
    match on {
        Backend::Cpu => {
            let gathered = reference(table.words()?, bits / 32, rows);
            Ok(Tensor::cpu(table.dtype(), rows.len(), table.cols(), gathered))
        }
        Backend::Gpu(gpu) => on_gpu(gpu, table, bits / 32, rows),
    }
}

fn reference(table: &[u32], words: usize, rows: &[u32]) -> Vec<u32> {
    let mut gathered = vec![0; rows.len() * words];
    spans(&mut gathered, words, (1 << 14) / words.max(1) + 1, &|first, to| {
        for (to, row) in to.chunks_mut(words).zip(&rows[first..]) {
            to.copy_from_slice(&table[*row as usize * words..][..words]);
        }
    });
    gathered
}

fn on_gpu(gpu: &Gpu, table: &Tensor, words: usize, rows: &[u32]) -> Result<Tensor> {
    let total = rows.len() * words;
    let gathered = gpu.alloc(4 * total)?;
    let params = Params { words: words as u32, total: total as u32 };
    let buffers = [table.buffer()?, &gpu.upload(rows)?, &gathered];
    gpu.dispatch(&KERNEL, &[], &params, &buffers, KERNEL.workgroups(total as u64))?;
    Ok(Tensor::gpu(table.dtype(), rows.len(), table.cols(), gathered))
}
