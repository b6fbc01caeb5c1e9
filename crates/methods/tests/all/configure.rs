//! Recipe tables: defaults, errors that name their key, and unsupported pairs.
use heterodyne_methods::{all, find};
use heterodyne_nn::{ParamStore, TapSpec};

use crate::support::{CPU, build, conv, map, table, taps, vit};

#[test]
fn names_are_unique_and_an_unknown_one_is_answered_with_the_nearest() {
    let mut names: Vec<_> = all().iter().map(|m| m.name).collect();
    assert_eq!(
        names,
        [
            "kd", "bkd", "dkd", "dist", "hard", "fitnet", "vid", "reviewkd", "at", "sp", "cc", "rkd", "pkt", "nst",
            "crd", "rsd", "ofa", "uhkd", "lfcc", "hcd"
        ]
    );
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all().len());
    let e = find("uhdk").unwrap_err().to_string();
    assert!(
        e.contains("did you mean `uhkd`?")
            && e.contains("fitnet, vid, reviewkd, at, sp, cc, rkd, pkt, nst, crd, rsd, ofa, uhkd, lfcc, hcd"),
        "{e}"
    );
    assert!(find("UHKD").unwrap_err().to_string().contains("`uhkd`?"));
    assert!(!find("zzz").unwrap_err().to_string().contains("did you mean"));
}

#[test]
fn documented_keys_are_the_fields_and_documented_defaults_the_defaults() {
    for def in all() {
        let resolved = (def.configure)(&toml::Table::new()).unwrap().resolved();
        let defaults = (def.defaults)();
        assert_eq!(resolved, defaults, "{}", def.name);
        assert!(def.keys.iter().map(|key| key.name).eq(defaults.keys()), "{}", def.name);
        assert_eq!((def.configure)(&defaults).unwrap().resolved(), resolved);
        for key in def.keys {
            assert!(key.doc().ends_with('.'), "{}.{}: {}", def.name, key.name, key.doc());
        }
    }
}

fn refused(method: &str, text: &str) -> (String, String) {
    let e = (find(method).unwrap().configure)(&table(text)).err().unwrap_or_else(|| panic!("{method} takes {text}"));
    (e.key, e.message)
}

#[test]
fn an_unknown_key_and_a_wrong_type_are_refused() {
    for def in all() {
        let (_, message) = refused(def.name, "temprature = 1.0");
        assert!(message.contains("unknown field `temprature`") && message.contains(def.keys[0].name), "{message}");
        let (key, _) = refused(def.name, &format!("{} = \"much\"", def.keys[0].name));
        assert_eq!(key, def.keys[0].name);
    }
    let (key, message) = refused("uhkd", "window = \"gausian\"");
    assert!(key.starts_with("window") && message.contains("gaussian"), "{key}: {message}");
    assert_eq!(refused("lfcc", "levels = [1, 2.5]").0, "levels");
}

