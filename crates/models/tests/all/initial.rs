//! Compares initial weights with timm's.
use heterodyne_models::find;
use tch::Kind;

use crate::support::Goldens;

/// Mean, standard deviation and mean magnitude of every parameter within what two draws of its size differ by. The last
/// tells a normal from a uniform distribution of the same variance. Constants must agree exactly.
#[test]
fn parameters_start_as_timms_do() {
    let goldens = Goldens::read();
    let mut complaints = Vec::new();
    // Each model once, at a size other than its own.
    for case in goldens.cases.iter().filter(|case| case.img != find(&case.model).unwrap().input.img) {
        let theirs = goldens.get(case, "initial").unwrap();
        for (i, (name, t, _)) in (0..).zip(case.build().store.entries()) {
            let n = t.numel() as f64;
            // `statistics` in goldens/make.py explains why values are clipped.
            let t = t.detach().to_kind(Kind::Double);
            let far = 8.0 * t.abs().mean(Kind::Double).double_value(&[]);
            let t = t.clamp(-far, far);
            let ours = [t.mean(Kind::Double), t.std(false), t.abs().mean(Kind::Double)].map(|v| v.double_value(&[]));
            let [mean, std, magnitude] = [0, 1, 2].map(|j| theirs.double_value(&[i, j]));
            // Six standard errors of a difference of two estimates; those of the second and third are below
            // std/sqrt(2n).
            let error = 6.0 * std / n.sqrt();
            let bounds = [error * 2f64.sqrt(), error, error].map(|e| e + 1e-7 * magnitude);
            let off = ours.iter().zip([mean, std, magnitude]).zip(bounds).any(|((a, b), bound)| (a - b).abs() > bound);
            if off || (std == 0.0 && ours[1] != 0.0) {
                complaints.push(format!("{} {name}: {ours:?}, timm's {:?}", case.key, [mean, std, magnitude]));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
