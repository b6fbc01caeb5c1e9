//! Compares the pruned transform with libtorch's full real FFT followed by a crop, on the same maps, in turns: `cargo
//! bench -p heterodyne-methods --bench spectrum`. Times are medians per call: forward, and forward with the gradient of
//! the map.
use std::time::Instant;

use heterodyne_methods::parts::spectrum::{Band, Dft};
use tch::{Device, Kind, Tensor};

const K: i64 = 7;
const TURNS: usize = 31;

/// B, C, H, W; from the grids of ViT, ResNet and Swin at 32 and 224 px.
const MAPS: [[i64; 4]; 8] = [
    [64, 192, 7, 7],
    [64, 256, 8, 8],
    [64, 192, 14, 14],
    [64, 384, 14, 14],
    [64, 64, 32, 32],
    [16, 96, 56, 56],
    [16, 64, 112, 112],
    [8, 32, 224, 224],
];

/// (B,2,K,K',C) of a full transform: K rows around zero, the first K' columns.
fn cropped_fft(x_bchw: &Tensor, band: Band) -> Tensor {
    let (h, k_half) = (x_bchw.size()[2], band.size().1);
    let rows: Vec<i64> = band.u().map(|u| u.rem_euclid(h)).collect();
    let spectrum = x_bchw.fft_rfft2(None::<&[i64]>, [-2i64, -1].as_slice(), "forward");
    spectrum.narrow(3, 0, k_half).index_select(2, &Tensor::from_slice(&rows)).view_as_real().permute([0, 4, 2, 3, 1])
}

/// Milliseconds of one call.
fn time(work: impl FnOnce() -> Tensor) -> f64 {
    let start = Instant::now();
    let _result = work();
    start.elapsed().as_secs_f64() * 1e3
}

/// Median milliseconds of both, measured in turns, and the range of the ratios of consecutive calls.
fn in_turns(ours: impl Fn() -> Tensor, theirs: impl Fn() -> Tensor) -> (f64, f64, [f64; 3]) {
    for _ in 0..3 {
        let _warm = (ours(), theirs());
    }
    let pairs: Vec<(f64, f64)> = (0..TURNS).map(|_| (time(&ours), time(&theirs))).collect();
    let sorted = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (a, b, ratio) = (sorted(&|p| p.0), sorted(&|p| p.1), sorted(&|p| p.1 / p.0));
    (a[TURNS / 2], b[TURNS / 2], [ratio[TURNS / 10], ratio[TURNS / 2], ratio[TURNS - 1 - TURNS / 10]])
}

fn main() {
    println!(
        "k = {K}, {} threads, float32; ratio: full FFT and crop / ours, median (10th to 90th percentile of {TURNS} \
         turns)",
        tch::get_num_threads()
    );
    println!(
        "| map | layout | ours, ms | FFT, ms | ratio | with gradient: ours, ms | FFT, ms | ratio \
         |\n|---|---|---|---|---|---|---|---|"
    );
    for shape in MAPS {
        for channels_last in [true, false] {
            let x = Tensor::randn(shape, (Kind::Float, Device::Cpu));
            let x = if channels_last { heterodyne_nn::shim::channels_last(&x).expect("a map") } else { x };
            let grid = (shape[2], shape[3]);
            let band = Band::shared(K, grid, grid);
            let dft = Dft::new(grid, band, Kind::Float, Device::Cpu);
            let off = (dft.forward(&x) - cropped_fft(&x, band)).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{shape:?}: off by {off}");
            let forward = in_turns(|| dft.forward(&x), || cropped_fft(&x, band));
            let leaf = x.detach().set_requires_grad(true);
            let gradient = |loss: Tensor| {
                Tensor::run_backward(&[loss.square().sum(Kind::Float)], &[&leaf], false, false).remove(0)
            };
            let both = in_turns(|| gradient(dft.forward(&leaf)), || gradient(cropped_fft(&leaf, band)));
            let cells = |(a, b, [low, mid, high]): (f64, f64, [f64; 3])| {
                format!("{a:.2} | {b:.2} | {mid:.2} ({low:.2} to {high:.2})")
            };
            let layout = if channels_last { "channels last" } else { "channels first" };
            println!("| {shape:?} | {layout} | {} | {} |", cells(forward), cells(both));
        }
    }
}
