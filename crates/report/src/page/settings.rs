//! The exact settings of every run.
use super::section as titled;
use crate::{
    Loaded, Run,
    markup::escape,
    plan::{Keys, flatten},
};

/// Settings, versions and devices of every run.
pub fn section(groups: &[Loaded]) -> String {
    let body: String = groups.iter().filter(|g| !g.runs.is_empty()).map(group).collect();
    titled("Settings", &body)
}

fn group(group: &Loaded) -> String {
    let plans: Vec<Keys> = group.runs.iter().map(|r| flatten(&r.plan)).collect();
    let common = |key: &str, value: &str| plans.iter().all(|p| p.get(key).is_some_and(|v| v == value));
    let shared: Vec<(&String, &String)> = plans.first().into_iter().flatten().filter(|(k, v)| common(k, v)).collect();
    let mut out = format!("<details>\n<summary>{}</summary>\n{}", escape(&group.name), list(&shared));
    for (run, plan) in group.runs.iter().zip(&plans) {
        let own: Vec<(&String, &String)> = plan.iter().filter(|(k, v)| !common(k, v)).collect();
        // Only the folder's name: the page may be shared, and a full path means nothing on another machine.
        let name = run.path.file_name().unwrap_or(run.path.as_os_str()).to_string_lossy();
        out.push_str(&format!("<h4>{}</h4>\n<p class=\"facts\">{}</p>\n{}", escape(name), facts(run), list(&own)));
    }
    out.push_str("</details>\n");
    out
}

fn facts(run: &Run) -> String {
    let s = &run.summary;
    let mut facts = vec![format!("seed {}", s.seed), run.state(), format!("{} epochs, {} steps", s.epochs, s.steps)];
    if s.train_images > 0 {
        facts.push(format!("{} training images", s.train_images));
    }
    if !s.device.is_empty() {
        facts.push(format!("{}, {}", s.device, s.precision));
    }
    if !s.versions.heterodyne.is_empty() {
        facts.push(format!("heterodyne {}, libtorch {}", s.versions.heterodyne, s.versions.libtorch));
    }
    facts.extend(s.machine.as_ref().map(ToString::to_string));
    facts.iter().map(|f| format!("<span>{}</span>", escape(f))).collect::<Vec<_>>().join(" ")
}

fn list(settings: &[(&String, &String)]) -> String {
    if settings.is_empty() {
        return String::new();
    }
    let lines: Vec<String> =
        settings.iter().map(|(key, value)| format!("{} = {}", escape(key), escape(value))).collect();
    format!("<pre>{}</pre>\n", lines.join("\n"))
}
