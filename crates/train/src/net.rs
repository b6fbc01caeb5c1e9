//! A network with all that belongs to running it: its view of the batch, its precision.
use heterodyne_data::View;
use heterodyne_models::Model;
use heterodyne_nn::{InputSpec, LoadReport, Network, Output, ParamStore, Pass, TapSpec};
use heterodyne_run::recipe::schema::Precision;
use heterodyne_shim::{Autocast, NoGrad};
use tch::{Device, Tensor};

use crate::Result;

/// A network, fed from uint8 images with its own size and normalisation.
pub struct Net {
    /// What it is called.
    pub name: String,
    /// The layers.
    pub network: Box<dyn Network>,
    /// Its parameters and buffers; none are known of a package.
    pub store: ParamStore,
    /// Resizing and normalisation.
    pub view: View,
    /// How it is shown an image in an evaluation.
    pub input: InputSpec,
    /// Number format of the heavy operations.
    pub precision: Precision,
    /// How its weights were found, where they come from a file.
    pub loaded: Option<LoadReport>,
}

impl Net {
    /// A network of the registry.
    pub fn of(model: Model, input: InputSpec, precision: Precision) -> Result<Self> {
        let Model { net, store, def, loaded, .. } = model;
        let view = View::new(input.img, input.mean, input.std, store.device())?;
        Ok(Self { name: def.name.to_owned(), network: net, store, view, input, precision, loaded })
    }

    /// Its taps.
    #[must_use]
    pub fn taps(&self) -> &TapSpec {
        self.network.taps()
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.store.device()
    }

    /// The guard under which its heavy operations run.
    pub fn autocast(&self) -> Result<Autocast> {
        Ok(Autocast::new(self.device(), self.precision == Precision::Bf16)?)
    }

    /// Runs uint8 images (B,3,H,W) that are on the device, recording the graph as the thread's gradient mode says.
    pub fn forward(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let x_bchw = self.view.apply(images);
        let _cast = self.autocast()?;
        Ok(self.network.forward(&x_bchw, pass))
    }

    /// As [`Net::forward`], without a graph.
    pub fn infer(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let _guard = NoGrad::new();
        self.forward(images, pass)
    }
}
