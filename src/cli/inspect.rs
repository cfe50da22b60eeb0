use super::{Common, table};
use clap::Args;
use std::path::PathBuf;
use tersor::{Result, format::Checkpoint, inspect};

#[derive(Args)]
pub struct Inspect {
    /// A .safetensors file, an index.json or a Hugging Face folder; an archive shows its components
    model: PathBuf,
    #[command(flatten)]
    pub common: Common,
}

impl Inspect {
    pub fn run(self) -> Result<u8> {
        let backend = self.common.backend()?;
        let checkpoint = Checkpoint::open(&self.model)?;
        let tensors = {
            let progress = self.common.progress();
            inspect::inspect(&checkpoint, &self.common.options(&backend, &*progress, false))?
        };
        let weights: u64 = tensors.iter().map(|t| t.elements).sum();
        let json = serde_json::json!({
            "ok": true,
            "backend": backend.name(),
            "bytes": checkpoint.bytes(),
            "elements": weights,
            "tensors": tensors,
        });
        self.common.print(&json, || {
            let head = ["tensor", "type", "shape", "min", "max", "mean", "deviation", "outliers", "entropy", "histogram"];
            let mut rows = vec![head.map(String::from).to_vec()];
            for t in &tensors {
                let mut row = vec![table::name(&t.name), t.dtype.clone(), format!("{:?}", t.shape)];
                match &t.weights {
                    None => row.extend(["-"; 7].map(String::from)),
                    Some(w) => row.extend([
                        table::number(w.min),
                        table::number(w.max),
                        table::number(w.mean),
                        table::number(w.deviation),
                        if w.nonfinite > 0 { format!("{} not finite", w.nonfinite) } else { w.outliers.to_string() },
                        format!("{:.2}", w.entropy_bits),
                        sparkline(&w.histogram),
                    ]),
                }
                rows.push(row);
            }
            format!(
                "{}\n{} tensors, {weights} elements, {}; outliers lie more than 6 deviations from the mean; entropy in bits \
per weight, of the whole value for types of 8 and 16 bits, of its upper 20 bits for wider ones; histogram from -4 to 4 deviations\n",
                table::table(&rows),
                tensors.len(),
                table::bytes(checkpoint.bytes()),
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
