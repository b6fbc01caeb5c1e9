//! The exact error messages for invalid recipes.
use heterodyne_run::{
    Layered, RecipeError,
    recipe::{DeviceChoice, OptimName, Recipe, ScheduleName, filled, without},
};
use heterodyne_settings::KeyError;

const GOOD: &str = "[data]\nname = \"digits\"\n[student]\nmodel = \"resnet8\"\n";

pub fn layered(text: &str, sets: &[&str]) -> Result<Layered, RecipeError> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    Layered::from_str("x.toml", text, &sets)
}

/// The message for GOOD (four lines) with `more` appended and `sets` applied.
fn wrong(more: &str, sets: &[&str]) -> String {
    match layered(&format!("{GOOD}{more}"), sets).and_then(|l| l.recipe()) {
        Ok(recipe) => panic!("accepted: {recipe:?}"),
        Err(e) => e.to_string(),
    }
}

const TAKES: &str = "[optim] takes name, lr, momentum, nesterov, betas, eps, weight_decay, decay_all";
const RECIPE_TAKES: &str = "A recipe takes name, seed, device, threads, deterministic, data, student, teacher, train, \
                            optim, schedule, loss, distributed, methods";

#[test]
fn a_small_recipe_has_defaults() {
    let r = layered(GOOD, &[]).unwrap().recipe().unwrap();
    assert_eq!((r.name.as_str(), r.seed, r.device), ("x", 0, DeviceChoice::Auto));
    assert_eq!((r.train.epochs, r.train.batch, r.train.precision), (100, 64, None));
    assert_eq!((r.optim.name, r.schedule.name, r.loss.ce), (OptimName::Sgd, ScheduleName::Cosine, 1.0));
    assert!(r.teacher.is_none() && r.methods.is_empty() && r.data.path.is_none());
}

#[test]
fn unknown_keys() {
    assert_eq!(
        wrong("[optim]\nlerning_rate = 0.1\n", &[]),
        format!("x.toml:6: unknown key `optim.lerning_rate`\n  hint: did you mean `optim.lr`? {TAKES}")
    );
    assert_eq!(wrong("[optim]\nxyz = 0.1\n", &[]), format!("x.toml:6: unknown key `optim.xyz`\n  hint: {TAKES}"));
    assert_eq!(
        wrong("[trian]\nepochs = 1\n", &[]),
        format!("x.toml:5: unknown key `trian`\n  hint: did you mean `train`? {RECIPE_TAKES}")
    );
    assert_eq!(
        wrong("", &["epochs=5"]),
        format!("--set epochs=5: unknown key `epochs`\n  hint: did you mean `train.epochs`? {RECIPE_TAKES}")
    );
    for (old, new) in
        [("train.clip", "train.clip_grad"), ("train.ema", "train.ema_decay"), ("data.validation", "data.holdout")]
    {
        let set = format!("{old}=1");
        let message = format!("--set {set}: unknown key `{old}`\n  hint: `{old}` is now `{new}`");
        assert_eq!(wrong("", &[&set]), message);
    }
    // Keys of other tables, and words of other tools.
    for (set, meant) in [
        ("train.seed=1", "seed"),
        ("train.device=cpu", "device"),
        ("train.amp=true", "train.precision"),
        ("train.lr=0.1", "optim.lr"),
        ("schedule.warmup=5", "schedule.warmup_epochs"),
        ("student.pretrained=true", "student.weights"),
        ("data.batch_size=64", "train.batch"),
    ] {
        let message = wrong("", &[set]);
        assert!(message.contains(&format!("did you mean `{meant}`?")), "{set}: {message}");
    }
    assert!(wrong("", &["device=gpu"]).contains("did you mean `cuda`?"));
    assert_eq!(
        wrong("[optim]\nepochs = 1\n", &[]),
        format!("x.toml:6: unknown key `optim.epochs`\n  hint: did you mean `train.epochs`? {TAKES}")
    );
}

