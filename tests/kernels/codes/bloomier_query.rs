//! Asking a Bloomier filter for all positions: worked example, agreement on even and uneven sets, refusals.

use super::retrieval::Structure;
use tersor::{codec::bloomier, kernels::bloomier_query};

const STRUCTURE: Structure = Structure { encode: bloomier::encode, query: bloomier_query };

#[test]
fn worked_example() {
    STRUCTURE.worked_example();
}

#[test]
fn gpu_agrees_with_reference() {
    STRUCTURE.gpu_agrees_with_reference();
}

#[test]
fn damage_is_refused_or_answered_alike() {
    STRUCTURE.damage_is_refused_or_answered_alike();
}
