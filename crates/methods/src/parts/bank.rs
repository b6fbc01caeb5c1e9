//! A memory bank with one vector per training image, refreshed when the image is seen. It provides many more negatives
//! than a batch holds (Wu et al. 2018, arXiv 1805.01978).
use heterodyne_nn::{
    Error, Init, Result, Scope,
    shim::{NoGrad, Rng},
};
use tch::{Device, Kind, Tensor};

use super::vectors::normalize;
use crate::Ranks;

/// Unit vectors (N,D), kept in a buffer of the scope and so in checkpoints. Of several processes, each keeps a part of
/// the rows.
#[derive(Debug)]
pub struct Bank {
    /// This process's rows.
    own_nd: Tensor,
    /// The number of the first of them.
    first: i64,
    momentum: f64,
}

impl Bank {
    /// Creates random vectors of length 1 on average, U(-b,b) with b = sqrt(3/D).
    pub fn new(scope: &Scope, name: &str, num_rows: usize, dim: i64, momentum: f64, ranks: &dyn Ranks) -> Result<Self> {
        let (init, shape) = (Init::Uniform { bound: (3.0 / dim as f64).sqrt() }, [num_rows as i64, dim]);
        let rows = ranks.part(num_rows as i64);
        let first = rows.start;
        let own_nd = match ranks.size() {
            1 => scope.buffer_drawn(name, &shape, init)?,
            _ => scope.buffer_part(name, &shape, init, rows)?,
        };
        Ok(Self { own_nd, first, momentum })
    }

    /// Copies of the rows `index`, which may have any shape and must be equal in all processes: (.., D).
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn read(&self, index: &Tensor, ranks: &dyn Ranks) -> Result<Tensor> {
        let mut shape = index.size();
        shape.push(self.own_nd.size()[1]);
        let index = index.reshape([-1]);
        if ranks.size() == 1 {
            return Ok(self.own_nd.index_select(0, &index).reshape(shape));
        }
        let (place, is_own) = self.places(&index);
        Ok(ranks.sum(&(self.own_nd.index_select(0, &place) * is_own))?.reshape(shape))
    }

    /// Moves the rows `index_b` towards `v_bd`: `normalize( m row + (1-m) v )`. Both are those of the whole batch, of
    /// all processes.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn refresh(&self, index_b: &Tensor, v_bd: &Tensor, ranks: &dyn Ranks) -> Result<()> {
        let _guard = NoGrad::new();
        let before = self.read(index_b, ranks)?;
        let moved = normalize(&(&before * self.momentum + v_bd.detach() * (1.0 - self.momentum)));
        if ranks.size() == 1 {
            let _ = self.own_nd.shallow_clone().index_copy_(0, index_b, &moved);
            return Ok(());
        }
        let (place, is_own) = self.places(index_b);
        // A row that is not this process's adds 0 to one that is.
        let _ = self.own_nd.shallow_clone().index_add_(0, &place, &((moved - before) * is_own));
        Ok(())
    }

    /// For each row of `index` (M): its place among this process's rows, and whether it is one of them, (M,1).
    fn places(&self, index: &Tensor) -> (Tensor, Tensor) {
        let place = index - self.first;
        let own = self.own_nd.size()[0];
        let is_own = place.ge(0).logical_and(&place.lt(own)).unsqueeze(1).to_kind(self.own_nd.kind());
        (place.clamp(0, own - 1), is_own)
    }
}

/// Draws training images of other classes. It holds the images sorted by class and the start of each class, so a draw
/// takes one random number on the device and no list of candidates.
#[derive(Debug)]
pub struct Others {
    /// Class of each image, int64 (N).
    class_n: Tensor,
    /// Images sorted by class, int64 (N).
    sorted_n: Tensor,
    /// Start of each class in `sorted_n`, int64 (classes).
    start_c: Tensor,
    /// Number of images of each class, int64 (classes).
    count_c: Tensor,
    num: i64,
}

impl Others {
    /// Prepares draws among training images of these classes.
    ///
    /// # Errors
    /// All images are of one class.
    pub fn new(method: &str, classes: &[i64], device: Device) -> Result<Self> {
        let largest = classes.iter().copied().max().unwrap_or(-1);
        let mut counts = vec![0; (largest + 1) as usize];
        classes.iter().for_each(|&class| counts[class as usize] += 1);
        if counts.iter().filter(|&&count| count > 0).count() < 2 {
            return Err(Error::invalid(format!(
                "{method} contrasts images with images of other classes, but all {} training images are of one class",
                classes.len()
            )));
        }
        let start: Vec<i64> =
            counts.iter().scan(0, |next, count| Some(std::mem::replace(next, *next + count))).collect();
        let class_n = Tensor::f_from_slice(classes)?;
        let on = |t: Tensor| t.f_to(device);
        Ok(Self {
            sorted_n: on(class_n.f_argsort_stable(true, 0, false)?)?,
            class_n: on(class_n)?,
            start_c: on(Tensor::f_from_slice(&start)?)?,
            count_c: on(Tensor::f_from_slice(&counts)?)?,
            num: classes.len() as i64,
        })
    }

    /// Number of images, N.
    #[must_use]
    pub fn num_images(&self) -> i64 {
        self.num
    }

    /// `k` images for each of `index_b`, all of other classes, with replacement: int64 (B,k).
    pub fn draw_for_each(&self, index_b: &Tensor, k: i64, rng: &Rng) -> Result<Tensor> {
        let class_b = self.class_n.index_select(0, index_b);
        let of = |x_c: &Tensor| x_c.index_select(0, &class_b).unsqueeze(1);
        let (start_b1, count_b1) = (of(&self.start_c), of(&self.count_c));
        let uniform_bk = self.uniform(&[index_b.size()[0], k], rng)?;
        let others_b1 = self.num - &count_b1;
        let step_bk = (uniform_bk * &others_b1).floor().to_kind(Kind::Int64).minimum(&(others_b1 - 1));
        let place_bk = (start_b1 + count_b1 + step_bk).remainder(self.num);
        Ok(self.sorted_n.index_select(0, &place_bk.reshape([-1])).reshape(place_bk.size()))
    }

    /// `k` images for a whole batch, of any class, with replacement: int64 (k).
    pub fn draw(&self, k: i64, rng: &Rng) -> Result<Tensor> {
        Ok((self.uniform(&[k], rng)? * self.num as f64).floor().to_kind(Kind::Int64).clamp_max(self.num - 1))
    }

    /// Drawn on the CPU, so the draws are the same for every device.
    fn uniform(&self, shape: &[i64], rng: &Rng) -> Result<Tensor> {
        let uniform = Tensor::f_empty(shape, (Kind::Double, Device::Cpu))?;
        rng.uniform(&uniform, 0.0, 1.0)?;
        Ok(uniform.f_to(self.class_n.device())?)
    }

    /// Whether the images `a_m` and `b_k` are of different classes: bool (m,k).
    pub fn is_negative(&self, a_m: &Tensor, b_k: &Tensor) -> Tensor {
        let class = |index: &Tensor| self.class_n.index_select(0, index);
        class(a_m).unsqueeze(1).ne_tensor(&class(b_k).unsqueeze(0))
    }
}
