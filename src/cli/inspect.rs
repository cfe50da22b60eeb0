use crate::cli::{Common, table};
use clap::Args;
use std::path::PathBuf;
use tersor::{
    Result,
    format::Checkpoint,
    inspect::{self, TensorSummary},
};

#[derive(Args)]
#[command(after_long_help = "Examples:
  tersor inspect model.safetensors
  tersor inspect folder --json
  tersor inspect small.safetensors         # an archive: its components")]
pub struct Inspect {
    /// A .safetensors file, an index.json or a Hugging Face folder; an archive shows its components
    model: PathBuf,
    /// Of a folder with several precisions of its weights this one: fp16 for model.fp16.safetensors
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    ok: bool,
    backend: &'a str,
    bytes: u64,
    elements: u64,
    tensors: &'a [TensorSummary],
}

impl Inspect {
    pub fn run(self) -> Result<u8> {
        let backend = self.common.backend()?;
        let checkpoint = Checkpoint::open_variant(&self.model, self.variant.as_deref())?;
        let tensors = {
            let progress = self.common.progress();
            inspect::inspect(&checkpoint, &self.common.options(backend, &progress, false))?
        };
        let report = Report {
            ok: true,
            backend: backend.name(),
            bytes: checkpoint.bytes(),
            elements: tensors.iter().map(|t| t.elements).sum(),
            tensors: &tensors,
        };
        self.common.print(&report, || {
            let head = ["tensor", "type", "shape", "min", "max", "mean", "deviation", "outliers", "entropy", "lossless", "palette4", "histogram"];
            let mut rows = vec![head.map(String::from).to_vec()];
            for t in &tensors {
                let mut row = vec![table::name(&t.name), t.dtype.into(), format!("{:?}", t.shape)];
                match &t.weights {
                    None => row.extend(["-"; 9].map(String::from)),
                    Some(w) => row.extend([
                        table::number(w.min),
                        table::number(w.max),
                        table::number(w.mean),
                        table::number(w.deviation),
                        if w.nonfinite > 0 { format!("{} not finite", w.nonfinite) } else { w.outliers.to_string() },
                        format!("{:.2} of {}", w.entropy_bits, w.entropy_of_bits),
                        w.lossless_bits.map_or("-".into(), |bits| format!("{bits:.2}")),
                        w.palette4.map_or("-".into(), |bits| {
                            format!("{:.2} {:.2} {:.2}", bits.raw, bits.huffman, bits.rans)
                        }),
                        sparkline(&w.histogram),
                    ]),
                }
                rows.push(row);
            }
            format!(
                "{}\n{} tensors, {} elements, {}\n\
range, mean and deviation are those of the values; outliers lie more than 6 deviations from the mean; the histogram goes\n\
from -4 to 4 deviations; entropy in bits per weight, of the whole pattern or of the upper 20 bits of a wider one; lossless: about what the preset\n\
of that name would take; palette4: about what 4-bit codes of the weights that are not zero would take, with an index of the zeros: packed,\n\
by Huffman, by rANS\n",
                table::table(&rows),
                tensors.len(),
                report.elements,
                table::bytes(report.bytes),
            )
        })?;
        Ok(0)
    }
}

fn sparkline(counts: &[u64]) -> String {
    let most = counts.iter().max().copied().unwrap_or(0).max(1);
    let bar = |n: &u64| match (*n * 8).div_ceil(most) {
        0 => ' ',
        level => char::from_u32(0x2580 + level as u32).unwrap_or(' '),
    };
    counts.iter().map(bar).collect()
}
