//! Run folders: creating, opening and locking them, and the effects of a full disk.
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use heterodyne_run::{
    Eval, RunFolder, Status, Summary, TeacherScore, Versions, metrics,
    metrics::Extent,
    read_json,
    summary::{Agreement, ClassScore, Detail},
    write_json_atomic,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::metrics::{eval, train};

fn message<T: std::fmt::Debug>(result: heterodyne_run::Result<T>, dir: &TempDir) -> String {
    result.unwrap_err().to_string().replace(&format!("{}/", dir.path().display()), "")
}

fn summary() -> Summary {
    let heterodyne_run::Metric::Eval(last) = eval(20) else { unreachable!() };
    Summary {
        name: "kd".to_owned(),
        command: "distill".to_owned(),
        status: Status::Failed,
        error: Some("step 3: kd is NaN".to_owned()),
        student: "resnet8".to_owned(),
        teacher: Some("vit_nano".to_owned()),
        teacher_score: Some(TeacherScore { split: "test".to_owned(), top1: 98.4, images: 500 }),
        methods: vec!["kd".to_owned()],
        seed: 1,
        epochs: 2,
        steps: 20,
        parameters: 1000,
        train_images: 100,
        last: Some(Eval { top5: Some(99.0), ..last }),
        detail: Some(Detail {
            split: "test".to_owned(),
            calibration_error: 4.5,
            classes: vec![ClassScore { class: "ash".to_owned(), images: 50, correct: 31 }],
            agreement: Some(Agreement { images: 500, percent: 81.2 }),
        }),
        best: None,
        selected_on: "test".to_owned(),
        seconds: 1.25,
        images_per_second: 80.0,
        device: "cpu".to_owned(),
        precision: "fp32".to_owned(),
        metrics: Some(Extent { bytes: 7, crc32: 8 }),
        versions: Versions { heterodyne: "0.1.0".to_owned(), libtorch: "2.11.0".to_owned() },
        machine: None,
    }
}

#[test]
fn a_run_is_made_written_and_opened() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("runs/a");
    let folder = RunFolder::create(&path).unwrap();
    folder.write_plan(&json!({"seed": 1})).unwrap();
    folder.write_summary(&summary()).unwrap();
    // Reading needs no lock.
    let open = RunFolder::open(&path).unwrap();
    assert_eq!(open.read_plan().unwrap(), json!({"seed": 1}));
    assert_eq!(open.read_summary().unwrap(), summary());
    assert!(
        open.weights("best").ends_with("runs/a/weights/best.safetensors")
            && open.weights("best").parent().unwrap().is_dir()
    );
    assert!(open.checkpoint().parent().unwrap().is_dir());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let probe = dir.path().join("probe");
        fs::write(&probe, "").unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.plan()), mode(&probe), "files are as readable as any other");
    }
}

#[test]
fn only_a_free_folder_becomes_a_run() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a");
    // Empty, or left by a run that wrote nothing.
    fs::create_dir(&path).unwrap();
    drop(RunFolder::create(&path).unwrap());
    let folder = RunFolder::create(&path).unwrap();
    folder.write_plan(&json!({})).unwrap();
    fs::create_dir(folder.events()).unwrap();
    fs::write(folder.events().join("tfevents"), "half").unwrap();
    fs::write(folder.metrics(), "half").unwrap();
    drop(folder);
    // A run that was killed before it had saved anything is started again.
    let folder = RunFolder::create(&path).unwrap();
    assert!(!folder.plan().exists() && !folder.metrics().exists() && !folder.events().exists());
    let holds = "a: already holds a run: choose another folder, or continue it with --resume";
    for saved in [folder.checkpoint(), folder.weights("last")] {
        folder.write_plan(&json!({})).unwrap();
        fs::write(&saved, "tensors").unwrap();
        assert_eq!(RunFolder::check_free(&path).unwrap_err().to_string().rsplit('/').next(), Some(holds));
        fs::remove_file(&saved).unwrap();
    }
    folder.write_summary(&Summary { status: Status::Finished, ..summary() }).unwrap();
    drop(folder);
    assert_eq!(message(RunFolder::create(&path), &dir), holds);
    fs::remove_file(path.join("summary.json")).unwrap();
    let other = dir.path().join("b");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.tex"), "").unwrap();
    assert_eq!(message(RunFolder::create(&other), &dir), "b: exists and is not empty: choose another folder");
    assert_eq!(
        message(RunFolder::create(&other.join("thesis.tex")), &dir),
        "b/thesis.tex: is a file, but a run needs a folder"
    );
    assert_eq!(message(RunFolder::open(&other), &dir), "b: is not a run folder: it has no plan.json");
    assert_eq!(message(RunFolder::open(&other.join("thesis.tex")), &dir), "b/thesis.tex: is a file, not a run folder");
    assert_eq!(message(RunFolder::open(&dir.path().join("c")), &dir), "c: the folder does not exist");
    assert_eq!(
        message(RunFolder::open(&path).unwrap().read_summary(), &dir),
        "a/summary.json: does not exist: the run is still in progress, or was killed (continue it with --resume)"
    );
}

