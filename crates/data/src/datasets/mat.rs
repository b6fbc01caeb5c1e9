//! Reads the struct arrays of MATLAB level-5 files that ImageNet's development kit needs (MathWorks, "MAT-File Format",
//! version 5).
use std::{io::Read, path::Path};

use flate2::read::ZlibDecoder;
use heterodyne_nn::{Error, Result};

use crate::files;

const HEADER: usize = 128;
/// Maximum inflated size of a compressed element, in bytes.
const MAX_INFLATED: u64 = 1 << 28;
/// Maximum nesting depth of arrays.
const MAX_DEPTH: usize = 8;

// Data types of elements.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const INT64: u32 = 12;
const UINT64: u32 = 13;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const UTF8: u32 = 16;
const UTF16: u32 = 17;

// Classes of arrays.
const STRUCT: u8 = 2;
const CHAR: u8 = 4;

/// A field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// The first number of a numeric array.
    Number(f64),
    /// A row of characters.
    Text(String),
    /// Anything else.
    Other,
}

/// The fields `wanted` of every element of the struct array `name`.
///
/// # Errors
/// The file cannot be read, is not a level-5 file, is damaged, or has no such array or field.
pub(super) fn structs(path: &Path, name: &str, wanted: &[&str]) -> Result<Vec<Vec<Value>>> {
    let bytes = files::read(path)?;
    parse(&bytes, name, wanted).map_err(|message| Error::file(path, message))
}

fn parse(bytes: &[u8], name: &str, wanted: &[&str]) -> Result<Vec<Vec<Value>>, String> {
    if bytes.get(124..128) != Some(&[0x00, 0x01, b'I', b'M']) {
        return Err("is not a little-endian MATLAB level-5 file".to_owned());
    }
    let mut rest = &bytes[HEADER..];
    while !rest.is_empty() {
        let (kind, data) = element(&mut rest)?;
        let inflated;
        let (kind, data) = if kind == COMPRESSED {
            let mut out = Vec::new();
            ZlibDecoder::new(data).take(MAX_INFLATED).read_to_end(&mut out).map_err(|e| format!("is damaged ({e})"))?;
            inflated = out;
            element(&mut &inflated[..])?
        } else {
            (kind, data)
        };
        if kind == MATRIX {
            let array = Array::read(data)?;
            if array.name == name && array.class == STRUCT {
                return array.structs(wanted);
            }
        }
    }
    Err(format!("has no struct array `{name}`"))
}

/// The next element: its type and data; `rest` moves past its padding.
fn element<'a>(rest: &mut &'a [u8]) -> Result<(u32, &'a [u8]), String> {
    let short = || "is cut short".to_owned();
    let word =
        |at: usize| rest.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or_else(short);
    let first = word(0)?;
    // A small element has its size in the upper half of the first word, and its data in the second.
    let (kind, start, size, whole) = match (first >> 16) as usize {
        0 => {
            let size = word(4)? as usize;
            let padded = if first == COMPRESSED { size } else { size.div_ceil(8) * 8 };
            (first, 8, size, 8 + padded)
        }
        size => (first & 0xFFFF, 4, size, 8),
    };
    let data = rest.get(start..start + size).ok_or_else(short)?;
    *rest = rest.get(whole..).unwrap_or_default();
    Ok((kind, data))
}

/// An array whose header has been read.
struct Array<'a> {
    class: u8,
    name: String,
    /// Number of elements.
    count: usize,
    rest: &'a [u8],
}

impl<'a> Array<'a> {
    fn read(mut rest: &'a [u8]) -> Result<Self, String> {
        let (_, flags) = element(&mut rest)?;
        let (_, sizes) = element(&mut rest)?;
        let (_, name) = element(&mut rest)?;
        let mut sizes = sizes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
        let count = sizes.try_fold(1usize, usize::checked_mul).ok_or("has an array of impossible size")?;
        Ok(Self {
            class: *flags.first().ok_or("is cut short")?,
            name: String::from_utf8_lossy(name).into_owned(),
            count,
            rest,
        })
    }

    fn structs(&self, wanted: &[&str]) -> Result<Vec<Vec<Value>>, String> {
        let mut rest = self.rest;
        let (_, length) = element(&mut rest)?;
        let length =
            length.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).unwrap_or_default() as usize;
        let (_, names) = element(&mut rest)?;
        if length == 0 {
            return Err("has a struct whose fields have no names".to_owned());
        }
        let text =
            |name: &[u8]| String::from_utf8_lossy(name.split(|&b| b == 0).next().unwrap_or_default()).into_owned();
        let names: Vec<String> = names.chunks_exact(length).map(text).collect();
        let place = |field: &&str| names.iter().position(|name| name == field);
        let places = wanted.iter().map(|field| {
            place(field).ok_or_else(|| format!("has no field `{field}`; its fields are {}", names.join(", ")))
        });
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let mut rows = Vec::new();
        for _ in 0..self.count {
            let values = names.iter().map(|_| value(&mut rest, 0)).collect::<Result<Vec<_>, _>>()?;
            rows.push(places.iter().map(|&at| values[at].clone()).collect());
        }
        Ok(rows)
    }
}

fn value(rest: &mut &[u8], depth: usize) -> Result<Value, String> {
    let (kind, data) = element(rest)?;
    if kind != MATRIX || depth > MAX_DEPTH || data.is_empty() {
        return Ok(Value::Other);
    }
    let array = Array::read(data)?;
    let mut inner = array.rest;
    if array.class < CHAR {
        return Ok(Value::Other);
    }
    let (kind, data) = element(&mut inner)?;
    if array.class == CHAR {
        let text = match kind {
            UINT16 | UTF16 => String::from_utf16_lossy(
                &data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect::<Vec<_>>(),
            ),
            INT8 | UINT8 | UTF8 => String::from_utf8_lossy(data).into_owned(),
            _ => return Ok(Value::Other),
        };
        return Ok(Value::Text(text));
    }
    let first = |size: usize| data.get(..size);
    let number = match kind {
        INT8 => first(1).map(|b| f64::from(b[0] as i8)),
        UINT8 => first(1).map(|b| f64::from(b[0])),
        INT16 => first(2).map(|b| f64::from(i16::from_le_bytes([b[0], b[1]]))),
        UINT16 => first(2).map(|b| f64::from(u16::from_le_bytes([b[0], b[1]]))),
        INT32 => first(4).map(|b| f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        UINT32 => first(4).map(|b| f64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        SINGLE => first(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        INT64 | UINT64 => first(8).and_then(|b| b.try_into().ok()).map(|b| i64::from_le_bytes(b) as f64),
        DOUBLE => first(8).and_then(|b| b.try_into().ok()).map(f64::from_le_bytes),
        _ => None,
    };
    Ok(number.map_or(Value::Other, Value::Number))
}
