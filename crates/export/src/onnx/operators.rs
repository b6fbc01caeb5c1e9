//! libtorch's operators as ONNX operators.
use heterodyne_nn::{Error, Result};
use heterodyne_shim::script::{Step, Value};

use super::writer::{Attr, Call, Writer};
use crate::graph::Size;

/// Writes one step of the graph.
pub fn write(w: &mut Writer, step: &Step) -> Result<()> {
    let mut call = Call { w, step };
    let c = &mut call;
    match step.operation.as_str() {
        "prim::ListConstruct" => {
            c.w.list(c.result(), &step.inputs);
            Ok(())
        }
        // The members get their names when the list is unpacked.
        "aten::chunk" | "aten::split" | "aten::split_with_sizes" => {
            c.w.list(c.result(), &[c.at(0)?, c.at(2)?]);
            Ok(())
        }
        "prim::ListUnpack" => unpack(c),
        "aten::conv2d" => conv(c, 6),
        "aten::_convolution" => conv(c, 8),
        "aten::batch_norm" => batch_norm(c),
        "aten::layer_norm" => layer_norm(c),
        "aten::linear" => linear(c),
        "aten::scaled_dot_product_attention" => attention(c),
        "aten::relu" => unary(c, "Relu"),
        "aten::sigmoid" => unary(c, "Sigmoid"),
        "aten::relu6" => clip(c, 0.0, 6.0),
        "aten::hardtanh" => clip(c, c.real(1)?, c.real(2)?),
        "aten::silu" => silu(c),
        "aten::gelu" => gelu(c),
        "aten::softmax" => softmax(c),
        "aten::add" => add(c),
        "aten::mul" => binary(c, "Mul"),
        "aten::div" => binary(c, "Div"),
        "aten::matmul" => binary(c, "MatMul"),
        "aten::addcmul" => addcmul(c),
        "aten::mean" => mean(c),
        "aten::adaptive_avg_pool2d" => adaptive_avg_pool(c),
        "aten::avg_pool2d" => avg_pool(c),
        "aten::max_pool2d" => max_pool(c),
        "aten::permute" => permute(c),
        "aten::transpose" => transpose(c),
        "aten::reshape" | "aten::view" | "aten::flatten" | "aten::unflatten" | "aten::unsqueeze" | "aten::squeeze" => {
            reshape(c)
        }
        "aten::expand" => expand(c),
        "aten::narrow" => narrow(c, c.int(2)?, c.int(2)? + c.int(3)?),
        "aten::slice" => slice(c),
        "aten::select" => select(c),
        "aten::index_select" => index_select(c),
        "aten::roll" => roll(c),
        "aten::constant_pad_nd" => pad(c),
        "aten::cat" => cat(c),
        "aten::contiguous" | "aten::to" | "aten::detach" | "aten::alias" | "aten::clone" | "aten::dropout" => {
            let name = c.tensor(0)?;
            c.w.alias(c.result(), name);
            Ok(())
        }
        other => Err(Error::invalid(format!("ONNX export does not support the operator {other}"))),
    }
}

fn unpack(c: &mut Call) -> Result<()> {
    let parts = c.w.members(c.at(0)?)?;
    let (&[x, dim], outputs) = (&parts[..], c.step.outputs.clone()) else { return Err(c.unexpected(0)) };
    let rank = c.w.sizes(outputs[0])?.len();
    let Value::Int(dim) = *c.w.value(dim) else { return Err(c.unexpected(0)) };
    let axis = if dim < 0 { dim + rank as i64 } else { dim };
    let size = |&output: &usize| match c.w.sizes(output)?[axis as usize] {
        Size::Fixed(n) => Ok(n),
        Size::PerImage(_) => Err(c.unexpected(0)),
    };
    let sizes = outputs.iter().map(size).collect::<Result<Vec<_>>>()?;
    let (x, sizes) = (c.w.name(x)?, c.w.ints(&sizes)?);
    let names = outputs.iter().map(|&output| c.w.give(output)).collect();
    c.w.node_of("Split", &[&x, &sizes], &[("axis", Attr::Int(axis))], names);
    Ok(())
}

fn conv(c: &mut Call, groups: usize) -> Result<()> {
    let (stride, padding, dilation) = (c.ints(3)?, c.ints(4)?, c.ints(5)?);
    let (groups, kernel) = (c.int(groups)?, fixed(c, &c.sizes(1)?[2..])?);
    let mut inputs = vec![c.tensor(0)?, c.tensor(1)?];
    inputs.extend(c.optional(2)?);
    let inputs: Vec<_> = inputs.iter().map(String::as_str).collect();
    let pads = twice(&padding);
    let attributes = [
        ("kernel_shape", Attr::Ints(&kernel)),
        ("strides", Attr::Ints(&stride)),
        ("pads", Attr::Ints(&pads)),
        ("dilations", Attr::Ints(&dilation)),
        ("group", Attr::Int(groups)),
    ];
    c.give("Conv", &inputs, &attributes);
    Ok(())
}

