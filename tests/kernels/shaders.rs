//! The house rules for shaders, checked without a GPU; and that a cross-check can fail.

use naga::{
    AddressSpace, StorageAccess, TypeInner, back,
    front::wgsl,
    proc::Layouter,
    valid::{Capabilities, ValidationFlags, Validator},
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use tersor::{Backend, gpu::Kernel, kernels};
use wgpu::Features;

/// No kernel may ask for more than every WebGPU device offers; wgpu itself does not check it.
const MAX_WORKGROUP_BYTES: u32 = 16 << 10;

/// The `WING/NAME` of every file below a folder that ends so.
fn files(dir: &str, ext: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let folders = |dir: &Path| fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    let (mut left, mut found): (Vec<PathBuf>, _) = (folders(&root), BTreeSet::new());
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend::<Vec<PathBuf>>(folders(&path));
        } else if path.extension().is_some_and(|e| e == ext) {
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            found.insert(name.to_str().unwrap().to_owned());
        }
    }
    found
}

#[test]
fn every_shader_is_registered_and_has_host_and_test_in_its_wing() {
    let registered: BTreeSet<_> = kernels::ALL.iter().map(|k| k.name.to_owned()).collect();
    let name = |path: &String| path.rsplit('/').next().unwrap().to_owned();
    // Shared by shaders, and no kernels.
    let shared = ["codes/retrieval", "products/product", "transforms/mixing"];
    let shaders = files("shaders", "wgsl").into_iter();
    let shaders = shaders.filter(|s| !s.starts_with("lib/") && !shared.contains(&s.as_str()));
    let shaders: BTreeSet<_> = shaders.collect();
    assert_eq!(registered, shaders.iter().map(name).collect());
    // The numerics probe is the device's own self-test: its host file is src/gpu/numerics.rs.
    let kernels: BTreeSet<_> = shaders.into_iter().filter(|k| k != "numerics").collect();
    assert!(!kernels.is_empty());
    for dir in ["src/kernels", "tests/kernels"] {
        let found = files(dir, "rs");
        let missing: Vec<_> = kernels.difference(&found).collect();
        assert!(missing.is_empty(), "{dir} has no file for {missing:?}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let benches = ["main", "jobs"].map(|f| format!("benches/kernels/{f}.rs"));
    let benches = benches.map(|file| fs::read_to_string(root.join(file)).unwrap()).concat();
    for kernel in kernels.iter().map(name) {
        assert!(benches.contains(&format!("\"{kernel}\"")), "{kernel} has no bench");
    }
}

#[test]
fn every_shader_validates_and_follows_the_binding_convention() {
    for kernel in kernels::ALL.iter() {
        let name = kernel.name;
        let module = wgsl::parse_str(kernel.wgsl)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(kernel.wgsl, name)));
        let info = Validator::new(ValidationFlags::all(), capabilities(kernel))
            .validate(&module)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(kernel.wgsl, name)));
        let entries: Vec<_> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(entries, ["main"], "{name}");
        let has_width = module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some("WG"));
        assert!(has_width, "{name}: no override WG");

        let mut seen_output = false;
        let bound =
            module.global_variables.iter().filter_map(|(h, v)| Some((h, v, v.binding.as_ref()?)));
        // The number of the first workgroup is bound apart, the same way for all.
        let bound = bound.filter(|(_, var, at)| {
            let grid =
                var.name.as_deref() == Some("first_workgroup") && (at.group, at.binding) == (1, 0);
            !(grid && var.space == AddressSpace::Uniform)
        });
        for (i, (handle, var, at)) in bound.enumerate() {
            let what = format!("{name}: {}", var.name.as_deref().unwrap_or("?"));
            assert_eq!((at.group, at.binding), (0, i as u32), "{what}: bindings go in order");
            let used = !info.get_entry_point(0)[handle].is_empty();
            assert!(used, "{what}: unused, so the derived layout would drop it");
            match var.space {
                AddressSpace::Uniform => {
                    let (members, span) = match &module.types[var.ty].inner {
                        TypeInner::Struct { members, span } => (members, *span as usize),
                        _ => panic!("{what}: not a struct"),
                    };
                    assert_eq!((i, span), (0, kernel.params), "{what}: not the Rust struct's size");
                    let scalar = |m: &naga::StructMember| matches!(module.types[m.ty].inner, TypeInner::Scalar(s) if s.width == 4);
                    assert!(members.iter().all(scalar), "{what}: 4-byte scalars only");
                }
                AddressSpace::Storage { access } => {
                    let output = access.contains(StorageAccess::STORE);
                    assert!(i > 0 && (output || !seen_output), "{what}: inputs before outputs");
                    assert!(i <= 8, "{what}: more than 8 storage buffers");
                    seen_output |= output;
                }
                other => panic!("{what}: unexpected {other:?}"),
            }
        }
        assert!(seen_output, "{name}: writes nothing");
        assert!(workgroup_bytes(kernel) <= MAX_WORKGROUP_BYTES, "{name}: workgroup memory");
    }
}

