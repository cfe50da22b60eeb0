//! Weights that are stored as codes with scales, as tensors that are decoded when they are read.

use crate::{
    DType, Error, Result, Scaled, Storage, Stored, TensorInfo, form::described_bytes,
    format::checkpoint::Checkpoint, quote::quoted,
};

/// The side of the blocks that share a scale, where scales are a matrix of them: that of DeepSeek, which all have taken over.
const BLOCK: u64 = 128;

/// Elements of a block of MXFP4.
const MX: u64 = 32;

impl Checkpoint {
    /// A weight that is stored as codes with scales beside them, as a tensor of F32 that [`Source`](crate::stage::Source) decodes
    /// as it reads; none where there is no such weight. It knows
    ///
    /// - FP8 under the weight's own name with `NAME_scale_inv`, `NAME_scale`, `NAME.scale`, or ComfyUI's `scale_weight` beside it:
    ///   one scale, one for every row (`[rows]`, `[rows, 1]`), for groups of a row (`[rows, groups]`), or for blocks of 128 by 128,
    ///   of which the last may be cut; U8 scales are exponents as F8_E8M0 (MXFP8);
    /// - MXFP4 as `NAME_blocks` `[.., rows, groups, 16]` and `NAME_scales` `[.., rows, groups]`, which make `[.., rows, 32 groups]`.
    ///
    /// `compress` does not ask for it: what is quantized already is carried.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if the scales are of another type or shape.
    pub fn decoded(&self, name: &str) -> Result<Option<TensorInfo>> {
        let find = |name: &str| self.tensors.iter().find(|t| t.name == name);
        if let Some(codes) = find(name) {
            if !matches!(codes.dtype, DType::F8E4M3 | DType::F8E5M2) {
                return Ok(None);
            }
            let module = name.strip_suffix("weight").unwrap_or(name);
            let names = ["_scale_inv", "_scale", ".scale"].map(|end| format!("{name}{end}"));
            let scales = names.iter().find_map(|n| find(n));
            let Some(scales) = scales.or_else(|| find(&format!("{module}scale_weight"))) else {
                return Ok(None);
            };
            let (matrix, tile) = self.tiles(&codes.shape, scales)?;
            let shape = codes.shape.clone();
            return self.scaled(name, shape, [codes, scales], codes.dtype, [matrix, tile]);
        }
        let parts = [format!("{name}_blocks"), format!("{name}_scales")].map(|n| find(&n));
        let [Some(codes), Some(scales)] = parts else { return Ok(None) };
        let [outer @ .., rows, groups, 16] = &codes.shape[..] else {
            return Err(self.refuse(codes, "blocks of 16 bytes"));
        };
        if codes.dtype != DType::U8 || scales.shape != codes.shape[..codes.shape.len() - 1] {
            return Err(self.refuse(scales, "an exponent for every block of U8"));
        }
        let shape: Vec<u64> = outer.iter().copied().chain([*rows, groups * MX]).collect();
        let matrix = [*rows, groups * MX];
        self.scaled(name, shape, [codes, scales], DType::F4, [matrix, [1, MX]])
    }

    /// Rows and columns of a matrix and of its tiles, from the shape of its scales.
    fn tiles(&self, codes: &[u64], scales: &TensorInfo) -> Result<([u64; 2], [u64; 2])> {
        let (outer, [rows, cols]) = match codes {
            [outer @ .., rows, cols] => (outer, [*rows, *cols]),
            [cols] => (&[][..], [1, *cols]),
            [] => (&[][..], [1, 1]),
        };
        let all = outer.iter().product::<u64>() * rows;
        let whole = |n: u64, parts: u64| (parts > 0 && n.is_multiple_of(parts)).then(|| n / parts);
        let tile = match &scales.shape[..] {
            s if s.iter().product::<u64>() == 1 => return Ok(([all, cols], [all, cols])),
            [n] if *n == rows && outer.is_empty() => Some([1, cols]),
            [of @ .., n, parts] if of == outer && *n == rows => whole(cols, *parts).map(|t| [1, t]),
            [of @ .., down, across] if of == outer => {
                let blocks = [rows, cols].map(|n| n.div_ceil(BLOCK)) == [*down, *across];
                let evenly = whole(rows, *down).zip(whole(cols, *across)).map(|(r, c)| [r, c]);
                if blocks { Some([BLOCK; 2]) } else { evenly }
            }
            _ => None,
        };
        let expected = || format!("one for every tile of {codes:?}");
        tile.map(|tile| ([rows, cols], tile)).ok_or_else(|| self.refuse(scales, &expected()))
    }

    fn scaled(
        &self,
        name: &str,
        shape: Vec<u64>,
        [codes, scales]: [&TensorInfo; 2],
        code: DType,
        [matrix, tile]: [[u64; 2]; 2],
    ) -> Result<Option<TensorInfo>> {
        let power = match scales.dtype {
            DType::U8 | DType::F8E8M0 => DType::F8E8M0,
            float @ (DType::F32 | DType::F16 | DType::BF16) => float,
            _ => return Err(self.refuse(scales, "floats or exponents")),
        };
        let Some(bytes) = described_bytes(DType::F32, &shape) else {
            return Err(self.refuse(codes, "less than 2^61 bytes when decoded"));
        };
        let stored = |t: &TensorInfo, dtype| Stored { dtype, file: t.file, offset: t.offset() };
        let storage =
            Scaled { codes: stored(codes, code), scales: stored(scales, power), matrix, tile };
        Ok(Some(TensorInfo {
            name: name.to_owned(),
            prefix: codes.prefix,
            dtype: DType::F32,
            shape,
            file: codes.file,
            storage: Storage::Scaled(storage.into()),
            bytes,
        }))
    }

    fn refuse(&self, t: &TensorInfo, expected: &str) -> Error {
        let (name, dtype, shape) = (quoted(&t.name), t.dtype.name(), &t.shape);
        let why = format!("tensor {name} is {dtype} {shape:?}, expected {expected}");
        Error::format(&self.files[t.file].path, why)
    }
}
