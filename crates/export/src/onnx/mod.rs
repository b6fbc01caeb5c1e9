//! A graph as an ONNX file.
mod operators;
mod proto;
mod writer;

use std::path::Path;

use heterodyne_nn::{Error, Result};
use prost::Message;

use crate::graph::Graph;

/// Name of the input, normalised images (batch,3,H,W) in float32.
pub const INPUT: &str = "images";
/// Name of the output (batch,classes).
pub const OUTPUT: &str = "logits";

/// Writes `graph` for any number of images, with `about` under the key `heterodyne` of the file's metadata.
pub fn write(graph: &Graph, path: &Path, about: &str) -> Result<()> {
    let model = proto::Model {
        ir_version: proto::IR_VERSION,
        producer_name: "heterodyne".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(writer::graph(graph)?),
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: proto::OPSET }],
        metadata_props: vec![proto::Entry { key: "heterodyne".to_owned(), value: about.to_owned() }],
    };
    std::fs::write(path, model.encode_to_vec()).map_err(|e| Error::file(path, format!("cannot be written ({e})")))
}
