//! Two processes with half of a batch each have, on average, the loss and the gradients of one with the whole batch.
use std::cell::RefCell;

use heterodyne_methods::{Context, Ranks, TeacherSignals, all, ranks::Alone};
use heterodyne_nn::{Labels, ParamStore, Progress};
use tch::{Kind, Tensor};

use crate::support::{CPU, Player, build, conv, fill, hard, leaves, max, number, output, rows, seed, table, tensors};

const HALVES: [[i64; 4]; 2] = [[0, 1, 2, 3], [4, 5, 6, 7]];

/// The settings under which a method joins its processes. Bank and private draws need more than one round; the
/// trainer's tests have them.
fn settings(name: &str) -> &'static str {
    match name {
        "crd" => "contrast = \"batch\"",
        _ => "",
    }
}

#[test]
fn two_halves_of_a_batch_are_the_batch() {
    let classes = [0, 1, 2, 0, 1, 1, 0, 2];
    let spec = conv(4, 3);
    let mut tried = 0;
    for def in all().into_iter().filter(|def| def.name != "test-only") {
        let built = |batch: usize| {
            let store = ParamStore::with_kind(CPU, Kind::Double, 0);
            let method = build(def.name, &table(settings(def.name)), &store, &spec, &spec, batch).unwrap();
            fill(&store);
            (store, method)
        };
        seed(9);
        let (store, method) = built(8);
        let student = output(&spec, 8, Kind::Double);
        // Batch norms in heads must see the same statistics in both halves: the same images in another order.
        let normed = store.tensors().keys().any(|name| name.ends_with("running_mean"));
        let student = if normed { rows(&student, &[0, 1, 2, 3, 2, 0, 3, 1]) } else { student };
        let (student, teacher) = (leaves(&student), output(&spec, 8, Kind::Double));
        let gradients = |store: &ParamStore| -> Vec<(String, Tensor)> {
            let heads = store.parameters().into_iter().map(|(name, p, _)| (name, p));
            // A batch norm's gradient of its input has the batch's mean gradient, which differs between the halves.
            let inputs = tensors(&student).into_iter().filter(|_| !normed);
            heads.chain(inputs).map(|(name, p)| (name, p.grad())).collect()
        };
        let loss = |ranks: &dyn Ranks, method: &dyn heterodyne_methods::Method, index: &[i64]| {
            let (student, teacher) = (rows(&student, index), rows(&teacher, index));
            let labels: Labels = hard(&index.iter().map(|&i| classes[i as usize]).collect::<Vec<_>>());
            let samples: Vec<usize> = index.iter().map(|&i| 5 * i as usize).collect();
            let signals = method.observe(&teacher).unwrap();
            let context = Context {
                student: &student,
                teacher: TeacherSignals { logits: &teacher.logits, signals: &signals },
                labels: &labels,
                samples: &samples,
                smoothing: 0.1,
                progress: Progress::default(),
                ranks,
            };
            method.loss(&context).unwrap().total().unwrap()
        };
        let whole = loss(&Alone, &*method, &[0, 1, 2, 3, 4, 5, 6, 7]);
        whole.backward();
        let copied = |(name, g): (String, Tensor)| (name, g.defined().then(|| g.copy()));
        let expected: Vec<_> = gradients(&store).into_iter().map(copied).collect();
        for (_, mut leaf) in tensors(&student) {
            leaf.zero_grad();
        }

        let (store, method) = built(4);
        let play = |rank: usize, heard: Vec<Tensor>| {
            let player = Player { rank: rank as i64, said: RefCell::default(), heard };
            let total = loss(&player, &*method, &HALVES[rank]);
            (total, player.said.into_inner())
        };
        let [(_, first), (_, second)] = [0, 1].map(|rank| play(rank, Vec::new()));
        let mean = (play(0, second).0 + play(1, first).0) * 0.5;
        let distance = number(&(&mean - &whole).abs());
        assert!(distance < 1e-12 * number(&whole).abs().max(1.0), "{}: {mean} is not {whole}", def.name);
        mean.backward();
        for ((name, ours), (_, theirs)) in gradients(&store).iter().zip(&expected) {
            let Some(theirs) = theirs else { continue };
            assert!(max(&(ours - theirs)) < 1e-11 * max(theirs).max(1.0), "{}: {name}", def.name);
        }
        tried += 1;
    }
    assert!(tried >= 20, "{tried} methods");
}