fn batch_norm(c: &mut Call) -> Result<()> {
    if c.int(5)? != 0 {
        return Err(c.unexpected(5));
    }
    let (eps, names) = (c.real(7)?, [0, 1, 2, 3, 4].map(|i| c.tensor(i)));
    let [x, weight, bias, mean, var] = names;
    c.give("BatchNormalization", &[&x?, &weight?, &bias?, &mean?, &var?], &[("epsilon", Attr::Float(eps))]);
    Ok(())
}

fn layer_norm(c: &mut Call) -> Result<()> {
    let (over, eps) = (c.ints(1)?.len() as i64, c.real(4)?);
    let (x, weight, bias) = (c.tensor(0)?, c.tensor(2)?, c.tensor(3)?);
    c.give("LayerNormalization", &[&x, &weight, &bias], &[("axis", Attr::Int(-over)), ("epsilon", Attr::Float(eps))]);
    Ok(())
}

/// x W^T + b; a constant weight is stored transposed.
fn linear(c: &mut Call) -> Result<()> {
    let x = c.tensor(0)?;
    let weight = match c.w.value(c.at(1)?) {
        Value::Held { name, tensor } => c.w.constant(&format!("{name}_transposed"), &tensor.f_tr()?)?,
        _ => {
            let weight = c.tensor(1)?;
            c.between("Transpose", &[&weight], &[("perm", Attr::Ints(&[1, 0]))])
        }
    };
    match c.optional(2)? {
        None => c.give("MatMul", &[&x, &weight], &[]),
        Some(bias) => {
            let product = c.between("MatMul", &[&x, &weight], &[]);
            c.give("Add", &[&product, &bias], &[]);
        }
    }
    Ok(())
}

/// softmax(q k^T * scale + mask) v
fn attention(c: &mut Call) -> Result<()> {
    let sizes = c.sizes(0)?;
    let Some(Size::Fixed(width)) = sizes.last() else { return Err(c.unexpected(0)) };
    let scale = if c.is_none(6)? { (*width as f64).powf(-0.5) } else { c.real(6)? };
    if c.int(5)? != 0 || c.real(4)? != 0.0 || sizes.len() != 4 {
        return Err(c.unexpected(5));
    }
    let (q, k, v, mask) = (c.tensor(0)?, c.tensor(1)?, c.tensor(2)?, c.optional(3)?);
    let scale = number(c, scale)?;
    let q = c.between("Mul", &[&q, &scale], &[]);
    let k = c.between("Transpose", &[&k], &[("perm", Attr::Ints(&[0, 1, 3, 2]))]);
    let mut scores = c.between("MatMul", &[&q, &k], &[]);
    if let Some(mask) = mask {
        scores = c.between("Add", &[&scores, &mask], &[]);
    }
    let weights = c.between("Softmax", &[&scores], &[("axis", Attr::Int(-1))]);
    c.give("MatMul", &[&weights, &v], &[]);
    Ok(())
}

fn unary(c: &mut Call, op_type: &str) -> Result<()> {
    let x = c.tensor(0)?;
    c.give(op_type, &[&x], &[]);
    Ok(())
}

fn binary(c: &mut Call, op_type: &str) -> Result<()> {
    let (x, y) = (c.tensor(0)?, c.tensor(1)?);
    c.give(op_type, &[&x, &y], &[]);
    Ok(())
}

fn add(c: &mut Call) -> Result<()> {
    if c.real(2)? != 1.0 {
        return Err(c.unexpected(2));
    }
    binary(c, "Add")
}

fn clip(c: &mut Call, low: f64, high: f64) -> Result<()> {
    let (x, low, high) = (c.tensor(0)?, number(c, low)?, number(c, high)?);
    c.give("Clip", &[&x, &low, &high], &[]);
    Ok(())
}

fn silu(c: &mut Call) -> Result<()> {
    let x = c.tensor(0)?;
    let gate = c.between("Sigmoid", &[&x], &[]);
    c.give("Mul", &[&x, &gate], &[]);
    Ok(())
}

