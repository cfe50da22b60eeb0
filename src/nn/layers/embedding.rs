use crate::{
    Backend, DType, Result, Tensor,
    decide::{affine::Scale, groups::Groups},
    kernels::{Codebook, VectorMatrix, depalettize, dequantize, dequantize_vectors, gather_rows},
    nn::{layers::weight::Weight, store::Model},
};

/// A table of vectors, one for every token: held compressed, restored row by row as rows are asked for.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.safetensors");
/// # let bytes = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0].map(f32::to_le_bytes).concat();
/// # let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![3, 2], &bytes);
/// # safetensors::serialize_to_file([("words.weight", view.unwrap())], None, &path).unwrap();
/// use tersor::{Backend, nn::{Embedding, Model}};
///
/// // `path`: a checkpoint of one matrix, `words.weight`: [[1, 2], [3, 4], [5, 6]].
/// let (on, model) = (Backend::Cpu, Model::open(&path)?);
/// let words = Embedding::load(&model, &on, "words", 2)?;
/// assert_eq!(words.forward(&on, &[2, 0])?.read_f32(&on)?, [5.0, 6.0, 1.0, 2.0]);
/// # Ok::<(), tersor::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Embedding {
    table: Table,
    rows: usize,
    width: usize,
}

#[derive(Clone, Debug)]
enum Table {
    Dense(Tensor),
    Affine {
        codes: Tensor,
        code: crate::decide::affine::AffineCode,
        group: usize,
        scales: Vec<Scale>,
    },
    Palette {
        codes: Tensor,
        bits: u32,
        k: usize,
        group: usize,
        entries: Vec<f32>,
    },
    Vectors {
        matrix: VectorMatrix,
        scales: Vec<Scale>,
    },
}

impl Embedding {
    /// Loads `<name>.weight`, of `width` columns. A pruned table is held restored.
    ///
    /// # Errors
    ///
    /// [`Error::Format`](crate::Error::Format) if it is missing or has another width;
    /// [`Error::Digest`](crate::Error::Digest), [`Error::Io`](crate::Error::Io), [`Error::Gpu`](crate::Error::Gpu).
    pub fn load(model: &Model, on: &Backend, name: &str, width: usize) -> Result<Self> {
        let name = format!("{name}.weight");
        let (rows, width) = model.expect_matrix(&name, width)?;
        let table = match model.weight(on, &name, width)? {
            Weight::Dense(t) => Table::Dense(t),
            Weight::Affine(m) => {
                let pairs = m.scales.read(on)?;
                let scale =
                    |p: &[u32]| Scale { scale: f32::from_bits(p[0]), zero_point: p[1] as u8 };
                let scales = pairs.chunks_exact(2).map(scale).collect();
                Table::Affine { codes: m.codes, code: m.code, group: m.group, scales }
            }
            Weight::Palette(m) => {
                let entries = m.entries.read_f32(on)?;
                Table::Palette { codes: m.codes, bits: m.bits, k: m.k, group: m.group, entries }
            }
            Weight::Vectors(matrix) => {
                let scales = matrix.scales.read_f32(on)?.into_iter();
                let scales = scales.map(|scale| Scale { scale, zero_point: 0 }).collect();
                Table::Vectors { matrix, scales }
            }
            Weight::Sparse(_) => {
                Table::Dense(Tensor::from_f32(on, &model.values(&name, rows * width)?, rows)?)
            }
        };
        Ok(Self { table, rows, width })
    }

    /// The vectors of some tokens: F32 `[ids, width]`. Agreement: exact.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`](crate::Error::Shape) if a token has no row; [`Error::Gpu`](crate::Error::Gpu) if the device fails.
    pub fn forward(&self, on: &Backend, ids: &[u32]) -> Result<Tensor> {
        let width = self.width;
        // Numbers of the scales or tables of each row, one after the other.
        let parts = |group: usize| {
            let first = move |id: &u32| {
                *id as usize * width / group
                    ..(*id as usize * width / group) + (width / group).max(1)
            };
            ids.iter().flat_map(first)
        };
        match &self.table {
            Table::Dense(t) => gather_rows(on, t, ids),
            Table::Affine { codes, code, group, scales } => {
                let codes = gather_rows(on, codes, ids)?;
                let scales: Vec<_> = parts(*group).map(|g| scales[g]).collect();
                let groups = Groups::of((*group).min(width));
                dequantize(on, &codes, width, *code, groups, &scales, DType::F32)
            }
            Table::Vectors { matrix, scales } => {
                let codes = gather_rows(on, &matrix.codes, ids)?;
                let scales: Vec<_> = parts(matrix.group).map(|g| scales[g]).collect();
                let groups = Groups::of(matrix.group.min(width));
                dequantize_vectors(on, &codes, width, matrix.book(), groups, &scales, DType::F32)
            }
            Table::Palette { codes, bits, k, group, entries } => {
                let codes = gather_rows(on, codes, ids)?;
                let one = *group == self.rows * width;
                let entries: Vec<f32> = match one {
                    true => entries.clone(),
                    false => {
                        parts(*group).flat_map(|t| &entries[t * k..(t + 1) * k]).copied().collect()
                    }
                };
                let groups = Groups::of(if one { ids.len() * width } else { width });
                let book = Codebook { entries: &entries, k: *k, bits: *bits };
                depalettize(on, &codes, width, book, groups, DType::F32)
            }
        }
    }

    /// How many tokens it knows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes it takes on the device.
    pub fn bytes(&self) -> u64 {
        match &self.table {
            Table::Vectors { matrix, .. } => matrix.bytes(),
            Table::Dense(t) | Table::Affine { codes: t, .. } | Table::Palette { codes: t, .. } => {
                crate::nn::layers::weight::bytes(t)
            }
        }
    }
}
