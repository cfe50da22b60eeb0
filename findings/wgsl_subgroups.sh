#!/usr/bin/env bash
# No WGSL file with a subgroup operation compiles both with naga and with Tint.
#
# Expected: a shader that the WGSL standard calls valid compiles with naga (the compiler of wgpu) and with Tint (Chromium's).
# Happens:  the standard asks for `enable subgroups;` before any subgroup function. Tint insists on it; naga refuses the line as
#           not implemented, and takes the functions without it. So each compiler refuses what the other one demands.
# Versions: naga 30.0.1 (crates.io); Tint as webgpu 0.6.2 (npm) ships it, on its backend without a device.
# Seen:     2026-11-29. Upstream: gfx-rs/wgpu#5555.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir src
cat >Cargo.toml <<'EOF'
[package]
name = "subgroups"
version = "0.0.0"
edition = "2024"

[dependencies]
naga = { version = "=30.0.1", features = ["wgsl-in"] }
EOF
cat >src/main.rs <<'EOF'
use naga::{
    front::wgsl,
    valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator},
};

fn main() {
    let source = std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap();
    let verdict = wgsl::parse_str(&source).map_err(|e| e.message().to_owned()).and_then(|module| {
        Validator::new(ValidationFlags::all(), Capabilities::all())
            .subgroup_stages(ShaderStages::COMPUTE)
            .subgroup_operations(SubgroupOperationSet::all())
            .validate(&module)
            .map_err(|e| e.to_string())
    });
    println!("{}", verdict.map_or_else(|e| format!("refused: {e}"), |_| "accepted".to_owned()));
}
EOF
cat >tint.mjs <<'EOF'
import { readFileSync } from "node:fs";
import { create, globals } from "webgpu";
Object.assign(globalThis, globals);

const adapter = await create(["backend=null"]).requestAdapter();
const device = await adapter.requestDevice({ requiredFeatures: ["subgroups"] });
device.pushErrorScope("validation");
const module = device.createShaderModule({ code: readFileSync(process.argv[2], "utf8") });
const errors = (await module.getCompilationInfo()).messages.filter((m) => m.type === "error");
await device.popErrorScope();
console.log(errors.length ? `refused: ${errors[0].message}` : "accepted");
process.exit(0);
EOF
cat >plain.wgsl <<'EOF'
@group(0) @binding(0) var<storage, read_write> sums: array<u32>;

@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    sums[at.x] = subgroupAdd(at.x);
}
EOF
{ echo "enable subgroups;"; cat plain.wgsl; } >enabled.wgsl

CARGO_TARGET_DIR=$work/target cargo build --quiet
npm install --silent --ignore-scripts --no-audit --no-fund webgpu@0.6.2

declare -A verdict
for shader in plain enabled; do
  verdict[naga $shader]=$(target/debug/subgroups $shader.wgsl)
  verdict[tint $shader]=$(node tint.mjs $shader.wgsl)
done
echo "without \`enable subgroups;\`"
echo "  naga 30.0.1: ${verdict[naga plain]}"
echo "  Tint of webgpu 0.6.2: ${verdict[tint plain]}"
echo "with \`enable subgroups;\`, as the standard has it"
echo "  naga 30.0.1: ${verdict[naga enabled]}"
echo "  Tint of webgpu 0.6.2: ${verdict[tint enabled]}"

if [[ ${verdict[naga plain]} != accepted || ${verdict[tint enabled]} != accepted ||
  ${verdict[naga enabled]} != refused:*subgroups* || ${verdict[tint plain]} != refused:*subgroups* ]]; then
  echo "CHANGED: one of the compilers takes what the other one demands" >&2
  exit 1
fi
echo "As seen before: each refuses what the other one demands."