/// x/2 (1 + erf(x/sqrt 2)), because this operator set has no GELU.
fn gelu(c: &mut Call) -> Result<()> {
    if !matches!(c.w.value(c.at(1)?), Value::Text(kind) if kind == "none") {
        return Err(c.unexpected(1));
    }
    let (x, root, one, half) = (c.tensor(0)?, number(c, std::f64::consts::SQRT_2)?, number(c, 1.0)?, number(c, 0.5)?);
    let scaled = c.between("Div", &[&x, &root], &[]);
    let erf = c.between("Erf", &[&scaled], &[]);
    let gate = c.between("Add", &[&erf, &one], &[]);
    let product = c.between("Mul", &[&x, &gate], &[]);
    c.give("Mul", &[&product, &half], &[]);
    Ok(())
}

fn softmax(c: &mut Call) -> Result<()> {
    let (x, axis) = (c.tensor(0)?, c.int(1)?);
    c.give("Softmax", &[&x], &[("axis", Attr::Int(axis))]);
    Ok(())
}

fn addcmul(c: &mut Call) -> Result<()> {
    if c.real(3)? != 1.0 {
        return Err(c.unexpected(3));
    }
    let (x, a, b) = (c.tensor(0)?, c.tensor(1)?, c.tensor(2)?);
    let product = c.between("Mul", &[&a, &b], &[]);
    c.give("Add", &[&x, &product], &[]);
    Ok(())
}

fn mean(c: &mut Call) -> Result<()> {
    let (x, axes, keep) = (c.tensor(0)?, c.ints(1)?, c.int(2)?);
    c.give("ReduceMean", &[&x], &[("axes", Attr::Ints(&axes)), ("keepdims", Attr::Int(keep))]);
    Ok(())
}

fn adaptive_avg_pool(c: &mut Call) -> Result<()> {
    if c.ints(1)? != [1, 1] {
        return Err(c.unexpected(1));
    }
    unary(c, "GlobalAveragePool")
}

fn avg_pool(c: &mut Call) -> Result<()> {
    let (kernel, padding) = (c.ints(1)?, c.ints(3)?);
    let stride = Some(c.ints(2)?).filter(|s| !s.is_empty()).unwrap_or_else(|| kernel.clone());
    if !c.is_none(6)? {
        return Err(c.unexpected(6));
    }
    let (x, pads, ceil, counted) = (c.tensor(0)?, twice(&padding), c.int(4)?, c.int(5)?);
    let attributes = [
        ("kernel_shape", Attr::Ints(&kernel)),
        ("strides", Attr::Ints(&stride)),
        ("pads", Attr::Ints(&pads)),
        ("ceil_mode", Attr::Int(ceil)),
        ("count_include_pad", Attr::Int(counted)),
    ];
    c.give("AveragePool", &[&x], &attributes);
    Ok(())
}

fn max_pool(c: &mut Call) -> Result<()> {
    let (kernel, padding, dilation) = (c.ints(1)?, c.ints(3)?, c.ints(4)?);
    let stride = Some(c.ints(2)?).filter(|s| !s.is_empty()).unwrap_or_else(|| kernel.clone());
    let (x, pads, ceil) = (c.tensor(0)?, twice(&padding), c.int(5)?);
    let attributes = [
        ("kernel_shape", Attr::Ints(&kernel)),
        ("strides", Attr::Ints(&stride)),
        ("pads", Attr::Ints(&pads)),
        ("dilations", Attr::Ints(&dilation)),
        ("ceil_mode", Attr::Int(ceil)),
    ];
    c.give("MaxPool", &[&x], &attributes);
    Ok(())
}

fn permute(c: &mut Call) -> Result<()> {
    let (x, rank) = (c.tensor(0)?, c.sizes(0)?.len() as i64);
    let perm: Vec<_> = c.ints(1)?.into_iter().map(|d| if d < 0 { d + rank } else { d }).collect();
    c.give("Transpose", &[&x], &[("perm", Attr::Ints(&perm))]);
    Ok(())
}

fn transpose(c: &mut Call) -> Result<()> {
    let (x, rank) = (c.tensor(0)?, c.sizes(0)?.len());
    let mut perm: Vec<_> = (0..rank as i64).collect();
    perm.swap(c.dim(1, rank)?, c.dim(2, rank)?);
    c.give("Transpose", &[&x], &[("perm", Attr::Ints(&perm))]);
    Ok(())
}

/// Reshapes to the sizes of the result; the size that depends on the batch size is inferred from the others.
fn reshape(c: &mut Call) -> Result<()> {
    let (x, sizes) = (c.tensor(0)?, c.result_sizes()?);
    let counted = sizes.iter().filter(|size| matches!(size, Size::PerImage(_))).count();
    let shape = if counted == 1 {
        let free: Vec<_> = sizes.iter().map(|size| if let Size::Fixed(n) = size { *n } else { -1 }).collect();
        c.w.ints(&free)?
    } else {
        c.w.shape(&sizes)?
    };
    c.give("Reshape", &[&x, &shape], &[]);
    Ok(())
}

