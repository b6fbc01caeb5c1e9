//! Several processes that train one student: the same mathematics as one process, and an end that names the process at
//! fault.
use std::{
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use heterodyne::{
    nn::{Tensors, file},
    run::metrics::{self, Metric},
};
use tch::Kind;

use crate::support::{Place, test_device};

/// On the test's device, where it has a GPU for each process.
fn place() -> Place {
    let device = test_device();
    if device == "cpu" {
        return Place::on(&device);
    }
    let gpus = heterodyne::shim::load_cuda().map_or(0, |_| tch::Cuda::device_count());
    if gpus >= 3 {
        return Place::on(&device);
    }
    println!("on the CPU: three processes need a GPU each, and there are {gpus}");
    Place::on("cpu")
}

/// Several processes that were started together.
struct Launch(Vec<Child>);

/// A port that nothing listens on, below those that the system gives to outgoing connections: one of these could be
/// taken before it is used.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16 % 100 * 100;
    let candidates = std::iter::repeat_with(|| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    candidates.take(10_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

fn command(place: &Place, rank: usize, size: usize, port: u16, words: &str) -> Command {
    let mut command = place.command(words);
    command
        .envs([("RANK", rank.to_string()), ("WORLD_SIZE", size.to_string()), ("LOCAL_RANK", rank.to_string())])
        .envs([("MASTER_ADDR", "127.0.0.1".to_owned()), ("MASTER_PORT", port.to_string())])
        .env("GLOO_SOCKET_IFNAME", "lo")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Launch {
    /// Starts `words(rank)` for each rank.
    fn of(place: &Place, size: usize, words: impl Fn(usize) -> String) -> Self {
        let port = free_port();
        Self((0..size).map(|rank| command(place, rank, size, port, &words(rank)).spawn().unwrap()).collect())
    }

    fn ends(self) -> Vec<Output> {
        self.0.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
    }

    fn signal(&self, rank: usize, signal: &str) {
        let id = self.0[rank].id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn good(place: &Place, size: usize, words: &str) {
    for output in Launch::of(place, size, |_| words.to_owned()).ends() {
        assert!(output.status.success(), "{}", said(&output));
    }
}

/// Waits until the run has logged `steps` steps.
fn wait_for(place: &Place, run: &str, steps: u64) {
    let start = Instant::now();
    while losses(place, run).last().is_none_or(|(step, ..)| *step < steps) {
        assert!(start.elapsed() < Duration::from_secs(60), "{run} does not come to step {steps}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Step, loss and gradient norm.
fn losses(place: &Place, run: &str) -> Vec<(u64, f64, f64)> {
    let of = |metric: Metric| match metric {
        Metric::Train { step, loss, grad_norm, .. } => Some((step, loss, grad_norm.unwrap())),
        Metric::Eval(_) => None,
    };
    metrics::read(&place.path(run).join("metrics.jsonl")).unwrap_or_default().into_iter().filter_map(of).collect()
}

fn evaluations(place: &Place, run: &str) -> Vec<(f64, f64, u64)> {
    let of = |metric: Metric| match metric {
        Metric::Eval(eval) => Some((eval.top1, eval.loss, eval.images)),
        Metric::Train { .. } => None,
    };
    metrics::read(&place.path(run).join("metrics.jsonl")).unwrap().into_iter().filter_map(of).collect()
}

fn weights(place: &Place, run: &str) -> Tensors {
    file::read(&place.path(run).join("weights/last.safetensors")).unwrap().0
}

/// The largest distance of two networks' tensors, relative to each tensor's largest value.
fn distance(a: &Tensors, b: &Tensors) -> f64 {
    let largest = |t: &tch::Tensor| t.abs().max().to_kind(Kind::Double).double_value(&[]);
    let of = |(name, t): (&String, &tch::Tensor)| largest(&(t - &b[name])) / largest(t).max(1e-3);
    a.iter().map(of).fold(0.0, f64::max)
}

const METHODS: &str = "--set methods.uhkd={} --set methods.lfcc={} --set methods.hcd={} --set methods.rkd={} --set \
                       methods.sp={} --set methods.dist={} --set methods.crd={num_negatives=64}";

fn near(x: f64, y: f64, tolerance: f64) -> bool {
    (x - y).abs() <= tolerance * x.abs()
}

/// The steps' losses and gradients agree: those of the first `strictly` steps up to the order of sums. Where units
/// switch (ReLU, distances near zero), later ones may part, which shows on some processors and not on others.
fn assert_near(place: &Place, one: &str, two: &str, tolerance: f64, strictly: usize) {
    let (a, b) = (losses(place, one), losses(place, two));
    assert_eq!(a.len(), b.len());
    for (i, (one, two)) in a.iter().zip(&b).enumerate() {
        let tolerance = if i < strictly { tolerance } else { 5e-2 };
        let near = |x, y| near(x, y, tolerance);
        assert!(one.0 == two.0 && near(one.1, two.1) && near(one.2, two.2), "{one:?} is not {two:?}");
    }
}

/// All steps and evaluations agree.
fn assert_equal(place: &Place, one: &str, two: &str, tolerance: f64) {
    assert_near(place, one, two, tolerance, usize::MAX);
    for ((top1, loss, images), (top1_b, loss_b, images_b)) in
        evaluations(place, one).into_iter().zip(evaluations(place, two))
    {
        assert_eq!((top1, images), (top1_b, images_b));
        assert!(near(loss, loss_b, tolerance), "{loss} is not {loss_b}");
    }
}

/// With a student without batch norm, nothing differs but the order of sums.
#[test]
fn two_ranks_are_one_rank() {
    let place = place();
    let settings = "taught.toml --set student.model=vit_nano --set train.log_every=1";
    place.good(&format!("distill {settings} --out one"));
    good(&place, 2, &format!("distill {settings} --out two"));
    assert_equal(&place, "one", "two", 1e-6);
    assert!(distance(&weights(&place, "one"), &weights(&place, "two")) < 1e-5);
    assert_eq!(place.json("two/manifest.json")["processes"][0]["ranks"], 2);
}

/// Methods that compare images with each other, that keep a bank, or whose heads have batch norms. Their sums are
/// longer and the total is 40 times as large, so steps in float32 add up to more.
#[test]
fn methods_on_two_ranks_are_those_on_one() {
    let place = place();
    let settings = format!(
        "taught.toml --set student.model=vit_nano --set train.log_every=1 --set distributed.batch_norm=synced {METHODS}"
    );
    place.good(&format!("distill {settings} --out one"));
    good(&place, 2, &format!("distill {settings} --out two"));
    assert_near(&place, "one", "two", 1e-6, 1);
    assert_near(&place, "one", "two", 2e-5, 3);
}

/// Batch norms that are synchronised see the whole batch; local ones do not.
#[test]
fn batch_norms_are_synced_or_local_by_choice() {
    let place = place();
    place.good("train small.toml --set train.log_every=1 --out one");
    good(&place, 2, "train small.toml --set train.log_every=1 --set distributed.batch_norm=synced --out two");
    assert_near(&place, "one", "two", 2e-6, 2);
    good(&place, 2, "train small.toml --set train.log_every=1 --out local");
    let (one, local) = (losses(&place, "one"), losses(&place, "local"));
    assert!(!near(one[0].1, local[0].1, 1e-4) && !near(one[1].1, local[1].1, 1e-4), "{one:?} {local:?}");

    // Gradients in float16 are rounded (2^-11 at most), and nothing else.
    let half = "--set distributed.batch_norm=synced --set distributed.gradients=fp16";
    good(&place, 2, &format!("train small.toml --set train.log_every=1 {half} --out half"));
    let half = losses(&place, "half");
    assert!(near(one[0].1, half[0].1, 1e-6) && near(one[0].2, half[0].2, 0.5f64.powi(11)), "{one:?} {half:?}");
    assert!(!near(one[0].2, half[0].2, 1e-6) && near(one[1].1, half[1].1, 1e-4), "{one:?} {half:?}");
}

/// A run goes on with the same batches on another number of ranks.
#[test]
fn a_run_continues_on_another_number_of_ranks() {
    let place = place();
    let settings = "taught.toml --set student.model=vit_nano --set train.log_every=1 --set train.epochs=4 --set \
                    distributed.batch_norm=synced --set train.ema_decay=0.9 --set methods.lfcc={} --set \
                    methods.crd={num_negatives=64} --set train.keep_checkpoints=true";
    place.good(&format!("distill {settings} --out straight"));
    let launch = Launch::of(&place, 2, |_| format!("distill {settings} --out moved"));
    wait_for(&place, "moved", 3);
    launch.signal(1, "-TERM");
    for output in launch.ends() {
        assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    }
    assert_eq!(place.json("moved/summary.json")["status"], "interrupted");
    let done = losses(&place, "moved").len();
    assert!((3..16).contains(&done), "stopped after {done} steps");
    let resumed = place.run("distill --resume moved");
    let text = said(&resumed);
    assert!(resumed.status.success(), "{text}");
    assert!(text.contains("from 2 processes, not 1") || done == 16, "{text}");
    assert_equal(&place, "straight", "moved", 1e-5);
    let state = |run: &str| file::read(&place.path(run).join("checkpoint/state.safetensors")).unwrap().0;
    let (straight, moved) = (state("straight"), state("moved"));
    let kept = |all: &Tensors| -> Tensors {
        let kept = all.iter().filter(|(name, _)| !name.starts_with("rng/"));
        kept.map(|(name, t)| (name.clone(), t.shallow_clone())).collect()
    };
    let apart = distance(&kept(&straight), &kept(&moved));
    assert!(apart < 1e-3, "weights, banks, optimizer and average: {apart}");
    // And back on two.
    good(&place, 2, "distill --resume moved");
}

/// Long enough to be interfered with.
const LONG: &str = "train small.toml --set train.batch=12 --set train.epochs=2000 --set train.log_every=1 --set \
                    data.per_class=20 --set train.test=never --set data.holdout=20 --set train.eval_every=1000 --set \
                    distributed.timeout=4";

#[test]
fn a_rank_that_is_killed_is_named_and_the_run_continues() {
    let place = place();
    let launch = Launch::of(&place, 3, |_| format!("{LONG} --out run"));
    wait_for(&place, "run", 40);
    let start = Instant::now();
    launch.signal(1, "-KILL");
    for (rank, output) in launch.ends().into_iter().enumerate().filter(|(rank, _)| *rank != 1) {
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("rank {rank}:")) && text.contains("rank 1 does not answer"), "{text}");
        assert!(text.contains("--resume"), "{text}");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(place.json("run/summary.json")["status"], "failed");
    let steps = losses(&place, "run").len();
    let launch = Launch::of(&place, 3, |_| "train --resume run".to_owned());
    wait_for(&place, "run", steps as u64 + 20);
    launch.signal(0, "-INT");
    for output in launch.ends() {
        assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    }
}

#[test]
fn a_rank_that_hangs_is_named_within_the_timeout() {
    let place = place();
    let launch = Launch::of(&place, 2, |_| format!("{LONG} --out run"));
    wait_for(&place, "run", 20);
    let start = Instant::now();
    launch.signal(1, "-STOP");
    let mut launch = launch;
    let hung = launch.0.pop().unwrap();
    let first = launch.ends().remove(0);
    let text = said(&first);
    assert!(text.contains("rank 1 does not answer") && text.contains("last sign of life"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let mut hung = Launch(vec![hung]);
    hung.signal(0, "-CONT");
    let output = hung.0.pop().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[test]
fn ranks_that_do_not_compute_the_same_run_are_refused_by_name() {
    let place = place();
    let differing = |rank: usize| if rank == 1 { " --set optim.lr=0.5" } else { "" };
    for output in Launch::of(&place, 2, |rank| format!("train small.toml --out a{}", differing(rank))).ends() {
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("rank 1: `optim.lr` was 0.02 and is 0.5"), "{text}");
    }
    assert!(!place.path("a").exists());

    place.write_teacher("teacher.safetensors", 10);
    std::fs::copy(place.path("teacher.safetensors"), place.path("other.safetensors")).unwrap();
    let (tensors, card) = file::read(&place.path("other.safetensors")).unwrap();
    let moved = tensors.iter().map(|(name, t)| (name.as_str(), t + 0.01)).collect::<Vec<_>>();
    file::write(&place.path("other.safetensors"), moved.iter().map(|(name, t)| (*name, t)), card).unwrap();
    let other = |rank: usize| if rank == 1 { " --set teacher.weights=other.safetensors" } else { "" };
    for output in Launch::of(&place, 2, |rank| format!("distill taught.toml --out b{}", other(rank))).ends() {
        assert!(said(&output).contains("rank 1: the teacher's weights have changed"), "{}", said(&output));
    }

    // Another build beside this one, where it finds libtorch too. A shell writes it, so that nothing here has it open.
    let here = std::path::Path::new(env!("CARGO_BIN_EXE_heterodyne"));
    let build = tempfile::tempdir_in(here.ancestors().nth(2).unwrap()).unwrap();
    let copied = build.path().join("heterodyne");
    let shell = Command::new("sh").args(["-c", r#"cp "$0" "$1" && echo >> "$1""#]).arg(here).arg(&copied).status();
    assert!(shell.unwrap().success());
    let port = free_port();
    let starts = |rank: usize| {
        let own = command(&place, rank, 2, port, "train small.toml --out c");
        let mut other = Command::new(&copied);
        other.args(own.get_args()).current_dir(place.path("")).stdout(Stdio::piped()).stderr(Stdio::piped());
        other.envs(own.get_envs().filter_map(|(key, value)| Some((key, value?))));
        if rank == 1 { other } else { own }
    };
    let launch = Launch((0..2).map(|rank| starts(rank).spawn().unwrap()).collect());
    for output in launch.ends() {
        assert!(said(&output).contains("rank 1: program: another build"), "{}", said(&output));
    }
}

/// What one rank cannot do ends the others at once.
#[test]
fn a_rank_that_fails_tells_the_others_why() {
    let place = place();
    let start = Instant::now();
    let words = |rank: usize| {
        let name = if rank == 1 { "nothing.safetensors" } else { "teacher.safetensors" };
        format!("distill taught.toml --out run --set teacher.weights={name}")
    };
    let ends = Launch::of(&place, 2, words).ends();
    let text = said(&ends[0]);
    assert!(text.contains("rank 1 failed") && text.contains("nothing.safetensors"), "{text}");

    // A folder that rank 0 cannot use.
    std::fs::create_dir(place.path("taken")).unwrap();
    std::fs::write(place.path("taken/note.txt"), "mine").unwrap();
    for output in Launch::of(&place, 2, |_| "train small.toml --out taken".to_owned()).ends() {
        assert!(said(&output).contains("exists and is not empty"), "{}", said(&output));
    }
    // A checkpoint that cannot be read.
    place.good("train small.toml --set train.keep_checkpoints=true --out damaged");
    std::fs::write(place.path("damaged/checkpoint/state.safetensors"), "no tensors").unwrap();
    for output in Launch::of(&place, 2, |_| "train --resume damaged".to_owned()).ends() {
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    }
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_launch_that_cannot_work_says_what_to_change() {
    let place = place();
    let refused = |command: &mut Command, parts: &[&str]| {
        let output = command.output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        parts.iter().for_each(|part| assert!(text.contains(part), "{part}: {text}"));
    };
    let words = "train small.toml --out run";
    refused(place.command(words).env("WORLD_SIZE", "2"), &["WORLD_SIZE is 2, but RANK is not set", "torchrun"]);
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    refused(&mut command(&place, 0, 2, port, words), &["port", "is in use", "MASTER_PORT"]);
    let late = "train small.toml --out run --set distributed.timeout=2";
    refused(&mut command(&place, 1, 2, free_port(), late), &["rank 1 of 2 has not met the others", "MASTER_ADDR"]);
    refused(&mut command(&place, 0, 2, free_port(), late), &["rank 0 of 2 has not met the others", "2 s"]);
    refused(&mut command(&place, 0, 2, free_port(), "eval run"), &["only train, distill and cache", "launcher"]);
    for output in Launch::of(&place, 3, |_| words.to_owned()).ends() {
        let text = said(&output);
        assert!(text.contains("batches of 10 images cannot be divided among 3 processes"), "{text}");
    }
    assert!(!place.path("run").exists());
}

/// All ranks fill one cache, each its own images, and a run then reads it.
#[test]
fn ranks_fill_one_cache() {
    let place = place();
    let cache = "taught.toml --set teacher.cache.views=3 --set teacher.cache.path=kept";
    good(&place, 2, &format!("cache {cache}"));
    let text = place.good(&format!("cache {cache}"));
    assert!(text.contains("0 entries written") && text.contains("120 of 120"), "{text}");
    good(&place, 2, &format!("distill {cache} --out run"));
}

/// PyTorch's own launcher, which also starts the processes again after a failure.
#[test]
fn torchrun_launches_and_starts_again() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let known = Command::new(&python).args(["-c", "import torch.distributed.run"]).output();
    if !known.is_ok_and(|output| output.status.success()) || test_device() != "cpu" {
        println!("skipped: {python} has no PyTorch, whose torchrun is to be tried");
        return;
    }
    let place = place();
    let torchrun = |words: &str| {
        let mut command = Command::new(&python);
        command.args(["-m", "torch.distributed.run", "--no-python", "--nproc-per-node=2", "--max-restarts=1"]);
        command.args(["--master-port", &free_port().to_string(), env!("CARGO_BIN_EXE_heterodyne")]);
        command
            .args(words.split_whitespace())
            .current_dir(place.path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    place.good("train small.toml --out one");
    let output = torchrun("train small.toml --set distributed.batch_norm=synced --out two").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_near(&place, "one", "two", 1e-5, 1);

    let long = LONG.replace("train.epochs=2000", "train.epochs=30").replace("timeout=4", "timeout=30");
    let launcher = torchrun(&format!("{long} --out again")).spawn().unwrap();
    wait_for(&place, "again", 60);
    let workers = Command::new("pgrep").args(["-P", &launcher.id().to_string(), "heterodyne"]).output().unwrap();
    let workers = String::from_utf8(workers.stdout).unwrap();
    let second = workers.lines().nth(1).expect("torchrun has two workers");
    assert!(Command::new("kill").args(["-KILL", second]).status().unwrap().success());
    let output = launcher.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(place.json("again/summary.json")["status"], "finished");
    assert_eq!(place.json("again/manifest.json")["processes"].as_array().unwrap().len(), 2);
}