/// Runs this binary again as a child that runs the test `name` with `variable` set. The shell first executes `shell`.
fn child(name: &str, variable: &str, value: &Path, shell: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell} exec \"$0\" \"$@\"")]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(variable, value).stdout(Stdio::piped());
    command
}

#[test]
fn one_process_at_a_time_and_nothing_stale_after_a_crash() {
    if let Some(path) = std::env::var_os("HETERODYNE_TEST_HOLD") {
        let _folder = RunFolder::resume(Path::new(&path)).unwrap();
        println!("\nheld");
        std::thread::sleep(std::time::Duration::from_secs(600));
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a");
    RunFolder::create(&path).unwrap().write_plan(&json!({})).unwrap();
    let mut holder =
        child("folder::one_process_at_a_time_and_nothing_stale_after_a_crash", "HETERODYNE_TEST_HOLD", &path, "")
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"), "the child did not get the lock");
    let refused = message(RunFolder::resume(&path), &dir);
    let readable = RunFolder::open(&path).is_ok();
    // SIGKILL: the child cannot clean up.
    holder.kill().unwrap();
    let pid = holder.id();
    holder.wait().unwrap();
    assert_eq!(
        refused,
        format!("a: process {pid} is writing this folder: wait for it to end, or choose another folder")
    );
    assert!(readable);
    let held = RunFolder::resume(&path).unwrap();
    assert!(RunFolder::resume(&path).is_err());
    drop(held);
    RunFolder::resume(&path).unwrap();
}

/// Between fork and exec a child holds duplicates of its parent's open files, locks included.
#[test]
fn a_dropped_folder_is_free_while_other_threads_start_processes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a");
    RunFolder::create(&path).unwrap().write_plan(&json!({})).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                Command::new("true").status().unwrap();
            }
        });
        let refused = (0..2000).map(|_| RunFolder::resume(&path)).find_map(Result::err);
        done.store(true, Ordering::Relaxed);
        starter.join().unwrap();
        assert_eq!(refused.map(|e| e.to_string()), None);
    });
}

#[test]
fn a_full_disk_leaves_the_old_file_whole() {
    if let Some(path) = std::env::var_os("HETERODYNE_TEST_FULL") {
        full_disk(&PathBuf::from(path));
        return;
    }
    let dir = TempDir::new().unwrap();
    let name = "folder::a_full_disk_leaves_the_old_file_whole";
    // A limit on the size of files makes writes fail half-way, as a full disk does; the signal that comes with it is
    // ignored.
    let output =
        child(name, "HETERODYNE_TEST_FULL", dir.path(), "trap '' XFSZ; ulimit -f 8 || exit 77;").output().unwrap();
    if output.status.code() == Some(77) {
        println!("skipped: the shell has no ulimit -f");
        return;
    }
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("full disk done"), "the child ran no test");
}

