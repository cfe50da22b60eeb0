//! Asking ribbons for all positions: worked example, agreement on even and uneven sets, refusals.

use super::retrieval::Structure;
use tersor::{codec::ribbon, kernels::ribbon_query};

const STRUCTURE: Structure = Structure { encode: ribbon::encode, query: ribbon_query };

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
