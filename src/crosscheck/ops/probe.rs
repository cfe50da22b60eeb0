//! The probe of a device's arithmetic.

use crate::{
    Backend,
    crosscheck::{
        case::{Data, Input},
        compare::Class,
        op::Op,
        report::Fingerprint,
    },
    gpu::{NUMERICS as PROBE, Numerics},
};

/// What a device was found to do when it was opened, it does again.
pub const NUMERICS: Op = Op {
    name: "numerics",
    kernels: &[&PROBE],
    class: Class::Invariant("repeatable", |_, outputs| {
        let [(_, opened), (_, now)] = &outputs[..] else { return Ok(Some("no results".into())) };
        let differ = opened != now;
        Ok(differ.then(|| format!("first {:?}, then {:?}", opened.bytes(), now.bytes())))
    }),
    expands: 1,
    make: |maker| maker.emit("edge", Input::new()),
    run: |on, _| {
        let [opened, now] = match on {
            Backend::Cpu => [Numerics::default(); 2],
            Backend::Gpu(gpu) => [gpu.numerics(), gpu.measure()?],
        };
        Ok(vec![("opened", flags(opened)), ("now", flags(now))])
    },
};

fn flags(numerics: Numerics) -> Data {
    let f = Fingerprint::from(numerics);
    let all = [
        f.rne_add,
        f.ftz,
        f.fma_contracts,
        f.reassociates,
        f.nan_cmp,
        f.barrier_ok,
        f.f16_rne,
        f.rne_multiply,
        f.round_ties_even,
    ];
    Data::u8((1, all.len()), &all.map(u8::from))
}
