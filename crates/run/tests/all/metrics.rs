//! Metrics lines across crashes and resumes.
use std::{fs, io::Write, path::Path};

use heterodyne_run::{
    Eval, Metric,
    metrics::{Writer, read},
};
use indexmap::IndexMap;
use tempfile::TempDir;

pub fn train(step: u64) -> Metric {
    Metric::Train {
        step,
        epoch: step as f64 / 10.0,
        lr: 0.1,
        loss: 1.5,
        terms: IndexMap::from([("ce".to_owned(), 1.0), ("kd".to_owned(), 0.1 + 0.2)]),
        grad_norm: Some(2.0),
        images_per_second: 100.0,
        data_wait: 0.25,
        seconds: step as f64,
    }
}

pub fn eval(step: u64) -> Metric {
    Metric::Eval(Eval {
        step,
        epoch: 1.0,
        split: "test".to_owned(),
        weights: "ema".to_owned(),
        top1: 71.5,
        top5: None,
        loss: 0.75,
        images: 500,
        seconds: 0.5,
    })
}

fn write(path: &Path, keep: Option<u64>, metrics: &[Metric]) {
    let mut writer = Writer::open(path, keep).unwrap();
    metrics.iter().for_each(|m| writer.write(m).unwrap());
}

#[test]
fn lines_come_back_as_they_were() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("metrics.jsonl");
    write(&path, None, &[train(10), eval(10)]);
    assert_eq!(read(&path).unwrap(), [train(10), eval(10)]);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            concat!(
                r#"{"kind":"train","step":10,"epoch":1.0,"lr":0.1,"loss":1.5,"#,
                r#""terms":{"ce":1.0,"kd":0.30000000000000004},"#,
                r#""grad_norm":2.0,"images_per_second":100.0,"data_wait":0.25,"seconds":10.0}"#
            ),
            concat!(
                r#"{"kind":"eval","step":10,"epoch":1.0,"split":"test","weights":"ema","top1":71.5,"loss":0.75,"#,
                r#""images":500,"seconds":0.5}"#
            )
        ]
    );
}

#[test]
fn a_resumed_run_drops_what_it_will_write_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("metrics.jsonl");
    write(&path, None, &[train(10), eval(10), train(20), train(30)]);
    write(&path, Some(20), &[train(25)]);
    assert_eq!(read(&path).unwrap(), [train(10), eval(10), train(20), train(25)]);
    write(&path, Some(0), &[]);
    assert_eq!(read(&path).unwrap(), []);
}

#[test]
fn a_torn_last_line_is_passed_over_and_cut_off() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("metrics.jsonl");
    write(&path, None, &[train(10), train(20)]);
    let whole = fs::read(&path).unwrap();
    let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    // Wherever the second line is cut, the first is read; if only the line end is missing, so is the second.
    for end in first..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let lines = if end == whole.len() - 1 { 2 } else { 1 };
        assert_eq!(read(&path).unwrap().len(), lines, "cut at {end}");
        write(&path, Some(1000), &[train(30)]);
        let mut expected = vec![train(10), train(20), train(30)];
        if lines == 1 {
            expected.remove(1);
        }
        assert_eq!(read(&path).unwrap(), expected, "cut at {end}");
    }
    // A power cut may leave zeros.
    fs::write(&path, [&whole[..], &[0; 64]].concat()).unwrap();
    assert_eq!(read(&path).unwrap(), [train(10), train(20)]);
}

#[test]
fn damage_elsewhere_is_an_error() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("metrics.jsonl");
    write(&path, None, &[train(10)]);
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"kind\":\"train\",\"step\"\n").unwrap();
    let before = fs::read(&path).unwrap();
    let message = read(&path).unwrap_err().to_string();
    assert!(message.contains("metrics.jsonl: line 2 is damaged (EOF while parsing"), "{message}");
    assert!(Writer::open(&path, Some(10)).is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    let message = read(&dir.path().join("absent")).unwrap_err().to_string();
    assert!(message.contains("absent: cannot be read (No such file"), "{message}");
}

#[test]
fn what_is_no_number_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let mut writer = Writer::open(&path, None).unwrap();
    let mut bad = train(10);
    if let Metric::Train { terms, .. } = &mut bad {
        terms["kd"] = f64::NAN;
    }
    let message = writer.write(&bad).unwrap_err().to_string();
    assert!(message.ends_with("metrics.jsonl: step 10: `terms.kd` is NaN and cannot be written"), "{message}");
    let mut bad = eval(20);
    if let Metric::Eval(e) = &mut bad {
        e.top5 = Some(f64::INFINITY);
    }
    let message = writer.write(&bad).unwrap_err().to_string();
    assert!(message.ends_with("step 20: `top5` is inf and cannot be written"), "{message}");
    writer.write(&train(30)).unwrap();
    assert_eq!(read(&path).unwrap(), [train(30)]);
}

/// A checkpoint records the extent of the metrics: later lines are dropped, and a changed earlier line is an error.
#[test]
fn what_a_checkpoint_reached_must_be_there_unchanged() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let mut writer = Writer::open(&path, None).unwrap();
    writer.write(&train(10)).unwrap();
    let extent = writer.extent().unwrap();
    writer.write(&eval(10)).unwrap();
    drop(writer);
    let whole = fs::read(&path).unwrap();
    let mut writer = Writer::open_at(&path, extent).unwrap();
    assert_eq!(writer.extent().unwrap(), extent);
    writer.write(&train(20)).unwrap();
    drop(writer);
    assert_eq!(read(&path).unwrap(), [train(10), train(20)]);
    // Still a line of JSON, with another number in it.
    fs::write(&path, String::from_utf8(whole.clone()).unwrap().replace("\"loss\":1.5", "\"loss\":1.4")).unwrap();
    let message = Writer::open_at(&path, extent).unwrap_err().to_string();
    assert!(message.contains("metrics.jsonl: has changed since the checkpoint was written"), "{message}");
    fs::write(&path, &whole[..20]).unwrap();
    assert!(Writer::open_at(&path, extent).unwrap_err().to_string().contains("is shorter than"));
}
