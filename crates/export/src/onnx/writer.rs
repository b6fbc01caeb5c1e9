//! Values of a graph and their names in an ONNX file.
use std::collections::{BTreeMap, HashMap};

use heterodyne_nn::{Error, Result};
use heterodyne_shim::script::{Step, Value};
use tch::{Device, Kind, Tensor};

use super::proto::{self, Attribute, AttributeType, DataType, Node};
use crate::graph::{Graph, Size};

/// An attribute of an operator.
pub enum Attr<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f64),
}

/// An ONNX graph in the making.
pub struct Writer<'a> {
    graph: &'a Graph,
    node: Vec<Node>,
    initializer: BTreeMap<String, proto::Tensor>,
    /// Names of the values that have one.
    names: HashMap<usize, String>,
    /// The members of each list of values.
    lists: HashMap<usize, Vec<usize>>,
    /// The name of the batch size, a vector (1), once it is needed.
    images: Option<String>,
}

impl<'a> Writer<'a> {
    /// An empty graph whose input is called `input`.
    pub fn new(graph: &'a Graph, input: &str) -> Self {
        Self {
            graph,
            node: Vec::new(),
            initializer: BTreeMap::new(),
            names: HashMap::from([(0, input.to_owned())]),
            lists: HashMap::new(),
            images: None,
        }
    }

    /// The operators and constants of the graph.
    pub fn finish(self) -> (Vec<Node>, Vec<proto::Tensor>) {
        (self.node, self.initializer.into_values().collect())
    }

    /// The name of tensor `value`; a constant tensor or a number is added to the file.
    pub fn name(&mut self, value: usize) -> Result<String> {
        if let Some(name) = self.names.get(&value) {
            return Ok(name.clone());
        }
        let name = match &self.graph.program.values[value] {
            Value::Held { name, tensor } if name.is_empty() => self.constant(&format!("number_{value}"), tensor)?,
            Value::Held { name, tensor } => self.constant(name, tensor)?,
            Value::Int(n) => self.constant(&format!("number_{value}"), &Tensor::from(*n as f32))?,
            Value::Real(x) => self.constant(&format!("number_{value}"), &Tensor::from(*x as f32))?,
            _ => return Err(Error::invalid("a step reads a tensor that no earlier step computes")),
        };
        self.names.insert(value, name.clone());
        Ok(name)
    }

    /// Adds a constant tensor under `name`.
    pub fn constant(&mut self, name: &str, t: &Tensor) -> Result<String> {
        let (data_type, kind) =
            if t.is_floating_point() { (DataType::Float, Kind::Float) } else { (DataType::Int64, Kind::Int64) };
        if !self.initializer.contains_key(name) {
            let t = t.detach().f_to(Device::Cpu)?.f_to_kind(kind)?.f_contiguous()?;
            let mut raw_data = vec![0; t.numel() * kind.elt_size_in_bytes()];
            t.f_copy_data_u8(&mut raw_data, t.numel())?;
            let tensor = proto::Tensor { dims: t.size(), data_type: data_type.into(), name: name.to_owned(), raw_data };
            self.initializer.insert(name.to_owned(), tensor);
        }
        Ok(name.to_owned())
    }

    /// A vector of integers; equal vectors share one.
    pub fn ints(&mut self, values: &[i64]) -> Result<String> {
        let text: Vec<_> = values.iter().map(i64::to_string).collect();
        self.constant(&format!("ints_{}", text.join("_")), &Tensor::from_slice(values))
    }

    /// Adds an operator whose only result is named `output`.
    pub fn node(&mut self, op_type: &str, inputs: &[&str], attributes: &[(&str, Attr)], output: &str) {
        self.node_of(op_type, inputs, attributes, vec![output.to_owned()]);
    }

    /// Adds an operator with several results.
    pub fn node_of(&mut self, op_type: &str, inputs: &[&str], attributes: &[(&str, Attr)], output: Vec<String>) {
        let attribute = |(name, attr): &(&str, Attr)| {
            let mut a = Attribute { name: (*name).to_owned(), ..Attribute::default() };
            match attr {
                Attr::Int(i) => (a.i, a.r#type) = (*i, AttributeType::Int.into()),
                Attr::Ints(ints) => (a.ints, a.r#type) = (ints.to_vec(), AttributeType::Ints.into()),
                Attr::Float(f) => (a.f, a.r#type) = (*f as f32, AttributeType::Float.into()),
            }
            a
        };
        self.node.push(Node {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            name: format!("{}_{}", op_type.to_lowercase(), self.node.len()),
            output,
            op_type: op_type.to_owned(),
            attribute: attributes.iter().map(attribute).collect(),
        });
    }

    /// Adds an operator for an intermediate result, and returns the result's name.
    pub fn between(&mut self, op_type: &str, inputs: &[&str], attributes: &[(&str, Attr)]) -> String {
        let output = format!("t{}", self.node.len());
        self.node(op_type, inputs, attributes, &output);
        output
    }

    /// A name for result `value`.
    pub fn give(&mut self, value: usize) -> String {
        let name = format!("v{value}");
        self.names.insert(value, name.clone());
        name
    }

    /// Makes result `value` an alias of `name`.
    pub fn alias(&mut self, value: usize, name: String) {
        self.names.insert(value, name);
    }

    /// Records the members of list `value`.
    pub fn list(&mut self, value: usize, members: &[usize]) {
        self.lists.insert(value, members.to_vec());
    }

    /// The members of a list.
    pub fn members(&self, value: usize) -> Result<Vec<usize>> {
        self.lists
            .get(&value)
            .cloned()
            .ok_or_else(|| Error::invalid("a step reads a list that no earlier step creates"))
    }

    /// The sizes of a tensor.
    pub fn sizes(&self, value: usize) -> Result<&'a [Size]> {
        self.graph.sizes.get(&value).map(Vec::as_slice).ok_or_else(|| Error::invalid("a tensor's sizes are unknown"))
    }

    /// The value itself.
    pub fn value(&self, value: usize) -> &'a Value {
        &self.graph.program.values[value]
    }

    /// Whether the integer is a multiple of the batch size.
    pub fn is_count(&self, value: usize) -> bool {
        self.graph.counts.contains_key(&value)
    }

    /// The vector of `sizes`; sizes that depend on the batch size are computed from it.
    pub fn shape(&mut self, sizes: &[Size]) -> Result<String> {
        let fixed: Option<Vec<_>> =
            sizes.iter().map(|size| if let Size::Fixed(n) = size { Some(*n) } else { None }).collect();
        if let Some(fixed) = fixed {
            return self.ints(&fixed);
        }
        let mut parts = Vec::new();
        for size in sizes {
            parts.push(match *size {
                Size::Fixed(n) => self.ints(&[n])?,
                Size::PerImage(1) => self.images()?,
                Size::PerImage(factor) => {
                    let (images, factor) = (self.images()?, self.ints(&[factor])?);
                    self.between("Mul", &[&images, &factor], &[])
                }
            });
        }
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        Ok(self.between("Concat", &parts, &[("axis", Attr::Int(0))]))
    }

    fn images(&mut self) -> Result<String> {
        if let Some(images) = &self.images {
            return Ok(images.clone());
        }
        let (shape, zero) = (self.between("Shape", &[super::INPUT], &[]), self.ints(&[0])?);
        let images = self.between("Gather", &[&shape, &zero], &[]);
        self.images = Some(images.clone());
        Ok(images)
    }
}

/// A step's arguments.
pub struct Call<'w, 'a, 's> {
    pub w: &'w mut Writer<'a>,
    pub step: &'s Step,
}