/// Runs in the child, whose files are limited to a few KiB.
fn full_disk(dir: &Path) {
    let path = dir.join("summary.json");
    write_json_atomic(&path, &json!({"seed": 1})).unwrap();
    let e = write_json_atomic(&path, &vec![0u8; 100_000]).unwrap_err().to_string();
    assert!(
        e.contains("summary.json: cannot be written (") && e.ends_with("; the existing content is unchanged"),
        "{e}"
    );
    assert_eq!(read_json::<serde_json::Value>(&path).unwrap(), json!({"seed": 1}));
    let e = write_json_atomic(&dir.join("new.json"), &vec![0u8; 100_000]).unwrap_err().to_string();
    assert!(!e.contains("before"), "{e}");
    assert_eq!(fs::read_dir(dir).unwrap().count(), 1, "no half-written file is left");

    let path = dir.join("metrics.jsonl");
    let mut writer = metrics::Writer::open(&path, None).unwrap();
    let written = (0..1000).take_while(|step| writer.write(&train(*step)).is_ok()).count();
    assert!((10..1000).contains(&written), "{written}");
    assert!(fs::read(&path).unwrap().ends_with(b"\n"), "whole lines only");
    assert_eq!(metrics::read(&path).unwrap().len(), written);
    println!("\nfull disk done");
}

#[test]
fn a_failed_write_says_so() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("absent/x.json");
    assert!(
        message(write_json_atomic(&path, &1), &dir)
            .starts_with("absent/x.json: cannot be written (No such file or directory")
    );
    // The target is a folder: the rename fails after the write.
    let path = dir.path().join("taken");
    fs::create_dir(&path).unwrap();
    assert!(message(write_json_atomic(&path, &1), &dir).starts_with("taken: cannot be written ("));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn damaged_files_say_what_is_wrong() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("summary.json");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        message(read_json::<Summary>(&path), &dir)
    };
    let whole = serde_json::to_string_pretty(&summary()).unwrap();
    assert_eq!(read(""), "summary.json: is empty: was the disk full, or was the copy interrupted?");
    let text = read(&whole[..whole.len() / 2]);
    assert!(
        text.starts_with("summary.json: is incomplete: was the disk full, or was the copy interrupted? ("),
        "{text}"
    );
    let text = read("<html>");
    assert!(text.starts_with("summary.json: is not JSON (expected value at line 1"), "{text}");
    let text = read(&whole.replace("\"failed\"", "\"lost\""));
    assert!(
        text.starts_with("summary.json: has unexpected content (`status`: unknown variant `lost`, expected one of"),
        "{text}"
    );
    let text = read(&format!("{whole}\n{whole}"));
    assert!(text.starts_with("summary.json: has trailing content after its end ("), "{text}");
}

/// Detects any flipped bit, truncation and swapped parts, including in the checksum itself.
#[test]
fn damage_anywhere_in_a_json_file_is_noticed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("summary.json");
    write_json_atomic(&path, &summary()).unwrap();
    let whole = fs::read(&path).unwrap();
    assert!(whole.starts_with(b"{\n  \"checksum\": \"crc32:"), "{}", String::from_utf8_lossy(&whole));
    assert_eq!(read_json::<Summary>(&path).unwrap(), summary());
    assert!(read_json::<Value>(&path).unwrap().get("checksum").is_none(), "readers do not see it");
    let noticed = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let e = read_json::<Summary>(&path).map(drop).expect_err(what).to_string();
        assert!(e.contains("summary.json: "), "{what}: {e}");
        e.contains("does not match its checksum")
    };
    let by_sum = (0..whole.len() * 8).filter(|bit| {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        noticed(&bytes, &format!("bit {bit}"))
    });
    assert!(by_sum.count() > 1000, "most damage leaves JSON, and the sum alone can tell");
    // Without the final line end, the object is complete but the bytes differ.
    for end in 0..whole.len() {
        noticed(&whole[..end], &format!("{end} bytes"));
    }
    let text = String::from_utf8(whole).unwrap();
    assert!(noticed(
        text.replace("1000", "100").replace(": 100,", ": 1000,").as_bytes(),
        "two numbers that changed places"
    ));
}

