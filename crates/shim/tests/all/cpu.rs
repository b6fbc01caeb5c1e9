//! The levels of a processor: one switch for all levels, and every test at every level.
use std::{env, process::Command};

use heterodyne_shim::cpu::{AtMost, Level, check, fast_bf16};
use tch::Device;

/// Runs this test program with `HETERODYNE_CPU` set on the tests that `arguments` choose.
fn again(level: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env::current_exe().unwrap());
    for name in ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"] {
        command.env_remove(name);
    }
    let output = command.env("HETERODYNE_CPU", level).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Runs kernels of every width, with libtorch's at the same level; this process has the highest one.
#[test]
fn every_test_passes_at_every_level_below() {
    if env::var_os("HETERODYNE_CPU").is_some() {
        println!("skipped: HETERODYNE_CPU is set, and this process is one of those that this test starts");
        return;
    }
    for level in Level::ALL {
        if level >= Level::found() {
            println!(
                "{level}: {}",
                if level == Level::found() { "this process" } else { "this processor does not have it" }
            );
            continue;
        }
        let (passed, output) = again(level.name(), &[]);
        assert!(passed, "at {level}:\n{output}");
        println!("{level}: {}", output.lines().find(|line| line.starts_with("test result")).unwrap());
    }
}

#[test]
fn the_switch_lowers_the_level_and_never_raises_it() {
    let expected = env::var("HETERODYNE_CPU").ok().and_then(|name| Level::ALL.into_iter().find(|l| l.name() == name));
    assert_eq!(Level::current(), Level::found().min(expected.unwrap_or(Level::Amx)));
    // The libraries follow.
    if Level::current() < Level::found() {
        for name in ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"] {
            assert!(env::var_os(name).is_some(), "{name}");
        }
    }
}

#[test]
fn a_level_that_there_is_not_is_an_error_that_lists_them() {
    if env::var("HETERODYNE_CPU").is_ok_and(|name| name == "avx3") {
        let e = check().unwrap_err().to_string();
        assert!(
            e.contains("HETERODYNE_CPU is \"avx3\", but the levels are baseline, avx2, avx512, avx512bf16, amx"),
            "{e}"
        );
        assert_eq!(Level::current(), Level::found());
        return;
    }
    check().unwrap();
    let (passed, output) = again("avx3", &["--exact", "cpu::a_level_that_there_is_not_is_an_error_that_lists_them"]);
    assert!(passed && output.contains("1 passed"), "{output}");
}

#[test]
fn a_thread_can_be_held_to_a_level() {
    let before = Level::current();
    {
        let _outer = AtMost::begin(Level::Avx2);
        assert_eq!(Level::current(), before.min(Level::Avx2));
        {
            let _inner = AtMost::begin(Level::Baseline);
            assert_eq!(Level::current(), Level::Baseline);
            assert!(!fast_bf16(Device::Cpu));
            std::thread::spawn(move || assert_eq!(Level::current(), before)).join().unwrap();
        }
        assert_eq!(Level::current(), before.min(Level::Avx2));
    }
    assert_eq!(Level::current(), before);
}
