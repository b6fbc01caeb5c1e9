//! Every key of a recipe with absurd values: each gives a plan or an error that names the key. `tools/absurd.py` also
//! runs what is not refused.
use crate::support::plan;

const VALUES: [&str; 20] = [
    "0",
    "-1",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "1e-308",
    "1e308",
    "-1e308",
    "nan",
    "inf",
    "''",
    "'absurd'",
    "\"a\\u0000b\"",
    "true",
    "1979-05-27",
    "[]",
    "[nan]",
    "[1e308,1e308,1e308]",
    "[[[[]]]]",
    "{a={b={c=[{d=1}]}}}",
];
const STRANGE: &str = "zzqx";

/// The keys of `table`, as listed by the error for an unknown key; `None` if it is not a table.
fn keys_of(before: &[String], table: &str) -> Option<Vec<String>> {
    let path = if table.is_empty() { STRANGE.to_owned() } else { format!("{table}.{STRANGE}") };
    let text = plan(&[before, &[format!("{path}=1")]].concat()).err()?.to_string();
    let (_, list) = text.lines().find_map(|line| line.split_once(" takes "))?;
    let unknown = text.contains(&format!("unknown key `{path}`"));
    unknown.then(|| if list == "no keys" { Vec::new() } else { list.split(", ").map(str::to_owned).collect() })
}

/// All keys below `table`, outermost first.
fn walk(before: &[String], table: &str, found: &mut Vec<(Vec<String>, String)>) {
    for key in keys_of(before, table).unwrap_or_default() {
        let path = if table.is_empty() { key } else { format!("{table}.{key}") };
        found.push((before.to_vec(), path.clone()));
        if path != "methods" {
            walk(before, &path, found);
        }
    }
}

#[test]
fn every_key_refuses_the_absurd_in_words() {
    let base = ["teacher.model=vit_nano", "teacher.weights=x", "methods.kd={}"].map(str::to_owned);
    let mut found = Vec::new();
    walk(&base, "", &mut found);
    let tables = found.len();
    for method in heterodyne_methods::all() {
        walk(&base, &format!("methods.{}", method.name), &mut found);
    }
    let methods = found.len();
    for def in heterodyne_models::all() {
        let student = [format!("student.model={}", def.name), "student.img=32".to_owned()];
        walk(&[&base[..], &student].concat(), "student.options", &mut found);
    }
    assert!(tables > 90 && methods - tables > 100 && found.len() > methods, "{tables} {methods} {}", found.len());

    let (mut plans, mut refusals) = (0, 0);
    for (before, path) in &found {
        for value in VALUES {
            match plan(&[&before[..], &[format!("{path}={value}")]].concat()) {
                Ok(_) => plans += 1,
                Err(e) => {
                    let text = e.to_string();
                    let table = path.rsplit_once('.').map_or("", |(table, _)| table);
                    assert!(
                        text.contains(path.as_str()) || !table.is_empty() && text.contains(table),
                        "{path}={value}:\n{text}"
                    );
                    assert!(text.len() < 2000, "{path}={value}: {} bytes of words", text.len());
                    refusals += 1;
                }
            }
        }
    }
    println!("{} keys: {plans} plans, {refusals} refusals", found.len());
}