impl Call<'_, '_, '_> {
    /// Argument `i` as a tensor's name.
    pub fn tensor(&mut self, i: usize) -> Result<String> {
        let value = self.at(i)?;
        self.w.name(value)
    }

    /// As [`Call::tensor`]; `None` if the argument is omitted.
    pub fn optional(&mut self, i: usize) -> Result<Option<String>> {
        if self.is_none(i)? { Ok(None) } else { self.tensor(i).map(Some) }
    }

    /// Whether argument `i` is omitted.
    pub fn is_none(&self, i: usize) -> Result<bool> {
        Ok(matches!(self.w.value(self.at(i)?), Value::Nothing))
    }

    /// Argument `i` as an integer that does not depend on the batch size.
    pub fn int(&self, i: usize) -> Result<i64> {
        self.fixed(self.at(i)?)
    }

    /// Argument `i` as a list of such integers.
    pub fn ints(&self, i: usize) -> Result<Vec<i64>> {
        self.w.members(self.at(i)?)?.into_iter().map(|value| self.fixed(value)).collect()
    }

    /// Argument `i` as a number.
    pub fn real(&self, i: usize) -> Result<f64> {
        match self.w.value(self.at(i)?) {
            Value::Real(x) => Ok(*x),
            Value::Int(n) => Ok(*n as f64),
            Value::Held { tensor, .. } if tensor.numel() == 1 => Ok(tensor.f_double_value(&[])?),
            _ => Err(self.unexpected(i)),
        }
    }

    /// Argument `i` as a dimension of a tensor with `rank` dimensions, counted from the front.
    pub fn dim(&self, i: usize, rank: usize) -> Result<usize> {
        let dim = self.int(i)?;
        usize::try_from(if dim < 0 { dim + rank as i64 } else { dim })
            .ok()
            .filter(|d| *d < rank)
            .ok_or_else(|| self.unexpected(i))
    }

    /// The sizes of argument `i`, a tensor.
    pub fn sizes(&self, i: usize) -> Result<Vec<Size>> {
        let value = self.at(i)?;
        match self.w.value(value) {
            Value::Held { tensor, .. } => Ok(tensor.size().into_iter().map(Size::Fixed).collect()),
            _ => Ok(self.w.sizes(value)?.to_vec()),
        }
    }

    /// The index of argument `i` among the values.
    pub fn at(&self, i: usize) -> Result<usize> {
        self.step
            .inputs
            .get(i)
            .copied()
            .ok_or_else(|| Error::invalid(format!("{} has no argument {i}", self.step.operation)))
    }

    /// The step's only result.
    pub fn result(&self) -> usize {
        self.step.outputs[0]
    }

    /// The sizes of the result.
    pub fn result_sizes(&self) -> Result<Vec<Size>> {
        Ok(self.w.sizes(self.result())?.to_vec())
    }

    /// Ends the step with the operator that computes its result.
    pub fn give(&mut self, op_type: &str, inputs: &[&str], attributes: &[(&str, Attr)]) {
        let output = self.w.give(self.result());
        self.w.node(op_type, inputs, attributes, &output);
    }

    /// Adds an operator for an intermediate result.
    pub fn between(&mut self, op_type: &str, inputs: &[&str], attributes: &[(&str, Attr)]) -> String {
        self.w.between(op_type, inputs, attributes)
    }

    /// An error about argument `i`.
    pub fn unexpected(&self, i: usize) -> Error {
        Error::invalid(format!("{}: argument {i} has a type that ONNX export does not support", self.step.operation))
    }

    fn fixed(&self, value: usize) -> Result<i64> {
        match self.w.value(value) {
            Value::Int(n) if !self.w.is_count(value) => Ok(*n),
            _ => Err(Error::invalid(format!("{}: a number depends on the batch size", self.step.operation))),
        }
    }
}
