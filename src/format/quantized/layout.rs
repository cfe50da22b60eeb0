//! Who quantizes how: the layouts of codes and what belongs to them that people publish, by the names of their tensors.

/// A layout, those that names tell more certainly first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Layout {
    ComfyUi,
    Bitsandbytes4,
    Bitsandbytes8,
    CompressedTensors,
    Hqq,
    Aqlm,
    Quanto,
    Torchao,
    Mxfp4,
    Gptq,
    Mlx,
    Narrow,
    F8,
    Integers,
    /// Scales whose codes are elsewhere, or tell what they are by their type.
    Scaled,
}

impl Layout {
    /// What it is, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::ComfyUi => "codes of ComfyUI",
            Self::Bitsandbytes4 => "4-bit codes of bitsandbytes",
            Self::Bitsandbytes8 => "8-bit integers of bitsandbytes",
            Self::CompressedTensors => "packed codes of compressed-tensors",
            Self::Hqq => "codes of HQQ",
            Self::Aqlm => "codes of AQLM",
            Self::Quanto => "codes of quanto",
            Self::Torchao => "codes of torchao",
            Self::Mxfp4 => "blocks of MXFP4",
            Self::Gptq => "packed integers of GPTQ or AWQ",
            Self::Mlx => "packed codes of MLX",
            Self::Narrow => "floats of less than a byte",
            Self::F8 => "FP8 with scales",
            Self::Integers => "integer codes",
            Self::Scaled => "scales of codes that are elsewhere",
        }
    }
}

/// The layout that a tensor's name in its module tells, where only quantizers give such a name.
pub(super) fn told(part: &str) -> Option<Layout> {
    Some(match part {
        "comfy_quant" | "scale_weight" => Layout::ComfyUi,
        "absmax" | "quant_map" | "nested_absmax" | "nested_quant_map" => Layout::Bitsandbytes4,
        p if p.starts_with("quant_state.") => Layout::Bitsandbytes4,
        "SCB" | "weight_format" => Layout::Bitsandbytes8,
        "weight_packed" | "weight_global_scale" | "weight_shape" => Layout::CompressedTensors,
        "W_q" => Layout::Hqq,
        "codebooks" => Layout::Aqlm,
        "_data" | "_scale" | "_shift" => Layout::Quanto,
        p if p.ends_with("_qdata") => Layout::Torchao,
        p if p.ends_with("_blocks") => Layout::Mxfp4,
        "qweight" | "qzeros" | "g_idx" => Layout::Gptq,
        p if [
            "weight_scale",
            "weight_scales",
            "weight_scale_inv",
            "weight_scale_2",
            "weight_zero_point",
            "Wscale",
        ]
        .iter()
        .any(|ending| p.ends_with(ending)) =>
        {
            Layout::Scaled
        }
        _ => return None,
    })
}