#[test]
fn values_out_of_range_are_refused_with_their_key() {
    let levels = [
        "levels = []",
        "levels = [0]",
        "levels = [-1]",
        "levels = [5]",
        "levels = [2, 2]",
        "levels = 2",
        "levels = \"all\"",
        "levels = [\"layer0\"]",
        "levels = [\"layer5\"]",
        "levels = [\"layer1\", \"layer1\"]",
        "levels = [\"stem\"]",
        "levels = [1, \"layer2\"]",
    ];
    for method in ["fitnet", "vid", "reviewkd", "at", "sp", "nst", "ofa", "uhkd", "lfcc", "hcd"] {
        for text in levels {
            let (key, message) = refused(method, text);
            assert!(
                key == "levels" && message.contains("some of the stages 1, 2, 3 and 4"),
                "{method} {text}: {key} {message}"
            );
        }
    }
    for method in ["kd", "dkd", "dist", "ofa", "uhkd", "lfcc", "hcd"] {
        for bad in ["0.0", "-1", "nan", "inf"] {
            assert_eq!(refused(method, &format!("temperature = {bad}")).0, "temperature");
        }
    }
    let cases = [
        ("rkd", "angle = -1", "angle"),
        ("rsd", "kappa = -1", "kappa"),
        ("fitnet", "regressor = \"conv\"", "regressor"),
        ("vid", "regressor = \"bn\"", "regressor"),
        ("vid", "variance = 1e-6", "variance"),
        ("vid", "eps = 0.0", "eps"),
        ("reviewkd", "max_width = 0", "max_width"),
        ("cc", "dim = 0", "dim"),
        ("cc", "gamma = -0.4", "gamma"),
        ("cc", "order = 0", "order"),
        ("cc", "form = \"other\"", "form"),
        ("crd", "tau = 0.0", "tau"),
        ("crd", "momentum = 1.5", "momentum"),
        ("crd", "num_negatives = 0", "num_negatives"),
        ("crd", "draw = \"all\"", "draw"),
        ("pkt", "eps = 0.0", "eps"),
        ("ofa", "eps = 0.5", "eps"),
        ("ofa", "w_ofa = -1.0", "w_ofa"),
        ("bkd", "reduce = \"none\"", "reduce"),
        ("dkd", "beta = -8.0", "beta"),
        ("dist", "gamma = inf", "gamma"),
        ("hard", "smoothing = 1.0", "smoothing"),
        ("hard", "smoothing = nan", "smoothing"),
        ("uhkd", "alpha = -0.1", "alpha"),
        ("uhkd", "beta = nan", "beta"),
        ("uhkd", "k = 0", "k"),
        ("uhkd", "scaling = \"area2\"", "scaling"),
        ("uhkd", "sigma = 0.0", "sigma"),
        ("uhkd", "sigma = 1e-320", "sigma"),
        ("hcd", "num_sub = 9223372036854775807", "num_sub"),
        ("lfcc", "tau = 0.0", "tau"),
        ("lfcc", "tau = -inf", "tau"),
        ("lfcc", "tau = 0.005\ntau_learnable = true", "tau"),
        ("lfcc", "scales = []", "scales"),
        ("lfcc", "scales = [0]", "scales"),
        ("lfcc", "scales = [2, 2]", "scales"),
        ("hcd", "num_sub = 0", "num_sub"),
        ("hcd", "theta = 1.5", "theta"),
        ("hcd", "theta = nan", "theta"),
        ("hcd", "lambda_s = 0", "lambda_s"),
        ("hcd", "lambda_t = -1.0", "lambda_t"),
        ("hcd", "w_hcd = inf", "w_hcd"),
    ];
    for (method, text, key) in cases {
        assert_eq!(refused(method, text).0, key, "{method} {text}");
    }
    for (method, text) in [
        ("rkd", "distance = 0\nangle = 0"),
        ("ofa", "w_kd = 0\nw_ofa = 0"),
        ("dkd", "alpha = 0\nbeta = 0"),
        ("dist", "beta = 0\ngamma = 0"),
        ("uhkd", "alpha = 0\nbeta = 0"),
        ("lfcc", "alpha = 0\nbeta = 0"),
        ("hcd", "w_kd = 0\nw_gt = 0\nw_hcd = 0\nw_ol = 0"),
        ("hcd", "w_kd = 0\nw_gt = 0\nw_hcd = 0\nnum_sub = 1"),
    ] {
        assert!(refused(method, text).1.contains("nothing would be computed"));
    }
}

#[test]
fn pairs_that_cannot_work_are_refused_with_both_shapes() {
    let logits_only = TapSpec { stages: vec![], stem: false, embedding: None, classes: 3 };
    let message = |method: &str, text: &str, student: &TapSpec, teacher: &TapSpec, batch: usize| {
        build(method, &table(text), &ParamStore::new(CPU, 0), student, teacher, batch)
            .err()
            .unwrap_or_else(|| panic!("{method} accepts"))
            .to_string()
    };
    for method in ["fitnet", "uhkd", "lfcc"] {
        let e = message(method, "", &conv(6, 3), &logits_only, 4);
        assert!(e.contains("no stages") && e.contains("(2,8,8)") && e.contains("kd"), "{e}");
    }
    let e = message("hcd", "", &conv(6, 3), &logits_only, 4);
    assert!(e.contains("the teacher offers none") && e.contains("an embedding (6)"), "{e}");
    let e = message("hcd", "", &TapSpec { embedding: None, ..conv(6, 3) }, &conv(6, 3), 4);
    assert!(e.contains("the student offers none"), "{e}");
    for method in ["kd", "uhkd", "lfcc", "hcd"] {
        let e = message(method, "", &conv(6, 3), &vit(1, 5, 4), 4);
        assert!(e.contains("(B,3)") && e.contains("(B,4)"), "{e}");
    }
    let short = taps(&[map(2, 4, 4)], 4, 3);
    let e = message("uhkd", "", &short, &conv(4, 3), 4);
    assert!(e.contains("stage 2 of the student") && e.contains("(2,4,4)"), "{e}");
    // One value per channel has no variance.
    let tiny = taps(&[map(2, 4, 4), map(2, 2, 2), map(2, 1, 1), map(2, 1, 1)], 4, 3);
    for method in ["uhkd", "hcd"] {
        let e = message(method, "", &tiny, &conv(4, 3), 1);
        assert!(e.contains("batch of at least 2"), "{e}");
    }
    // Features of different class counts can still be regressed.
    assert!(build("fitnet", &table(""), &ParamStore::new(CPU, 0), &conv(6, 3), &vit(1, 5, 4), 4).is_ok());
    // A teacher that offers logits and an embedding is enough for hcd, one with logits alone for kd.
    assert!(
        build(
            "hcd",
            &table(""),
            &ParamStore::new(CPU, 0),
            &conv(6, 3),
            &TapSpec { embedding: Some(5), ..logits_only.clone() },
            4
        )
        .is_ok()
    );
    assert!(build("kd", &table(""), &ParamStore::new(CPU, 0), &conv(6, 3), &logits_only, 1).is_ok());
}