#[test]
fn wrong_types() {
    for (more, message) in [
        ("[optim]\nlr = \"fast\"\n", "x.toml:6: `optim.lr` is the text \"fast\"; a number is expected"),
        (
            "[train]\nepochs = -1\n",
            "x.toml:6: `train.epochs` is the number -1; a whole number from 0 to 4294967295 is expected",
        ),
        (
            "[train]\nbatch = 1.5\n",
            "x.toml:6: `train.batch` is the number 1.5; a whole number of at least 0 is expected",
        ),
        ("[optim]\nnesterov = 1\n", "x.toml:6: `optim.nesterov` is the number 1; true or false is expected"),
        ("[optim]\nname = 3\n", "x.toml:6: `optim.name` is the number 3; text is expected"),
        ("[optim]\nbetas = [0.9]\n", "x.toml:6: `optim.betas` is a list of 1; a list of 2 is expected"),
        ("[schedule]\nmilestones = 5\n", "x.toml:6: `schedule.milestones` is the number 5; a list is expected"),
        ("mean = [1.0, 2.0, \"x\"]\n", "x.toml:5: `student.mean[2]` is the text \"x\"; a number is expected"),
        ("weights = false\n", "x.toml:5: `student.weights` is false; text is expected"),
        ("[methods]\nkd = 3\n", "x.toml:6: `methods.kd` is the number 3; a table is expected"),
        ("[loss]\nce = nan\n", "x.toml:6: `loss.ce` is NaN; a finite number is expected"),
        ("[methods.a]\nb = [1.0, -inf]\n", "x.toml:6: `methods.a.b` is -inf; a finite number is expected"),
    ] {
        assert_eq!(wrong(more, &[]), message);
    }
    assert_eq!(
        wrong("[optim]\nname = \"sdg\"\n", &[]),
        "x.toml:6: `optim.name` cannot be `sdg`\n  hint: did you mean `sgd`? Valid are sgd, adamw"
    );
    assert_eq!(
        wrong("", &["name=5"]),
        "--set name=5: `name` is the number 5; text is expected\n  hint: quote it: --set 'name=\"5\"'"
    );
    assert_eq!(
        wrong("", &["teacher=none"]),
        "--set teacher=none: `teacher` is the text \"none\"; a table is expected\n  hint: `--set teacher=` removes \
         the table, `--set teacher={}` makes one"
    );
}

#[test]
fn missing_keys() {
    let message = |text| layered(text, &[]).unwrap().recipe().unwrap_err().to_string();
    assert_eq!(
        message("seed = 1\n[student]\nmodel = \"m\"\n"),
        "x.toml: `data.name` is missing\n  hint: add `name = ..` to [data]; `heterodyne data` lists the datasets"
    );
    assert_eq!(
        message("[data]\nname = \"digits\"\n[student]\nimg = 8\n"),
        "x.toml:3: `student.model` is missing\n  hint: add `model = ..` to [student]; `heterodyne models` lists the \
         models"
    );
}

#[test]
fn syntax_errors_keep_line_and_column() {
    assert_eq!(
        wrong("x = \n", &[]),
        "x.toml:5:5: not valid TOML: string values must be quoted, expected literal string"
    );
    assert_eq!(wrong("model = \"b\"\n", &[]), "x.toml:5:1: not valid TOML: duplicate key `model`");
    assert_eq!(wrong("[data]\n", &[]), "x.toml:5:2: not valid TOML: duplicate key `data`");
    // Columns count characters, not bytes.
    assert_eq!(layered("x = \"ä\" y", &[]).unwrap_err().place, "x.toml:1:9");
    let huge = layered("a = 1\nb = 99999999999999999999\n", &[]).unwrap_err();
    assert_eq!(huge.place, "x.toml:2:5");
}

#[test]
fn values_out_of_range_and_contradictions() {
    for (more, message) in [
        ("[train]\nepochs = 0\n", "`train.epochs`: 0 is out of range, expected a whole number of at least 1"),
        ("[train]\nbatch = 0\n", "`train.batch`: 0 is out of range, expected a whole number of at least 1"),
        ("[train]\neval_batch = 0\n", "`train.eval_batch`: 0 is out of range, expected a whole number of at least 1"),
        ("[train]\nlog_every = 0\n", "`train.log_every`: 0 is out of range, expected a whole number of at least 1"),
        ("[train]\neval_every = 0\n", "`train.eval_every`: 0 is out of range, expected a whole number of at least 1"),
        (
            "[train]\ncheckpoint_every = 0\n",
            "`train.checkpoint_every`: 0 is out of range, expected a whole number of at least 1",
        ),
        (
            "[train]\nlabel_smoothing = 1.0\n",
            "`train.label_smoothing`: 1 is out of range, expected a number of at least 0 and below 1",
        ),
        ("[optim]\nlr = 0.0\n", "`optim.lr`: 0 is out of range, expected a number above 0"),
        ("[optim]\nmomentum = 1\n", "`optim.momentum`: 1 is out of range, expected a number of at least 0 and below 1"),
        ("[optim]\nbetas = [0.9, 1.0]\n", "`optim.betas` is [0.9, 1.0]; both must be at least 0 and less than 1"),
        ("[optim]\neps = 0\n", "`optim.eps`: 0 is out of range, expected a number above 0"),
        (
            "[optim]\nweight_decay = -1e-4\n",
            "`optim.weight_decay`: -0.0001 is out of range, expected a number of at least 0",
        ),
        ("[schedule]\nwarmup_epochs = 101\n", "`schedule.warmup_epochs` is 101, more than train.epochs, 100"),
        (
            "[schedule]\nwarmup_epochs = -1\n",
            "`schedule.warmup_epochs`: -1 is out of range, expected a number of at least 0",
        ),
        ("[schedule]\nmin_lr = 1\n", "`schedule.min_lr` is 1, more than optim.lr, 0.05, from which it falls"),
        (
            "[schedule]\nmilestones = [3, 3]\n",
            "`schedule.milestones` is [3.0, 3.0]; epochs greater than 0, each later than the one before, are expected",
        ),
        ("[schedule]\nname = \"step\"\n", "`schedule.name` is `step` and there are no schedule.milestones to step at"),
        ("[schedule]\ngamma = 0\n", "`schedule.gamma`: 0 is out of range, expected a number above 0 and up to 1"),
        ("[loss]\nce = -1\n", "`loss.ce`: -1 is out of range, expected a number from 0 to 1000000000"),
    ] {
        assert_eq!(wrong(more, &[]), format!("x.toml:6: {message}"));
    }
    for (more, message) in [
        (
            "[optim]\nmomentum = 0\nnesterov = true\n",
            "x.toml:7: `optim.nesterov` is true and optim.momentum is 0; Nesterov's variant needs momentum",
        ),
        (
            "[schedule]\nwarmup_epochs = 1\nwarmup_lr = 1\n",
            "x.toml:7: `schedule.warmup_lr` is 1, more than optim.lr, 0.05, to which it rises",
        ),
        (
            "[train]\nclip_grad = 0\n",
            "x.toml:6: `train.clip_grad`: 0 is out of range, expected a number above 0\n  hint: `--set \
             train.clip_grad=` removes it: nothing is clipped then",
        ),
        (
            "[train]\nema_decay = 1.0\n",
            "x.toml:6: `train.ema_decay`: 1 is out of range, expected a number above 0 and below 1\n  hint: `--set \
             train.ema_decay=` removes it: there is no average then",
        ),
        ("img = 0\n", "x.toml:5: `student.img`: 0 is out of range, expected a whole number from 1 to 4096"),
        ("std = [1.0, 0.0, 1.0]\n", "x.toml:5: `student.std` has a value that is not greater than 0"),
        (
            "mean = [125, 120, 110]\n",
            "x.toml:5: `student.mean` is not a mean of pixels in 0..1\n  hint: divide means of pixels in 0..255 by 255",
        ),
    ] {
        assert_eq!(wrong(more, &[]), message);
    }
    assert_eq!(
        wrong("", &["data.per_class=0"]),
        "--set data.per_class=0: `data.per_class`: 0 is out of range, expected a whole number of at least 1"
    );
    assert!(wrong("", &["name=a/b"]).starts_with("--set name=a/b: `name` is \"a/b\"; it names a folder"));
    // The place of an absent key is the file.
    assert_eq!(
        wrong("", &["train.epochs=2", "schedule.warmup_epochs=3"]),
        "--set schedule.warmup_epochs=3: `schedule.warmup_epochs` is 3, more than train.epochs, 2"
    );
}

