//! A network ready to run: layers, weights, view of an image, precision.
mod build;
pub mod card;
pub mod classes;
mod classifier;
mod description;
mod files;
pub mod input;
mod processor;
pub(crate) mod values;
pub mod weights;

use heterodyne_data::View;
use heterodyne_models::Model;
use heterodyne_nn::{InputSpec, LoadReport, Module, Output, ParamStore, Pass, TapSpec};
use heterodyne_run::recipe::schema::Precision;
use heterodyne_shim::{AllowTf32, Autocast, NoGrad, Tf32};
use tch::{Device, Tensor};

pub use self::{
    build::{BuildOptions, model},
    card::Card,
    classifier::Classifier,
    weights::{Source, Weights},
};
use crate::{Result, device};

/// A network that takes uint8 images and views them at its own size and normalisation.
pub struct Network {
    /// The name of the model or package.
    pub name: String,
    /// The layers.
    pub module: Box<dyn Module>,
    /// Parameters and buffers; empty for a package.
    pub store: ParamStore,
    /// Resizing and normalisation.
    pub view: View,
    /// The evaluation transform.
    pub input: InputSpec,
    /// Number format of matrix products and convolutions.
    pub precision: Precision,
    /// How the weights matched their file, if they come from one.
    pub loaded: Option<LoadReport>,
}

impl Network {
    /// Wraps a model of the registry.
    pub fn of(model: Model, input: InputSpec, precision: Precision) -> Result<Self> {
        let Model { net, store, def, loaded, .. } = model;
        let view = View::new(input.img, input.mean, input.std, store.device())?;
        Ok(Self { name: def.name.to_owned(), module: net, store, view, input, precision, loaded })
    }

    /// The network's taps.
    #[must_use]
    pub fn taps(&self) -> &TapSpec {
        self.module.taps()
    }

    /// The network's device.
    #[must_use]
    pub fn device(&self) -> Device {
        self.store.device()
    }

    /// The autocast guard for the network's precision.
    pub fn autocast(&self) -> Result<Autocast> {
        Ok(Autocast::to(self.device(), device::autocast_format(self.precision))?)
    }

    /// Allows TF32 in the network's own products, if that is its precision.
    pub fn tf32(&self) -> Result<Option<AllowTf32>> {
        let allowed = self.precision == Precision::Tf32;
        Ok(allowed.then(|| AllowTf32::new(Tf32::Everywhere)).transpose()?)
    }

    /// Runs uint8 images (B,3,H,W) on the device; records the graph if the thread's gradient mode is on.
    pub fn forward(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let x_bchw = self.view.apply(images);
        let _guards = device::guards(self.device(), self.precision)?;
        Ok(self.module.forward(&x_bchw, pass))
    }

    /// Like [`Network::forward`], without a graph.
    pub fn infer(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let _guard = NoGrad::new();
        self.forward(images, pass)
    }
}