/// What WGSL's grammar refuses and naga takes: operators of which neither binds before the other, side by side without
/// parentheses. Those are one of `&`, `|` and `^` beside anything else, a shift beside arithmetic or another shift, and `&&` beside
/// `||`. Found from the operators of each expression between separators, at each depth of parentheses.
fn mixed_operators(wgsl: &str) -> Vec<String> {
    let lines = wgsl.lines().map(|line| line.split("//").next().unwrap_or(line));
    let mut text = lines.collect::<Vec<_>>().join(" ");
    // The brackets of types are no comparisons; those within others go first.
    let types = r"\b(array|atomic|bitcast|coop_mat\w*|mat\dx\d|ptr|var|vec\d)\s*<[^<>;{}]*>";
    let types = regex::Regex::new(types).unwrap();
    while types.is_match(&text) {
        text = types.replace_all(&text, "$1").into_owned();
    }
    let token = r"\w[\w.]*|->|<<=|>>=|<<|>>|[<>=!]=|&&|\|\||[-+*/%&|^]=|\+\+|--|\S";
    let token = regex::Regex::new(token).unwrap();
    let binary = [
        "<<", ">>", "<", ">", "<=", ">=", "==", "!=", "&&", "||", "+", "-", "*", "/", "%", "&",
        "|", "^",
    ];
    let words = ["return", "if", "while", "for", "else", "let", "var", "switch", "case"];
    let (mut found, mut depths, mut after_operand) = (Vec::new(), vec![Vec::new()], false);
    for token in token.find_iter(&text).map(|m| m.as_str()).chain([";"]) {
        let operand = token.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if operand && !words.contains(&token) {
            after_operand = true;
            continue;
        }
        match token {
            "(" | "[" => depths.push(Vec::new()),
            "." => {}
            // The sign of a number is no operator between two.
            _ if binary.contains(&token) => {
                if after_operand {
                    depths.last_mut().unwrap().push(token);
                }
            }
            _ => {
                let operators = std::mem::take(depths.last_mut().unwrap());
                if !is_grammatical(&operators) {
                    found.push(operators.join(" "));
                }
                if token == ")" || token == "]" {
                    depths.pop();
                }
            }
        }
        after_operand = token == ")" || token == "]" || token == ".";
    }
    assert_eq!(depths.len(), 1, "parentheses");
    found
}

/// Whether WGSL says in which order the operators of an expression apply.
fn is_grammatical(operators: &[&str]) -> bool {
    if operators.iter().any(|o| ["&", "|", "^"].contains(o)) {
        return operators.iter().all(|o| *o == operators[0]);
    }
    let both = operators.contains(&"&&") && operators.contains(&"||");
    let compares = |o: &&str| ["<", ">", "<=", ">=", "==", "!=", "&&", "||"].contains(o);
    let shifts = |part: &[&str]| part.iter().any(|o| ["<<", ">>"].contains(o));
    !both && operators.split(compares).all(|part| part.len() < 2 || !shifts(part))
}

#[test]
fn operators_are_mixed_only_as_wgsl_allows() {
    for kernel in kernels::ALL.iter() {
        assert_eq!(mixed_operators(kernel.wgsl), [""; 0], "{}", kernel.name);
    }
    let refused = [
        "x = a | b << c;",
        "x = a & b | c;",
        "if a & b == c { }",
        "x = f(y, a + b << c)[3];",
        "x = a << b << c;",
        "x = (p) && (q) || r;",
        "let x: vec2<u32> = vec2<u32>(a, b) >> c ^ d;",
    ];
    for wgsl in refused {
        assert_eq!(mixed_operators(wgsl).len(), 1, "{wgsl}");
    }
    let taken = [
        "x = a | (b << c) | d[i << 2u];",
        "x = -a << b; if a << 1u < b && c { y <<= d + 1u; }",
        "var<workgroup> rows: array<vec4<u32>, A * 64u>; // a | b << c",
        "x = f(a << b, -c + d) | e; y = a.x * b - c;",
    ];
    for wgsl in taken {
        assert_eq!(mixed_operators(wgsl), [""; 0], "{wgsl}");
    }
}

/// Exactly the capabilities the device is opened with for this kernel: none, but for what the shader itself enables.
fn capabilities(kernel: &Kernel) -> Capabilities {
    let (features, mut capabilities) = (kernel.features(), Capabilities::empty());
    capabilities.set(Capabilities::SHADER_FLOAT16, features.contains(Features::SHADER_F16));
    let matrices = features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, matrices);
    // Packing two halves into a word, which all of Vulkan, Metal and DX12 can: the probe asks how they round.
    capabilities.set(Capabilities::SHADER_FLOAT16_IN_FLOAT32, kernel.name == "numerics");
    capabilities
}

/// Workgroup memory of a kernel once its overrides have values. Those besides `WG` only shrink or switch, so 1 will do.
fn workgroup_bytes(kernel: &Kernel) -> u32 {
    let module = wgsl::parse_str(kernel.wgsl).unwrap();
    let info =
        Validator::new(ValidationFlags::all(), capabilities(kernel)).validate(&module).unwrap();
    let constants: back::PipelineConstants = module
        .overrides
        .iter()
        .filter_map(|(_, o)| o.name.clone())
        .map(|n| {
            let value = if n == "WG" { kernel.workgroup.into() } else { 1.0 };
            (n, value)
        })
        .collect();
    let (module, _) =
        back::pipeline_constants::process_overrides(&module, &info, None, &constants).unwrap();
    let mut layout = Layouter::default();
    layout.update(module.to_ctx()).unwrap();
    let shared = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
    shared.map(|(_, v)| layout[v.ty].size).sum()
}

#[test]
fn the_cross_check_can_fail() {
    if crate::support::gpu().is_none() {
        return;
    }
    let disagree = |on: &Backend| match on {
        Backend::Cpu => Ok(vec![1, 2, 3]),
        Backend::Gpu(_) => Ok(vec![1, 2, 4]),
    };
    assert!(std::panic::catch_unwind(|| crate::support::cross_check("teeth", disagree)).is_err());
}

#[test]
fn the_device_rounds_as_the_reference_does() {
    // Not a property of shaders but of this device: kernels rely on it or take their integer path.
    if let Some(Backend::Gpu(gpu)) = crate::support::gpu() {
        eprintln!("{}: {:?}", gpu.title(), gpu.numerics());
        assert!(gpu.numerics().rounds_exactly());
    }
}
