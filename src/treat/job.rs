//! The tensor that is being treated, and everything its units need.

use crate::{
    Error, Result,
    decide::groups::Groups,
    engine::{Chain, Engine, Needs, assemble},
    form::{Packing, TensorManifest},
    kernels::transform,
    parallel,
    plan::Treat,
    stage::{Blocks, Source, Unit},
    treat::{chains::Stretch, importance::Importance},
};

/// A tensor on its way, unit by unit.
pub(super) struct Job<'a> {
    pub engine: &'a Engine<'a>,
    pub name: &'a str,
    pub source: &'a Source<'a>,
    pub treat: &'a Treat,
    /// What the manifest will say: what the plan says, but for the number of bits where an error limit chooses it.
    pub manifest: TensorManifest,
    /// Of the tensor as its source has it.
    pub outer: Blocks,
    /// The same of what is quantized, which are coefficients where it is transformed.
    pub blocks: Blocks,
    pub units: Vec<Unit>,
    pub importance: Option<Importance<'a>>,
}

impl<'a> Job<'a> {
    /// # Errors
    ///
    /// As [`Importance::open`].
    pub fn new(
        engine: &'a Engine<'a>,
        name: &'a str,
        source: &'a Source<'a>,
        treat: &'a Treat,
    ) -> Result<Self> {
        let manifest = treat.manifest.clone();
        let outer = Blocks::new(manifest.dtype, manifest.matrix());
        let blocks = outer.of_type(manifest.quantized_dtype());
        let units = outer.units(engine.unit_bytes);
        let importance = Importance::open(treat)?;
        Ok(Self { engine, name, source, treat, manifest, outer, blocks, units, importance })
    }

    /// How the elements of the tensor fall into groups that share a scale or a table.
    pub fn groups(&self) -> Groups {
        self.manifest.groups()
    }

    /// The groups that a unit touches.
    pub fn touched(&self, unit: &Unit) -> Stretch {
        Stretch::new(self.groups(), unit.start(&self.blocks), unit.elements())
    }

    /// What is done to the tensor next.
    pub fn chain(&self, kernel: &'static str, needs: Needs) -> Chain<'_> {
        Chain { kernel, tensor: self.name, needs }
    }

    /// A unit's elements as they are quantized: transformed where that is asked for.
    pub fn read(&self, unit: &Unit) -> Result<Vec<u32>> {
        let mut elements = self.raw(unit)?;
        Ok(self.transformed(unit, &mut elements)?.unwrap_or(elements))
    }

    /// A unit's elements as its source has them. Refuses values that are not finite, unless nothing is to change: here, once for
    /// every treatment, so that nothing is decided from them and none is lost.
    pub fn raw(&self, unit: &Unit) -> Result<Vec<u32>> {
        let elements = self.source.load(&self.outer, unit)?;
        match self.manifest.lossless() || crate::dtype::all_finite(self.outer.dtype, &elements) {
            true => Ok(elements),
            false => Err(self.nonfinite()),
        }
    }

    /// What becomes of these before they are quantized, if anything does.
    pub fn transformed(&self, unit: &Unit, elements: &mut Vec<u32>) -> Result<Option<Vec<u32>>> {
        let Some(of) = &self.manifest.transform else { return Ok(None) };
        let multiple = of.block.div_ceil(32) as usize;
        let needs = Needs { multiple, result_bytes: 4, ..Needs::default() };
        let chain = self.chain("transform", needs);
        let transformed = self.engine.run(chain, &self.outer, unit, elements, |on, tiles| {
            assemble(unit, tiles, Packing::of_bits(32), |tile| {
                transform(on, &tile.weights, of)?.into_words(on)
            })
        })?;
        Ok(Some(transformed))
    }

    pub fn nonfinite(&self) -> Error {
        // How many is for the report; this pass is taken only where there are some.
        let count = |unit: &Unit| {
            let mut values = vec![0.0; unit.elements()];
            let elements = self.source.load(&self.outer, unit)?;
            crate::dtype::decode(self.outer.dtype, &elements, 0, &mut values);
            Ok(values.iter().filter(|v| !v.is_finite()).count() as u64)
        };
        match parallel::try_map(&self.units, &count) {
            Ok(counts) => Error::NonFinite { tensor: self.name.into(), count: counts.iter().sum() },
            Err(e) => e,
        }
    }
}
