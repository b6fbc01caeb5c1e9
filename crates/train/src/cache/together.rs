//! Plans whose columns one pass of the teacher fills.
use heterodyne_settings::Settings;
use serde_json::{Value, json};

use crate::{Plan, plan::Weight};

/// Joins plans with the same teacher, student, images and views: the first of them gets the methods of all, so one pass
/// of its teacher computes the signals of all. Serves for filling a cache, not for training. The student belongs to it
/// because its grids decide which frequencies or scales of the teacher's features a method reads.
#[must_use]
pub fn together(plans: Vec<Plan>) -> Vec<Plan> {
    let mut joined: Vec<(Value, Vec<Value>, Plan)> = Vec::new();
    for plan in plans {
        let (pass, tables) = (pass(&plan), tables(&plan));
        let Some((_, known, first)) = joined.iter_mut().find(|(other, ..)| *other == pass) else {
            joined.push((pass, tables, plan));
            continue;
        };
        for (mut method, table) in plan.methods.into_iter().zip(tables) {
            if !known.contains(&table) {
                // Names the method's heads, which must differ.
                method.name = format!("{}-{}", method.name, known.len());
                first.methods.push(method);
                known.push(table);
            }
        }
    }
    joined.into_iter().map(|(.., plan)| plan).collect()
}

/// What decides which images the teacher sees, and how it and the signals are computed.
fn pass(plan: &Plan) -> Value {
    let recipe = &plan.recipe;
    json!([
        recipe.teacher,
        recipe.student,
        recipe.data,
        recipe.seed,
        recipe.device,
        recipe.deterministic,
        recipe.train.precision,
        recipe.train.batch,
    ])
}

/// The plan's methods with the keys that their signals may depend on.
fn tables(plan: &Plan) -> Vec<Value> {
    let of_weight = |key: &str| key != "logit_std" && Weight::KEYS.iter().any(|known| known.name == key);
    let own = |name| plan.recipe.methods.get(name).into_iter().flatten().filter(|(key, _)| !of_weight(key));
    plan.methods.iter().map(|m| json!([m.name, own(&m.name).collect::<Vec<_>>()])).collect()
}