fn expand(c: &mut Call) -> Result<()> {
    let (x, sizes) = (c.tensor(0)?, c.result_sizes()?);
    let shape = c.w.shape(&sizes)?;
    c.give("Expand", &[&x, &shape], &[]);
    Ok(())
}

fn slice(c: &mut Call) -> Result<()> {
    if c.int(4)? != 1 {
        return Err(c.unexpected(4));
    }
    let start = if c.is_none(2)? { 0 } else { c.int(2)? };
    let end = if c.is_none(3)? { i64::MAX } else { c.int(3)? };
    narrow(c, start, end)
}

fn narrow(c: &mut Call, start: i64, end: i64) -> Result<()> {
    let (x, dim) = (c.tensor(0)?, c.int(1)?);
    let (start, end, axes) = (c.w.ints(&[start])?, c.w.ints(&[end])?, c.w.ints(&[dim])?);
    c.give("Slice", &[&x, &start, &end, &axes], &[]);
    Ok(())
}

fn select(c: &mut Call) -> Result<()> {
    let (x, dim, index) = (c.tensor(0)?, c.int(1)?, c.int(2)?);
    let index = c.w.constant(&format!("index_{index}"), &tch::Tensor::from(index))?;
    c.give("Gather", &[&x, &index], &[("axis", Attr::Int(dim))]);
    Ok(())
}

fn index_select(c: &mut Call) -> Result<()> {
    let (x, dim, index) = (c.tensor(0)?, c.int(1)?, c.tensor(2)?);
    c.give("Gather", &[&x, &index], &[("axis", Attr::Int(dim))]);
    Ok(())
}

/// Moves the last `shift` positions to the front, one dimension at a time.
fn roll(c: &mut Call) -> Result<()> {
    let (mut x, sizes, shifts, dims) = (c.tensor(0)?, c.sizes(0)?, c.ints(1)?, c.ints(2)?);
    for (&shift, &dim) in shifts.iter().zip(&dims) {
        let Some(Size::Fixed(size)) = sizes.get(dim as usize) else { return Err(c.unexpected(2)) };
        let cut = (-shift).rem_euclid(*size);
        let (zero, cut, end, axis) = (c.w.ints(&[0])?, c.w.ints(&[cut])?, c.w.ints(&[i64::MAX])?, c.w.ints(&[dim])?);
        let head = c.between("Slice", &[&x, &zero, &cut, &axis], &[]);
        let tail = c.between("Slice", &[&x, &cut, &end, &axis], &[]);
        x = c.between("Concat", &[&tail, &head], &[("axis", Attr::Int(dim))]);
    }
    c.w.alias(c.result(), x);
    Ok(())
}

/// Pads with zeros. libtorch lists the amounts from the last dimension, before and after in turn.
fn pad(c: &mut Call) -> Result<()> {
    let (x, rank, given) = (c.tensor(0)?, c.sizes(0)?.len(), c.ints(1)?);
    if c.real(2)? != 0.0 || given.len() > 2 * rank {
        return Err(c.unexpected(2));
    }
    let mut pads = vec![0; 2 * rank];
    for (i, pair) in given.chunks_exact(2).enumerate() {
        let dim = rank - 1 - i;
        (pads[dim], pads[rank + dim]) = (pair[0], pair[1]);
    }
    let pads = c.w.ints(&pads)?;
    c.give("Pad", &[&x, &pads], &[]);
    Ok(())
}

fn cat(c: &mut Call) -> Result<()> {
    let members = c.w.members(c.at(0)?)?;
    let names = members.into_iter().map(|member| c.w.name(member)).collect::<Result<Vec<_>>>()?;
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let axis = c.int(1)?;
    c.give("Concat", &names, &[("axis", Attr::Int(axis))]);
    Ok(())
}

/// A number as a tensor; equal numbers share one.
fn number(c: &mut Call, x: f64) -> Result<String> {
    c.w.constant(&format!("number_{x}"), &tch::Tensor::from(x as f32))
}

/// The amount before and after along each dimension.
fn twice(padding: &[i64]) -> Vec<i64> {
    [padding, padding].concat()
}

fn fixed(c: &Call, sizes: &[Size]) -> Result<Vec<i64>> {
    sizes.iter().map(|size| if let Size::Fixed(n) = size { Ok(*n) } else { Err(c.unexpected(1)) }).collect()
}
