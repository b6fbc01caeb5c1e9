//! Analytic gradients of every parameter and every student tensor against central differences, in float64.
use heterodyne_nn::{Labels, Output, ParamStore};
use tch::{Kind, Tensor};

use crate::support::{CPU, build, conv, fill, hard, leaves, loss, number, output, seed, table, tensors, vit};

const STEP: f64 = 1e-6;

/// Along one random direction per tensor: d/dh L(x + h r) = <grad, r>.
fn check(name: &str, settings: &str, token_student: bool, token_teacher: bool) {
    seed(5);
    let student_taps = if token_student { vit(1, 4, 3) } else { conv(6, 3) };
    let teacher_taps = if token_teacher { vit(0, 5, 3) } else { conv(5, 3) };
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let method = build(name, &table(settings), &store, &student_taps, &teacher_taps, 4).unwrap();
    fill(&store);
    let student = leaves(&output(&student_taps, 4, Kind::Double));
    let teacher = output(&teacher_taps, 4, Kind::Double);
    let labels = hard(&[0, 2, 2, 1]);
    let total =
        |student: &Output, labels: &Labels| loss(&*method, student, &teacher, labels, 0.1).unwrap().total().unwrap();
    total(&student, &labels).backward();
    let parameters = store.parameters().into_iter().map(|(name, tensor, _)| (name, tensor));
    let mut checked = 0;
    for (tensor_name, tensor) in parameters.chain(tensors(&student)) {
        if !tensor.grad().defined() {
            continue;
        }
        let direction = tensor.randn_like();
        let analytic = number(&(tensor.grad() * &direction).sum(Kind::Double));
        let at = |h: f64| {
            // Batch statistics are also needed without a graph: the graph is recorded and dropped.
            let original = tensor.detach().copy();
            let moved = &original + &direction * h;
            {
                let _guard = heterodyne_nn::shim::NoGrad::new();
                tensor.shallow_clone().copy_(&moved);
            }
            let value = number(&total(&student, &labels));
            let _guard = heterodyne_nn::shim::NoGrad::new();
            tensor.shallow_clone().copy_(&original);
            value
        };
        let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        assert!(
            (analytic - numeric).abs() < 1e-6 * (1.0 + numeric.abs()),
            "{name} {settings}: {tensor_name}: {analytic} against {numeric}"
        );
        checked += 1;
    }
    assert!(checked >= 1, "{name}");
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for (student, teacher) in [(false, false), (false, true), (true, false), (true, true)] {
        check("kd", "temperature = 3.0", student, teacher);
        check("bkd", "", student, teacher);
        check("dkd", "temperature = 2.0", student, teacher);
        check("dist", "temperature = 2.0", student, teacher);
        check("hard", "smoothing = 0.1", student, teacher);
        check("fitnet", "", student, teacher);
        check("vid", "", student, teacher);
        check("reviewkd", "", student, teacher);
        check("cc", "", student, teacher);
        check("cc", "form = \"neighbours\"", student, teacher);
        check("crd", "contrast = \"batch\"\ntau = 0.3", student, teacher);
        check("at", "", student, teacher);
        check("sp", "levels = [2, 4]", student, teacher);
        check("rkd", "", student, teacher);
        check("pkt", "", student, teacher);
        check("nst", "", student, teacher);
        check("ofa", "eps = 1.5\ntemperature = 2.0", student, teacher);
        check("uhkd", "", student, teacher);
        check("lfcc", "tau = 0.3\ntau_learnable = false", student, teacher);
        check("hcd", "theta = -0.5\ndetach_sub = false\nreduce = \"sum\"", student, teacher);
    }
    check("uhkd", "representation = \"complex\"\nwindow = \"none\"\nnormalise = \"none\"", false, true);
    check("uhkd", "representation = \"log_amplitude\"\nnormalise = \"channel\"\nk = 3", false, false);
    check("uhkd", "fam_mode = \"direct\"\nrepresentation = \"complex\"", true, false);
    check("lfcc", "tau_learnable = true\nsymmetric = true\nmask_same_class = true\ntau = 0.5", false, true);
    check("lfcc", "filter = \"avgpool\"\nscales = [3, 2]\nlevels = [1, 2]", true, false);
    check("hcd", "cfm = \"linear\"\ndetach_sub = false\nnum_sub = 2\nlambda_t = 0.5", true, true);
}

/// The teacher's side of a learnable window is a target and must not be learned. Its gradient is cut, so finite
/// differences see both sides but the analytic gradient only one. This test keeps anyone from "repairing" it.
#[test]
fn a_learnable_window_learns_from_the_students_side_only() {
    let taps = conv(6, 3);
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let method = build(
        "uhkd",
        &table("window = \"learnable\"\nrepresentation = \"complex\"\nlevels = [1]\nalpha = 0.0"),
        &store,
        &taps,
        &taps,
        4,
    )
    .unwrap();
    fill(&store);
    let student = output(&taps, 4, Kind::Double);
    // A student whose spectrum is zero everywhere: only the teacher's side depends on the window.
    {
        let _guard = heterodyne_nn::shim::NoGrad::new();
        for (name, tensor, _) in store.parameters() {
            if name.contains("last") {
                let _ = tensor.shallow_clone().zero_();
            }
        }
    }
    let terms = loss(
        &*method,
        &student,
        &output(&taps, 4, Kind::Double),
        &Labels::Hard(Tensor::from_slice(&[0i64, 1, 2, 0])),
        0.0,
    )
    .unwrap();
    terms.total().unwrap().backward();
    let window = store.parameters().into_iter().find(|(name, ..)| name.ends_with("window")).unwrap().1;
    assert_eq!(number(&window.grad().abs().max()), 0.0);
}