#[test]
fn a_json_file_without_a_checksum_is_taken_as_it_is() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("plan.json");
    write_json_atomic(&path, &json!({"seed": 1, "data": {"name": "digits"}})).unwrap();
    let text = fs::read_to_string(&path).unwrap().replace("\"seed\": 1", "\"seed\": 2");
    fs::write(&path, &text).unwrap();
    let e = message(read_json::<Value>(&path), &dir);
    assert!(e.starts_with("plan.json: does not match its checksum: it is damaged, or was edited by hand"), "{e}");
    // Follow the advice of the message.
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("\"checksum\"")).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    assert_eq!(read_json::<Value>(&path).unwrap(), json!({"seed": 2, "data": {"name": "digits"}}));
    fs::write(&path, "{}").unwrap();
    assert_eq!(read_json::<Value>(&path).unwrap(), json!({}));
    write_json_atomic(&path, &json!({})).unwrap();
    assert_eq!(read_json::<Value>(&path).unwrap(), json!({}));
    // A compact file, as another program may write it, and half a checksum.
    fs::write(&path, r#"{"checksum":"crc32:00000000"}"#).unwrap();
    assert!(message(read_json::<Value>(&path), &dir).contains("does not match"));
    for cut in [r#"{"checksum"#, r#"{"checksum""#, r#"{"checksum":"#, r#"{"checksum":"crc32:0000"#] {
        fs::write(&path, cut).unwrap();
        assert!(message(read_json::<Value>(&path), &dir).starts_with("plan.json: is incomplete"), "{cut}");
    }
}

/// A folder may belong to someone else: no file outside it is truncated, extended or replaced through a link.
#[cfg(unix)]
#[test]
fn links_in_the_place_of_files_are_refused_by_name() {
    use std::os::unix::fs::symlink;
    let dir = TempDir::new().unwrap();
    let (path, victim) = (dir.path().join("a"), dir.path().join("thesis.tex"));
    RunFolder::create(&path).unwrap().write_plan(&json!({})).unwrap();
    fs::write(&victim, "ten years").unwrap();
    fs::remove_file(path.join(".lock")).unwrap();
    symlink(&victim, path.join(".lock")).unwrap();
    assert_eq!(
        message(RunFolder::resume(&path), &dir),
        "a/.lock: the lock cannot be taken (it is a link; only ordinary files and folders are written)"
    );
    fs::remove_file(path.join(".lock")).unwrap();
    let folder = RunFolder::resume(&path).unwrap();
    symlink(&victim, folder.metrics()).unwrap();
    assert!(
        message(metrics::Writer::open(&folder.metrics(), Some(0)), &dir)
            .starts_with("a/metrics.jsonl: cannot be read (it is a link")
    );
    fs::create_dir(folder.events()).unwrap();
    let events = folder.events().join("events.out.tfevents.1.heterodyne.1.0");
    symlink(&victim, &events).unwrap();
    let e = heterodyne_run::events::EventWriter::resume(&folder.events(), 0).unwrap_err().to_string();
    assert!(e.contains("events.out.tfevents.1.heterodyne.1.0: cannot be opened (it is a link"), "{e}");
    drop(folder);
    fs::remove_dir(path.join("weights")).unwrap();
    symlink(dir.path(), path.join("weights")).unwrap();
    assert!(message(RunFolder::resume(&path), &dir).starts_with("a/weights: cannot be created (it is a link"));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "ten years");
}

#[test]
fn what_killed_writes_left_is_swept_and_stands_in_nobodys_way() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a");
    drop(RunFolder::create(&path).unwrap());
    fs::write(path.join(".new-abc"), "{").unwrap();
    // Killed before its plan was written: the folder is free.
    let folder = RunFolder::create(&path).unwrap();
    folder.write_plan(&json!({})).unwrap();
    assert!(folder.is_fresh().unwrap());
    // An unreadable summary does not make a finished run count as fresh.
    fs::write(folder.summary(), "{").unwrap();
    assert!(folder.is_fresh().unwrap_err().to_string().contains("summary.json: is incomplete"));
    fs::remove_file(folder.summary()).unwrap();
    drop(folder);
    fs::write(path.join("weights/.new-abc"), "half").unwrap();
    fs::write(path.join("checkpoint/.new-abc"), "half").unwrap();
    RunFolder::resume(&path).unwrap();
    for left in [".new-abc", "weights/.new-abc", "checkpoint/.new-abc"] {
        assert!(!path.join(left).exists(), "{left}");
    }
}
