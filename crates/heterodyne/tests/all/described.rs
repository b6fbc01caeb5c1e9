//! Every setting in timm's config.json is honoured or refused by name.
use heterodyne::nn::file;

use crate::support::{Place, refused, stderr};

#[test]
fn a_description_is_honoured_or_refused() {
    let place = Place::new();
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/described.py");
    let made = std::process::Command::new(&python).arg(script).arg(place.path("")).output();
    if !made.as_ref().is_ok_and(|made| made.status.success()) {
        let why =
            made.map_or_else(|e| e.to_string(), |made| stderr(&made).lines().last().unwrap_or_default().to_owned());
        assert!(why.contains("No module named") || why.contains("No such file"), "{why}");
        println!("skipped: {} has no timm ({why})", python.display());
        return;
    }
    let mut checked = (0, 0);
    for entry in std::fs::read_dir(place.path("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !place.path(&name).join("config.json").exists() {
            continue;
        }
        let config: serde_json::Value = serde_json::from_str(&place.read(&format!("{name}/config.json"))).unwrap();
        let model = config["architecture"].as_str().unwrap();
        let (check, _) = file::read(&place.path(&name).join("check.safetensors")).unwrap();
        let words = format!(
            "features {model} --weights {name} --input {name}/check.safetensors --out f.safetensors --device cpu"
        );
        let output = place.run(&words);
        if let Some(argument) = name.strip_prefix("refused_") {
            refused(&output, &name, &["config.json", &format!("`{argument}`")]);
            checked.1 += 1;
            continue;
        }
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let (found, _) = file::read(&place.path("f.safetensors")).unwrap();
        let off = (&found["logits"] - &check["logits"]).abs().max() / check["logits"].abs().max();
        assert!(off.double_value(&[]) < 1e-4, "{name}: {}", off.double_value(&[]));
        checked.0 += 1;
    }
    assert_eq!(checked, (7, 6));
}
