//! What a user reads when a recipe is wrong, to the letter.
use heterodyne_run::{Layered, RecipeError};

const GOOD: &str = "[data]\nname = \"digits\"\n[student]\nmodel = \"resnet8\"\n";

fn layered(text: &str, sets: &[&str]) -> Result<Layered, RecipeError> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    Layered::from_str("x.toml", text, &sets)
}

/// The message for GOOD with `more` behind it and `sets` over it.
fn wrong(more: &str, sets: &[&str]) -> String {
    match layered(&format!("{GOOD}{more}"), sets).and_then(|l| l.recipe()) {
        Ok(recipe) => panic!("accepted: {recipe:?}"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn show() {
    for (more, sets) in [
        ("[optim]\nlerning_rate = 0.1\n", vec![]),
        ("[optim]\nxyz = 0.1\n", vec![]),
        ("[trian]\nepochs = 1\n", vec![]),
        ("[optim]\nepochs = 1\n", vec![]),
        ("[optim]\nlr = \"fast\"\n", vec![]),
        ("[train]\nepochs = -1\n", vec![]),
        ("[train]\nepochs = 1.5\n", vec![]),
        ("[train]\nepochs = true\n", vec![]),
        ("mean = [1.0, 2.0]\n", vec![]),
        ("mean = [1.0, 2.0, \"x\"]\n", vec![]),
        ("[optim]\nname = \"sdg\"\n", vec![]),
        ("[optim]\nname = 3\n", vec![]),
        ("[loss]\nce = nan\n", vec![]),
        ("", vec!["name=5"]),
        ("", vec!["teacher=none"]),
        ("", vec!["epochs=5"]),
        ("", vec!["device=gpu"]),
        ("", vec!["data.name.x=gpu"]),
        ("", vec!["data.nam="]),
        ("", vec!["data="]),
        ("", vec!["student.model="]),
        ("", vec!["a b=1"]),
        ("", vec!["x"]),
        ("", vec!["data.augment=[1"]),
        ("", vec!["methods.kd=3"]),
        ("[methods]\nkd = 3\n", vec![]),
        ("[data]\npath = 3\n", vec![]),
        ("path = 3\n", vec![]),
        ("x = \n", vec![]),
        ("model = 3\n", vec![]),
        ("[teacher]\nimg = 3\n", vec![]),
        ("[train]\nclip = 0\n", vec![]),
        ("[schedule]\nmin_lr = 1\n", vec![]),
    ] {
        println!("--- {more:?} {sets:?}\n{}", wrong(more, &sets));
    }
    let l = layered(&format!("{GOOD}[methods.uhkd]\nk = 5\nlamda = 2\n"), &[]).unwrap();
    for (t, k, m) in [("methods.uhkd", "lamda", "unknown field `lamda`, expected one of `lambda`, `k`"), ("methods.uhkd", "k", "invalid type: string \"x\", expected f64"),
     ("methods.uhkd", "", "missing field `q`"), ("student", "model", "unknown model `resnet81`, expected one of `resnet8`, `resnet18`"), ("", "teacher", "`train` uses no teacher"), ("methods.uhkd","mode","unknown variant `x`, expected `xy` or `z`")] {
        println!("{}", l.explain(t,k,m));
    }
    panic!();
}
