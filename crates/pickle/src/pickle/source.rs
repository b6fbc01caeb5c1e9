//! The bytes of a pickle, read forwards within a known length.
use std::io::{ErrorKind, Read, Seek};

use crate::{Fault, error::damaged};

/// Maximum length of a line in a pickle, which is a module or class name.
const LINE: usize = 1 << 12;

/// A reader that tracks its position and the total length.
#[derive(Debug)]
pub struct Source<R> {
    inner: R,
    position: u64,
    length: u64,
}

impl<R: Read + Seek> Source<R> {
    /// Reads `inner`, which has `length` bytes.
    pub fn new(inner: R, length: u64) -> Self {
        Self { inner, position: 0, length }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The number of bytes left.
    pub fn left(&self) -> u64 {
        self.length - self.position
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The next `count` bytes; memory is allocated only for bytes that the file has.
    pub fn take(&mut self, count: u64) -> Result<Vec<u8>, Fault> {
        let size =
            usize::try_from(self.claim(count)?).or_else(|_| damaged("a length that exceeds this machine's memory"))?;
        let mut bytes = vec![0; size];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Skips the next `count` bytes.
    pub fn skip(&mut self, count: u64) -> Result<(), Fault> {
        let count = self.claim(count)?;
        let step = i64::try_from(count).or_else(|_| damaged("a length that exceeds that of any file"))?;
        self.inner.seek_relative(step)?;
        self.position += count;
        Ok(())
    }

    /// Text up to a newline, which is skipped.
    pub fn line(&mut self) -> Result<String, Fault> {
        let mut line = Vec::new();
        loop {
            match self.array()? {
                [b'\n'] => return String::from_utf8(line).or_else(|_| damaged("a name that is not UTF-8")),
                [_] if line.len() == LINE => return damaged(format!("a name of more than {LINE} bytes")),
                [byte] => line.push(byte),
            }
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        self.claim(bytes.len() as u64)?;
        match self.inner.read_exact(bytes) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(self.short()),
            result => result?,
        }
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn claim(&self, count: u64) -> Result<u64, Fault> {
        if count <= self.left() { Ok(count) } else { Err(self.short()) }
    }

    fn short(&self) -> Fault {
        Fault::Short(format!("its contents continue beyond its end at byte {}", self.length))
    }
}
