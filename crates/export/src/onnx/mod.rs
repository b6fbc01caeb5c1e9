//! Writes a graph as an ONNX file.
mod operators;
mod proto;
mod writer;

use std::path::Path;

use heterodyne_nn::{Error, Result};
use prost::Message;
use proto::{DataType, DimensionValue};
use writer::Writer;

use crate::graph::{Graph, Size};

/// Name of the input, normalised images (batch,3,H,W) in float32.
pub const INPUT: &str = "images";
/// Name of the output (batch,classes).
pub const OUTPUT: &str = "logits";

/// Writes `graph` for any batch size, with `about` under the key `heterodyne` in the file's metadata.
pub fn write(graph: &Graph, path: &Path, about: &str) -> Result<()> {
    let model = proto::Model {
        ir_version: proto::IR_VERSION,
        producer_name: "heterodyne".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(of(graph)?),
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: proto::OPSET }],
        metadata_props: vec![proto::Entry { key: "heterodyne".to_owned(), value: about.to_owned() }],
    };
    std::fs::write(path, model.encode_to_vec()).map_err(|e| Error::file(path, format!("cannot be written ({e})")))
}

/// The whole graph.
fn of(graph: &Graph) -> Result<proto::Graph> {
    let mut w = Writer::new(graph, INPUT);
    for step in &graph.program.steps {
        operators::write(&mut w, step)?;
    }
    let output = w.name(graph.program.output)?;
    w.node("Identity", &[&output], &[], OUTPUT);
    let input = vec![described(INPUT, w.sizes(0)?)];
    let output = vec![described(OUTPUT, w.sizes(graph.program.output)?)];
    let (node, initializer) = w.finish();
    Ok(proto::Graph { name: "network".to_owned(), input, output, node, initializer })
}

fn described(name: &str, sizes: &[Size]) -> proto::ValueInfo {
    let value = |size: &Size| match size {
        Size::Fixed(n) => DimensionValue::Fixed(*n),
        Size::PerImage(_) => DimensionValue::Named("batch".to_owned()),
    };
    let dim = sizes.iter().map(|size| proto::Dimension { value: Some(value(size)) }).collect();
    let tensor_type = proto::TensorType { elem_type: DataType::Float.into(), shape: Some(proto::Shape { dim }) };
    proto::ValueInfo { name: name.to_owned(), r#type: Some(proto::Type { tensor_type: Some(tensor_type) }) }
}
