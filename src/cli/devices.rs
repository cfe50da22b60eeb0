use crate::cli::{json, say, table};
use clap::Args;
use tersor::{
    Result,
    gpu::{AdapterSummary, Numerics, probe},
};

#[derive(Args)]
pub struct Devices {
    /// Print one JSON object on stdout and nothing else
    #[arg(short, long)]
    pub json: bool,
}

impl Devices {
    pub fn run(self) -> Result<u8> {
        let found = probe();
        if self.json {
            let of = |(adapter, numerics): &(AdapterSummary, Result<Numerics>)| {
                let error = numerics.as_ref().err().map(ToString::to_string);
                serde_json::json!({"adapter": adapter, "numerics": numerics.as_ref().ok(), "error": error})
            };
            let list: Vec<_> = found.iter().map(of).collect();
            let object = serde_json::json!({"ok": true, "adapters": list});
            say(&json::object("devices", &object)?)?;
            return Ok(0);
        }
        if found.is_empty() {
            say(
                "no GPU adapter (Vulkan, Metal or DX12) was found; everything runs on the CPU, with the same bytes\n",
            )?;
            return Ok(0);
        }
        for (a, n) in &found {
            let mut rows = vec![
                vec!["adapter".into(), a.title.clone()],
                vec!["longest binding".into(), table::bytes(a.max_binding_bytes)],
                vec!["longest buffer".into(), table::bytes(a.max_buffer_bytes)],
                vec!["timestamps".into(), yes(a.timestamps)],
            ];
            match n {
                Ok(n) => rows.extend([
                    vec!["multiplies as IEEE".into(), yes(n.multiply_exact)],
                    vec!["rounds ties to even".into(), yes(n.round_ties_even)],
                    vec!["flushes subnormals".into(), yes(n.flushes_subnormals)],
                    vec!["contracts a*b+c".into(), yes(n.contracts)],
                    vec!["reassociates".into(), yes(n.reassociates)],
                ]),
                Err(e) => rows.push(vec!["cannot be opened".into(), e.to_string()]),
            }
            let taken =
                if a.software { "taken by --device gpu only" } else { "taken by --device auto" };
            rows.push(vec!["use".into(), taken.into()]);
            say(&format!("{}\n", table::table(&rows)))?;
        }
        Ok(0)
    }
}

fn yes(b: bool) -> String {
    if b { "yes" } else { "no" }.into()
}
