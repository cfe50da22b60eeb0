//! Which tensors are stacks of matrices.

use crate::TensorInfo;
use std::collections::BTreeSet;

/// Whether a tensor is a stack of matrices, one for each expert of a mixture, `[experts, out, in]`: a matrix of `experts x out`
/// rows then, so that every channel of every expert has its own scale, table or mask. `experts` are the numbers of experts that
/// config.json gives.
///
/// It is if it has exactly three dimensions, and
///
/// - its name says so: one of the parts between its dots is `experts`, and the next is no number, which would name one expert
///   of many; or one is `input_linear`, `output_linear` or `switch_mlp`; or
/// - config.json says so: the first dimension is its `num_experts`, `num_local_experts`, `n_routed_experts` or
///   `moe_num_experts`, of the model or of a part of it; unless a part of the name begins with `conv`: that is the kernel of a
///   convolution, which happens to have as many channels.
///
/// With `axis = 1` it is a stack of matrices `[experts, in, out]`, as gpt-oss and Llama 4 store them.
pub(super) fn is_stack(t: &TensorInfo, experts: &BTreeSet<u64>) -> bool {
    let [first, _, _] = t.shape[..] else { return false };
    let parts: Vec<&str> = t.own_name().split('.').collect();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let named = parts.iter().enumerate().any(|(i, part)| match *part {
        "experts" => !parts.get(i + 1).is_some_and(|next| is_number(next)),
        part => ["input_linear", "output_linear", "switch_mlp"].contains(&part),
    });
    named || experts.contains(&first) && !parts.iter().any(|part| part.starts_with("conv"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn stacks_are_known_by_name_or_by_the_number_of_experts() {
        let stack = |name: &str, shape: &[u64], experts: &[u64]| {
            let (name, shape) = (name.to_owned(), shape.to_vec());
            let info = TensorInfo {
                name,
                prefix: 0,
                dtype: DType::BF16,
                shape,
                file: 0,
                storage: crate::Storage::Plain { offset: 0 },
                bytes: 0,
            };
            is_stack(&info, &experts.iter().copied().collect())
        };
        for name in [
            "model.layers.0.mlp.experts.gate_up_proj",
            "model.layers.0.feed_forward.experts.down_proj",
            "model.layers.0.block_sparse_moe.experts.w1",
            "model.layers.0.block_sparse_moe.input_linear.weight",
            "model.layers.0.block_sparse_moe.output_linear.weight",
            "transformer.blocks.0.ffn.experts.mlp.w1",
            "model.layers.0.mlp.switch_mlp.up_proj.weight",
            "experts",
        ] {
            assert!(stack(name, &[8, 6, 4], &[]), "{name}");
            assert!(!stack(name, &[8, 6], &[8]), "{name}");
            assert!(!stack(name, &[8, 6, 4, 2], &[8]), "{name}");
        }
        for name in [
            "model.layers.0.mlp.experts.3.conv.weight",
            "model.layers.0.mlp.shared_experts.up_proj",
            "encoder.conv1.weight",
            "model.layers.0.mixer.conv1d.weight",
            "embeddings",
        ] {
            assert!(!stack(name, &[8, 6, 4], &[]), "{name}");
            assert!(!stack(name, &[8, 6, 4], &[16, 4]), "{name}");
        }
        assert!(stack("model.layers.0.moe.up_proj.weight", &[8, 6, 4], &[2, 8]));
        assert!(!stack("encoder.conv1.weight", &[8, 6, 4], &[8]));
        assert!(!stack("encoder.layers.0.conv.weight", &[8, 6, 4], &[8]));
    }
}
