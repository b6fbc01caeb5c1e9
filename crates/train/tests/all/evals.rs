//! What an evaluation counts, against counting image by image.
use heterodyne_nn::Pass;
use heterodyne_run::summary::Status;
use heterodyne_train::{Event, fit, run::eval::evaluate};

use crate::support::{folder, session, taught_by, teacher};

#[test]
fn classes_calibration_and_predictions_are_those_of_single_images() {
    let s = session(&[]).unwrap();
    let m = evaluate(&s.learner.student, &s.test, |_| {}).unwrap();
    let (mut bins, mut per_class, mut answers) = ([[0.0f64; 3]; 15], vec![(0u64, 0u64); 10], Vec::new());
    for batch in s.test.iter() {
        let batch = batch.unwrap();
        let logits = s.learner.student.infer(&batch.images, Pass::EVAL).unwrap().logits;
        let labels = Vec::<i64>::try_from(&batch.labels).unwrap();
        for (row, label) in labels.into_iter().enumerate() {
            let z: Vec<f64> =
                Vec::<f32>::try_from(logits.get(row as i64)).unwrap().into_iter().map(f64::from).collect();
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            let (answer, top) = z.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
            let (confidence, hit) = (top.exp() / sum, answer as i64 == label);
            // Bins (i / 15, (i + 1) / 15].
            let bin = (0..15).find(|i| confidence <= (f64::from(*i) + 1.0) / 15.0 + 1e-7).unwrap() as usize;
            bins[bin][0] += confidence;
            bins[bin][1] += f64::from(u8::from(hit));
            per_class[label as usize].0 += 1;
            per_class[label as usize].1 += u64::from(hit);
            answers.push(answer as i64);
        }
    }
    let gap: f64 = bins.iter().map(|[confidence, hits, _]| (confidence - hits).abs()).sum();
    let expected = 100.0 * gap / answers.len() as f64;
    assert!((m.calibration_error - expected).abs() < 1e-3, "{} is not {expected}", m.calibration_error);
    assert_eq!((m.per_class, m.predictions), (per_class, answers));
}

#[test]
fn a_run_states_how_often_student_and_teacher_agree() {
    let dir = tempfile::tempdir().unwrap();
    // An average of the weights would not be in the session's student afterwards.
    let sets = [taught_by(&teacher(dir.path(), 10), &["kd"]), vec!["train.ema_decay=".to_owned()]].concat();
    let s = session(&sets).unwrap();
    let run = folder(&dir.path().join("run"), &s);
    let summary = fit(&s, &run, false, &false.into(), &mut |_: &Event| {}).unwrap();
    assert_eq!(summary.status, Status::Finished);
    let detail = summary.detail.unwrap();
    // The trained student is still in the session.
    let student = evaluate(&s.learner.student, &s.test, |_| {}).unwrap().predictions;
    let (_, checked) = s.teacher_check.as_ref().unwrap();
    let teacher = evaluate(s.learner.teacher.as_ref().unwrap(), checked, |_| {}).unwrap().predictions;
    let same = checked.indices().iter().zip(&teacher).filter(|(index, answer)| student[**index] == **answer).count();
    let agreement = detail.agreement.unwrap();
    assert_eq!(agreement.images as usize, teacher.len());
    assert_eq!(agreement.percent, 100.0 * same as f64 / teacher.len() as f64);
    let right: u64 = detail.classes.iter().map(|class| class.correct).sum();
    assert_eq!(100.0 * right as f64 / 500.0, summary.last.unwrap().top1);
    assert_eq!(detail.classes.len(), 10);
}
