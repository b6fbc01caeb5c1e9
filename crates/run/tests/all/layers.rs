//! Base recipes, `--set`, and the stored recipe.
use std::fs;

use heterodyne_run::Layered;
use heterodyne_settings::KeyError;
use tempfile::TempDir;

use crate::recipe::layered;

fn files(list: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in list {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn read(dir: &TempDir, name: &str, sets: &[&str]) -> Result<Layered, String> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    Layered::read(&dir.path().join(name), &sets).map_err(|e| here(dir, &e.to_string()))
}

/// The message without the temporary folder.
fn here(dir: &TempDir, text: &str) -> String {
    text.replace(&format!("{}/", dir.path().display()), "")
}

const BODY: &str = "[data]\nname = \"digits\"\n[student]\nmodel = \"resnet8\"\n";

#[test]
fn later_layers_win_and_tables_merge() {
    let dir = files(&[
        ("base/a.toml", "seed = 1\n[optim]\nlr = 0.1\nmomentum = 0.8\n[methods.kd]\nweight = 0.9\n[methods.at]\n"),
        ("base/b.toml", "[optim]\nlr = 0.2\n[schedule]\nmilestones = [1, 2, 3]\n"),
        (
            "claims/c.toml",
            &format!(
                "base = [\"../base/a.toml\", \"../base/b.toml\"]\n{BODY}[schedule]\nmilestones = \
                 [9]\n[methods.kd]\ntemperature = 4.0\n[methods.uhkd]\n"
            ),
        ),
    ]);
    let l = read(&dir, "claims/c.toml", &["seed=7", "methods.kd.temperature=2", "train.batch = 8", "methods.lfcc={}"])
        .unwrap();
    let r = l.recipe().unwrap();
    assert_eq!((r.name.as_str(), r.seed, r.optim.lr, r.optim.momentum, r.train.batch), ("c", 7, 0.2, 0.8, 8));
    assert_eq!(r.schedule.milestones, [9.0], "lists are replaced");
    assert_eq!(
        r.methods.keys().collect::<Vec<_>>(),
        ["kd", "at", "uhkd", "lfcc"],
        "the order in which they were first written"
    );
    assert_eq!(r.methods["kd"].to_string(), "weight = 0.9\ntemperature = 2\n");
    let place = |key| here(&dir, &l.place(key));
    assert_eq!(place("optim.lr"), "base/b.toml:2");
    assert_eq!(place("optim.momentum"), "base/a.toml:4");
    assert_eq!(place("methods.kd.weight"), "base/a.toml:6");
    assert_eq!(place("methods.kd.temperature"), "--set methods.kd.temperature=2");
    assert_eq!(place("schedule.milestones"), "claims/c.toml:7");
}

#[test]
fn an_error_in_a_base_names_the_base() {
    let dir = files(&[
        ("base/a.toml", "# first\n[optim]\nlerning_rate = 1\n"),
        ("c.toml", &format!("base = \"base/a.toml\"\n{BODY}")),
    ]);
    let e = read(&dir, "c.toml", &[]).unwrap().recipe().unwrap_err();
    assert_eq!(
        (here(&dir, &e.place).as_str(), e.message.as_str()),
        ("base/a.toml:3", "unknown key `optim.lerning_rate`")
    );
    let dir = files(&[("a.toml", "x = ["), ("c.toml", "base = \"a.toml\"")]);
    assert!(read(&dir, "c.toml", &[]).unwrap_err().starts_with("a.toml:1:6: not valid TOML: "));
}

#[test]
fn bases_that_cannot_be() {
    let dir = files(&[
        ("a.toml", "base = \"b.toml\"\n"),
        ("b.toml", "seed = 1\nbase = [\"sub/c.toml\"]\n"),
        ("sub/c.toml", "base = \"../a.toml\"\n"),
        ("self.toml", "base = \"self.toml\"\n"),
        ("absent.toml", "base = \"sub/d.toml\"\n"),
        ("far.toml", "base = \"zzz/qqq.toml\"\n"),
        ("number.toml", "base = 3\n"),
        ("mixed.toml", "base = [\"a.toml\", 3]\n"),
        ("twice.toml", &format!("base = [\"p.toml\", \"q.toml\"]\n{BODY}")),
        ("p.toml", "base = \"r.toml\"\n"),
        ("q.toml", "base = \"r.toml\"\nseed = 4\n"),
        ("r.toml", "seed = 3\n"),
    ]);
    let message = |name| read(&dir, name, &[]).unwrap_err();
    assert_eq!(message("a.toml"), "sub/c.toml:1: the bases form a cycle: a.toml -> b.toml -> c.toml -> a.toml");
    assert_eq!(message("self.toml"), "self.toml:1: the bases form a cycle: self.toml -> self.toml");
    assert_eq!(
        message("absent.toml"),
        "absent.toml:1: base sub/d.toml cannot be read: No such file or directory\n  hint: did you mean sub/c.toml? A \
         base is relative to the file that names it"
    );
    assert_eq!(
        message("far.toml"),
        "far.toml:1: base zzz/qqq.toml cannot be read: No such file or directory\n  hint: a base is relative to the \
         file that names it"
    );
    assert_eq!(
        message("number.toml"),
        "number.toml:1: `base` is the number 3; a file name in quotes or a list of them is expected"
    );
    assert_eq!(
        message("mixed.toml"),
        "mixed.toml:1: `base` is a list with the number 3 in it; a file name in quotes or a list of them is expected"
    );
    assert_eq!(
        message("twise.toml"),
        "twise.toml: cannot be read: No such file or directory\n  hint: did you mean twice.toml?"
    );
    // Reaching the same base twice is not a cycle.
    assert_eq!(read(&dir, "twice.toml", &[]).unwrap().recipe().unwrap().seed, 4);
    fs::write(dir.path().join("latin.toml"), b"name = \"\xe4\"").unwrap();
    assert_eq!(message("latin.toml"), "latin.toml: is not text in UTF-8");
}

#[test]
fn set_reads_toml_and_bare_words() {
    let value = |set: &str| layered("", &[set]).unwrap().to_json().to_string();
    assert_eq!(value("a.b=c"), r#"{"a":{"b":"c"}}"#);
    assert_eq!(value("a=1e-3"), r#"{"a":0.001}"#);
    assert_eq!(value("a=true"), r#"{"a":true}"#);
    assert_eq!(value("a=[1, 2]"), r#"{"a":[1,2]}"#);
    assert_eq!(value("a={b = 1, c = {}}"), r#"{"a":{"b":1,"c":{}}}"#);
    assert_eq!(value("a=\"5\""), r#"{"a":"5"}"#);
    assert_eq!(value("a=''"), r#"{"a":""}"#);
    assert_eq!(value("a=/data/x=y"), r#"{"a":"/data/x=y"}"#);
    assert_eq!(value("a=two words"), r#"{"a":"two words"}"#);
    assert_eq!(value("a=2026-01-31"), r#"{"a":"2026-01-31"}"#);
    assert_eq!(value("a=1\nb=2"), "{\"a\":\"1\\nb=2\"}", "a value cannot smuggle in another key");
}

#[test]
fn set_merges_removes_and_refuses() {
    let text = format!("{BODY}[teacher]\nmodel = \"vit\"\n[methods.kd]\nweight = 2\n");
    let json = |sets: &[&str]| layered(&text, sets).map(|l| l.to_json()).map_err(|e| e.to_string());
    assert_eq!(
        json(&["methods.kd={}"]).unwrap()["methods"].to_string(),
        r#"{"kd":{"weight":2}}"#,
        "an empty table takes nothing away"
    );
    assert_eq!(json(&["methods.kd=", "methods.uhkd={}"]).unwrap()["methods"].to_string(), r#"{"uhkd":{}}"#);
    assert!(json(&["teacher="]).unwrap().get("teacher").is_none());
    assert_eq!(json(&["teacher=", "teacher.model=b"]).unwrap()["teacher"].to_string(), r#"{"model":"b"}"#);
    assert_eq!(
        json(&["methods.kd.xyz="]).unwrap_err(),
        "--set methods.kd.xyz=: there is no `methods.kd.xyz` to remove"
    );
    assert_eq!(
        json(&["methods.kd.weigth="]).unwrap_err(),
        "--set methods.kd.weigth=: there is no `methods.kd.weigth` to remove\n  hint: did you mean `methods.kd.weight`?"
    );
    assert_eq!(json(&["a.b="]).unwrap_err(), "--set a.b=: there is no `a.b` to remove");
    assert_eq!(
        json(&["data.name.x=1"]).unwrap_err(),
        "--set data.name.x=1: `data.name` is the text \"digits\", not a table (x.toml:2)"
    );
    assert_eq!(json(&["a=1", "a.b=1"]).unwrap_err(), "--set a.b=1: `a` is the number 1, not a table (--set a=1)");
    assert_eq!(
        json(&["a"]).unwrap_err(),
        "--set a: no `=` in it\n  hint: write --set KEY=VALUE, for example --set optim.lr=0.1"
    );
    assert_eq!(
        json(&["a b=1"]).unwrap_err(),
        "--set a b=1: `a b` is not a key; a key is names of letters, digits, - and _ with dots between them"
    );
    assert_eq!(
        json(&["=1"]).unwrap_err(),
        "--set =1: `` is not a key; a key is names of letters, digits, - and _ with dots between them"
    );
    assert_eq!(json(&["base=x.toml"]).unwrap_err(), "--set base=x.toml: `base` belongs into a file; it cannot be set");
    assert_eq!(json(&["a=[1"]).unwrap_err(), "--set a=[1: the value is not valid TOML: unclosed array, expected `]`");
}

#[test]
fn a_stored_recipe_reads_back_to_the_same_numbers() {
    let text = format!(
        "{BODY}[optim]\nlr = 0.30000000000000004\neps = 1e-8\n[methods.uhkd]\nscales = [1, 2.5]\nsub = {{ a = 'x', b \
         = true }}\n"
    );
    let recipe = layered(&text, &["seed=3"]).unwrap().recipe().unwrap();
    let stored = serde_json::to_string(&recipe).unwrap();
    let json: serde_json::Value = serde_json::from_str(&stored).unwrap();
    let again = Layered::from_json("run/plan.json", &json).unwrap();
    let back = again.recipe().unwrap();
    assert_eq!(back.optim.lr, 0.30000000000000004);
    assert_eq!(format!("{back:?}"), format!("{recipe:?}"));
    assert_eq!(again.to_json(), json);
    assert_eq!(again.explain("optim", &KeyError::new("lr", "is odd")).to_string(), "run/plan.json: `optim.lr`: is odd");
    let mut broken = json.clone();
    broken["optim"]["lr"] = "x".into();
    let e = Layered::from_json("run/plan.json", &broken).unwrap().recipe().unwrap_err();
    assert_eq!(e.to_string(), "run/plan.json: `optim.lr` is the text \"x\"; a number is expected");
    let message =
        |json: &str| Layered::from_json("p.json", &serde_json::from_str(json).unwrap()).unwrap_err().to_string();
    assert_eq!(message("[]"), "p.json: not a stored recipe: the outermost value is not an object");
    assert!(message("{\"a\": null}").starts_with("p.json: not a stored recipe: "), "{}", message("{\"a\": null}"));
}
