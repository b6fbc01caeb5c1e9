//! Recipes and runs are usable whatever the working folder.
use std::fs;

use crate::support::{Place, interrupt, refused, stderr};

/// A place with `project/taught.toml`, the teacher beside it, and an empty folder `other`.
fn project() -> Place {
    let place = Place::new();
    for folder in ["project", "other"] {
        fs::create_dir(place.path(folder)).unwrap();
    }
    for file in ["taught.toml", "teacher.safetensors"] {
        fs::rename(place.path(file), place.path(&format!("project/{file}"))).unwrap();
    }
    place
}

fn good_in(place: &Place, folder: &str, words: &str) -> String {
    let output = place.command(words).current_dir(place.path(folder)).output().unwrap();
    assert!(output.status.success(), "{words}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_path_that_is_not_in_the_working_folder_is_found_beside_its_recipe() {
    let place = project();
    good_in(&place, "other", "distill ../project/taught.toml --out run");
    assert_eq!(place.json("other/run/plan.json")["teacher"]["weights"], "../project/teacher.safetensors");
    // A layer's path is beside the layer, whatever names it.
    fs::write(place.path("other/layer.toml"), "base = \"../project/taught.toml\"\nname = \"layer\"\n").unwrap();
    good_in(&place, "", "distill other/layer.toml --out layered");
    assert_eq!(place.json("layered/plan.json")["teacher"]["weights"], "project/teacher.safetensors");
}

#[test]
fn the_working_folder_comes_first_and_the_command_line_is_relative_to_it_alone() {
    let place = project();
    fs::write(place.path("other/teacher.safetensors"), "not weights").unwrap();
    let run = |words: &str| place.command(words).current_dir(place.path("other")).output().unwrap();
    let words = "distill ../project/taught.toml --out run";
    refused(&run(words), words, &["teacher.safetensors: is plain text, not weights"]);
    fs::remove_file(place.path("other/teacher.safetensors")).unwrap();
    let words = "distill ../project/taught.toml --set teacher.weights=teacher.safetensors --out run";
    let folder = fs::canonicalize(place.path("other")).unwrap();
    refused(
        &run(words),
        words,
        &["teacher.safetensors: does not exist in the working folder", folder.to_str().unwrap()],
    );
}

#[test]
fn a_run_resumes_from_another_working_folder() {
    let place = project();
    fs::write(place.path("classes.txt"), "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n").unwrap();
    let words = "distill project/taught.toml --set data.classes=classes.txt --set train.epochs=100 --out run";
    assert_eq!(interrupt(&place, words), Some(130));
    good_in(&place, "other", "distill --resume ../run");
    assert!(good_in(&place, "other", "eval ../run").contains("top-1"));
    // The plan is as it was written, and still belongs to its checkpoint.
    assert_eq!(place.json("run/plan.json")["data"]["classes"], "classes.txt");
}
