//! A network with all that belongs to running it: its view of the batch, its precision.
use heterodyne_data::View;
use heterodyne_models::Model;
use heterodyne_nn::{Output, Pass};
use heterodyne_run::recipe::schema::Precision;
use heterodyne_shim::{Autocast, NoGrad};
use tch::{Device, Tensor};

use crate::Result;

/// A network, fed from uint8 images with its own size and normalisation.
pub struct Net {
    /// Layers and parameters.
    pub model: Model,
    /// Resizing and normalisation.
    pub view: View,
    /// Number format of the heavy operations.
    pub precision: Precision,
}

impl Net {
    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.model.store.device()
    }

    /// The guard under which its heavy operations run.
    pub fn autocast(&self) -> Result<Autocast> {
        Ok(Autocast::new(self.device(), self.precision == Precision::Bf16)?)
    }

    /// Runs uint8 images (B,3,H,W) that are on the device, recording the graph as the thread's gradient mode says.
    pub fn forward(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let x_bchw = self.view.apply(images);
        let _cast = self.autocast()?;
        Ok(self.model.net.forward(&x_bchw, pass))
    }

    /// As [`Net::forward`], without a graph.
    pub fn infer(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let _guard = NoGrad::new();
        self.forward(images, pass)
    }
}
