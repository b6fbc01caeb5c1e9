//! The environment variables: each rule with a map, and the real environment in a child process.
use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use heterodyne_hub::{Error, Settings, Token};

use crate::server::COMMIT;
use crate::world::{World, usual};

fn read(variables: &[(&str, &str)]) -> Result<Settings, Error> {
    let map: HashMap<_, _> = variables.iter().copied().collect();
    Settings::read(|variable| map.get(variable).map(OsString::from))
}

#[test]
fn the_cache_as_python_finds_it() {
    for (variables, expected) in [
        (&[("HOME", "/u")][..], "/u/.cache/huggingface/hub"),
        (&[("HOME", "/u"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
        (&[("HOME", "/u"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")], "/h/hub"),
        (&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
        (&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")], "/new"),
        (&[("HOME", "/u"), ("HF_HOME", "~/h")], "/u/h/hub"),
        (&[("HOME", "/u"), ("HF_HOME", "")], "/u/.cache/huggingface/hub"),
    ] {
        assert_eq!(read(variables).unwrap().cache, Path::new(expected), "{variables:?}");
    }
    assert!(read(&[("HF_HOME", "relative")]).unwrap().cache.is_absolute());
    assert!(read(&[]).unwrap_err().to_string().contains("HF_HOME"));
}

#[test]
fn offline_as_python_reads_it() {
    for yes in ["1", "true", "True", "YES", "on", "oN"] {
        assert!(read(&[("HOME", "/u"), ("HF_HUB_OFFLINE", yes)]).unwrap().offline, "{yes}");
    }
    for no in ["0", "false", "", "2", "off", "y"] {
        assert!(!read(&[("HOME", "/u"), ("HF_HUB_OFFLINE", no)]).unwrap().offline, "{no}");
    }
    assert!(read(&[("HOME", "/u"), ("TRANSFORMERS_OFFLINE", "1")]).unwrap().offline);
    assert!(!read(&[("HOME", "/u"), ("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).unwrap().offline);
}

#[test]
fn the_endpoint_is_a_url() {
    let endpoint = |value| read(&[("HOME", "/u"), ("HF_ENDPOINT", value)]).map(|settings| settings.endpoint);
    assert_eq!(endpoint("").unwrap(), "https://huggingface.co");
    assert_eq!(endpoint("http://mirror:8080/hf/").unwrap(), "http://mirror:8080/hf");
    for bad in ["mirror", "ftp://mirror", "http://", "file:///etc", "http://a b", "/path", "https://a?b=c"] {
        assert!(endpoint(bad).unwrap_err().to_string().contains("HF_ENDPOINT"), "{bad}");
    }
}

#[test]
fn the_token_and_its_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_str().unwrap();
    let token = |variables: &[(&str, &str)]| read(&[&[("HF_HOME", path)], variables].concat()).unwrap().token;
    assert_eq!(token(&[]), None);
    fs::write(home.path().join("token"), "hf_file\n").unwrap();
    assert_eq!(token(&[]), Token::new("hf_file").unwrap());
    assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "hf_old")]), Token::new("hf_old").unwrap());
    assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "hf_old"), ("HF_TOKEN", "hf_new")]), Token::new("hf_new").unwrap());
    assert_eq!(token(&[("HF_TOKEN", "hf_new"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
    let error = read(&[("HOME", "/u"), ("HF_TOKEN", "hf_\u{1}secret")]).unwrap_err().to_string();
    assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
    let garbled = Settings::read(|variable| match variable {
        "HF_TOKEN" => Some(OsString::from_vec(vec![b's', 0xff])),
        _ => Some("/u".into()),
    });
    assert!(garbled.unwrap_err().to_string().contains("HF_TOKEN is not valid UTF-8"));
}

/// `examples/fetch.rs`, which cargo builds with the tests, beside their folder.
fn example() -> PathBuf {
    let tests = env::current_exe().unwrap();
    tests.parent().unwrap().parent().unwrap().join("examples").join(format!("fetch{}", env::consts::EXE_SUFFIX))
}

fn run(variables: &[(&str, &str)]) -> Output {
    let example = example();
    assert!(example.exists(), "{} is built by `cargo test -p heterodyne-hub`", example.display());
    Command::new(example).arg("hf-hub:timm/tiny").env_clear().envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn a_process_reads_its_environment() {
    let world = World::new(&usual());
    world.hub.demand("hf_secret");
    let home = world.folder.path().join("home");
    let (home, endpoint) = (home.to_str().unwrap(), world.hub.endpoint());
    let variables = [("HF_HOME", home), ("HF_ENDPOINT", endpoint.as_str())];

    let refused = run(&variables);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("set HF_TOKEN"));
    let fetched = run(&[&variables[..], &[("HF_TOKEN", "hf_secret")]].concat());
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    let weights = format!("weights {home}/hub/models--timm--tiny/snapshots/{COMMIT}/model.safetensors");
    assert!(String::from_utf8_lossy(&fetched.stdout).contains(&weights));
    assert!(!format!("{fetched:?}").contains("hf_secret"));

    world.hub.requests();
    let offline = run(&[&variables[..], &[("HF_HUB_OFFLINE", "Yes")]].concat());
    assert_eq!(offline.stdout, fetched.stdout);
    let empty = run(&[("HF_HUB_CACHE", "/nonexistent/cache"), ("HF_HUB_OFFLINE", "1")]);
    assert!(String::from_utf8_lossy(&empty.stderr).contains("/nonexistent/cache/models--timm--tiny"));
    assert!(world.hub.requests().is_empty());
}