#[test]
fn owners_of_tables_get_places_and_nearest_keys() {
    let l = layered(&format!("{GOOD}[methods.uhkd]\nk = 5\nlamda = 2\nscales = [1, 2]\n"), &[]).unwrap();
    for (table, key, message, shown) in [
        (
            "methods.uhkd",
            "k",
            "invalid type: integer `5`, expected a boolean",
            "x.toml:6: `methods.uhkd.k` is the number 5; true or false is expected",
        ),
        (
            "methods.uhkd",
            "scales[1]",
            "invalid value: integer `2`, expected u8",
            "x.toml:8: `methods.uhkd.scales[1]` is the number 2; a whole number from 0 to 255 is expected",
        ),
        ("methods.uhkd", "k", "must be odd", "x.toml:6: `methods.uhkd.k`: must be odd"),
        (
            "student",
            "model",
            "unknown model `resnet88`, expected one of `resnet8`, `vit`",
            "x.toml:4: `student.model`: unknown model `resnet88`, expected one of `resnet8`, `vit`\n  hint: did you \
             mean `resnet8`? Valid are resnet8, vit",
        ),
        ("", "teacher", "is needed", "x.toml: `teacher`: is needed"),
        ("", "", "makes no sense", "x.toml: makes no sense"),
    ] {
        assert_eq!(l.explain(table, &KeyError::new(key, message)).to_string(), shown);
    }
    let unknown =
        |key, valid: &[&str]| l.explain("methods.uhkd", &KeyError::unknown(key, valid.iter().copied())).to_string();
    assert_eq!(
        unknown("lamda", &["lambda", "k"]),
        "x.toml:7: unknown key `methods.uhkd.lamda`\n  hint: did you mean `methods.uhkd.lambda`? [methods.uhkd] takes \
         lambda, k"
    );
    assert_eq!(unknown("k", &[]), "x.toml:6: unknown key `methods.uhkd.k`\n  hint: [methods.uhkd] takes no keys");
    assert_eq!(l.place("methods.uhkd.k"), "x.toml:6");
    assert_eq!(l.place("optim.lr"), "x.toml");
}

#[test]
fn a_stored_plan_gets_the_defaults_of_later_keys() {
    let now = serde_json::to_value(Recipe::default()).unwrap();
    let mut then = now.clone();
    then.as_object_mut().unwrap().remove("deterministic");
    then["train"].as_object_mut().unwrap().remove("eval_batch");
    assert!(then != now && filled(&then) == now);
    assert_eq!(without(then, &["train", "seed"]), without(now, &["deterministic", "train", "seed"]));
    let other = serde_json::json!({ "deterministik": 1 });
    assert_eq!(filled(&other), other);
}
