//! `inspect --similarity`: its results for a run, and its errors.
use crate::support::Place;

#[test]
fn a_run_s_features_are_compared_kept_and_drawn() {
    let place = Place::new();
    place.good("distill taught.toml --out run");
    let printed = place.good("inspect --similarity run --images 300 --minibatch 100");
    assert!(
        printed.contains("300 test images in minibatches of 100")
            && printed.contains("vit_nano (rows) against resnet8"),
        "{printed}"
    );
    let mut view: serde_json::Value = serde_json::from_str(&place.read("run/similarity.json")).unwrap();
    view.as_object_mut().unwrap().shift_remove("checksum").unwrap();
    for side in ["teacher", "student"] {
        let own = view["cka"][side].as_array().unwrap();
        for (i, row) in own.iter().enumerate() {
            assert!((row[i].as_f64().unwrap() - 1.0).abs() < 1e-9, "{side}: {row}");
        }
        for stage in view[side]["stages"].as_array().unwrap() {
            let sum: f64 = stage["energy"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).sum();
            assert!((sum - 1.0).abs() < 1e-9);
        }
    }
    let cross = view["cka"]["teacher_student"].as_array().unwrap();
    assert!(
        cross.len() == 4
            && cross.iter().all(|row| row.as_array().unwrap().iter().all(|v| v.as_f64().unwrap().abs() < 1.1))
    );
    // The same again, as one JSON object.
    let again: serde_json::Value =
        serde_json::from_str(&place.good("inspect --similarity run --images 300 --minibatch 100 --json")).unwrap();
    assert_eq!(again, view);

    place.good("report run --out page.html");
    let page = place.read("page.html");
    assert!(
        page.contains("Feature similarity by stage") && page.matches("class=\"heat\"").count() == 16,
        "{}",
        page.len()
    );
    assert_eq!(page.matches("<h4>Energy of stage").count(), 4);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let place = Place::new();
    place.good("train small.toml --out alone");
    place.bad("inspect --similarity alone", &["alone", "has no teacher"]);
    place.bad("inspect --similarity nowhere", &["nowhere", "the folder does not exist"]);
    place.bad("inspect", &["<MODEL>"]);
    place.bad("inspect resnet8 --images 100", &["--similarity"]);
    place.bad("inspect --similarity alone --images 3", &["--images"]);
    place.good("distill taught.toml --out run");
    place.bad("inspect --similarity run --weights ema", &["ema.safetensors does not exist"]);
    std::fs::write(place.path("run/similarity.json"), "{\"images\":").unwrap();
    place.bad("report run", &["similarity.json", "is incomplete"]);
}
