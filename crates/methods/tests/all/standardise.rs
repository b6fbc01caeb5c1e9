//! Logit standardisation around every method that compares logits.
use heterodyne_methods::{
    BuildContext, Method, all, find,
    ranks::Alone,
    standardise::{standard, standardised},
};
use heterodyne_nn::{Output, ParamStore, Result, TapSpec};
use tch::{Kind, Tensor};

use crate::support::{CPU, conv, hard, leaves, loss, number, output, sample_classes, seed, table, tensors, vit};

fn wrapped(name: &str, store: &ParamStore, student: &TapSpec, teacher: &TapSpec) -> Result<Box<dyn Method>> {
    let settings = standardised(name, (find(name)?.configure)(&toml::Table::new()).unwrap()).unwrap();
    settings.check(student, teacher, 4)?;
    settings.build(&BuildContext {
        scope: &store.root(),
        student,
        teacher,
        sample_classes: &sample_classes(),
        ranks: &Alone,
    })
}

fn comparing() -> Vec<&'static str> {
    all().iter().filter(|def| (def.configure)(&table("")).unwrap().compares_logits()).map(|def| def.name).collect()
}

#[test]
fn rows_have_mean_zero_and_variance_one() {
    let z = Tensor::randn([5, 7], (Kind::Double, CPU)) * 3.0 + 2.0;
    let s = standard(&z);
    for row in 0..5 {
        let theirs = (z.get(row) - z.get(row).mean(None::<Kind>)) / z.get(row).std(false);
        assert!(number(&(s.get(row) - theirs).abs().max()) < 1e-12);
    }
    // Equal logits have no deviation; huge ones in bfloat16 stay finite.
    assert_eq!(number(&standard(&Tensor::full([2, 3], 4.0, (Kind::Float, CPU))).abs().max()), 0.0);
    let huge = standard(&Tensor::from_slice2(&[[1e4f32, -1e4, 0.0]]).to_kind(Kind::BFloat16));
    assert_eq!(huge.kind(), Kind::Float);
    assert!((number(&huge.square().mean(None::<Kind>)) - 1.0).abs() < 1e-6);
}

/// Per-image scale and offset of either network's logits no longer matter.
#[test]
fn the_methods_no_longer_see_size_and_offset_of_logits() {
    assert_eq!(comparing(), ["kd", "bkd", "dkd", "dist", "uhkd", "lfcc"]);
    let (taps, other) = (conv(6, 3), vit(1, 5, 3));
    for name in comparing() {
        seed(1);
        let (student, teacher) = (output(&taps, 4, Kind::Double), output(&other, 4, Kind::Double));
        let m = wrapped(name, &ParamStore::with_kind(CPU, Kind::Double, 0), &taps, &other).unwrap();
        let total =
            |s: &Output, t: &Output| number(&loss(&*m, s, t, &hard(&[0, 2, 1, 1]), 0.0).unwrap().total().unwrap());
        let scale = Tensor::from_slice(&[0.5, 3.0, 40.0, 1.0]).unsqueeze(1);
        let moved = |o: &Output| Output { logits: &o.logits * &scale - 7.0, ..leaves(o) };
        let before = total(&student, &teacher);
        assert!((before - total(&moved(&student), &moved(&teacher))).abs() < 1e-9, "{name}");
        // The result equals the method itself on standardised logits.
        let plain = (find(name).unwrap().configure)(&table("")).unwrap();
        let (store, sample_classes) = (ParamStore::with_kind(CPU, Kind::Double, 0), sample_classes());
        let (scope, sample_classes) = (&store.root(), &sample_classes[..]);
        let plain = plain
            .build(&BuildContext { scope, student: &taps, teacher: &other, sample_classes, ranks: &Alone })
            .unwrap();
        let z = |o: &Output| Output { logits: standard(&o.logits), ..leaves(o) };
        let theirs = loss(&*plain, &z(&student), &z(&teacher), &hard(&[0, 2, 1, 1]), 0.0).unwrap().total().unwrap();
        assert_eq!(before, number(&theirs), "{name}");
    }
}

/// Also for a constant row, and with respect to the logits.
#[test]
fn gradients_are_finite_and_those_of_finite_differences() {
    let taps = TapSpec { stages: vec![], stem: false, embedding: None, classes: 4 };
    seed(2);
    let (student, teacher) = (leaves(&output(&taps, 4, Kind::Double)), output(&taps, 4, Kind::Double));
    let m = wrapped("kd", &ParamStore::with_kind(CPU, Kind::Double, 0), &taps, &taps).unwrap();
    let total = |s: &Output| loss(&*m, s, &teacher, &hard(&[0, 1, 2, 3]), 0.0).unwrap().total().unwrap();
    total(&student).backward();
    let direction = Tensor::randn([4, 4], (Kind::Double, CPU));
    let analytic = number(&(student.logits.grad() * &direction).sum(None::<Kind>));
    let at = |h: f64| {
        number(&total(&Output { logits: student.logits.detach() + &direction * h, embedding: None, stages: vec![] }))
    };
    assert!((analytic - (at(1e-6) - at(-1e-6)) / 2e-6).abs() < 1e-7);
    let flat = leaves(&Output { logits: Tensor::ones([4, 4], (Kind::Double, CPU)), embedding: None, stages: vec![] });
    total(&flat).backward();
    for (_, x) in tensors(&flat) {
        assert_eq!(number(&x.grad().isfinite().logical_not().to_kind(Kind::Double).sum(None::<Kind>)), 0.0);
    }
}

#[test]
fn methods_that_do_other_things_with_logits_refuse() {
    for def in all().iter().filter(|def| !comparing().contains(&def.name)) {
        let e = standardised(def.name, (def.configure)(&table("")).unwrap()).unwrap_err();
        assert!(e.key == "logit_std" && e.message.contains(def.name), "{e:?}");
    }
}
