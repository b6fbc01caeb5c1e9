//! Names as in recipes.
use heterodyne_hub::{Name, is_name};

#[test]
fn both_prefixes_and_a_revision() {
    let parse = |name: &str| name.parse::<Name>().unwrap();
    let plain = parse("hf-hub:timm/deit_tiny_patch16_224.fb_in1k");
    assert_eq!((plain.repo.as_str(), plain.revision.as_deref()), ("timm/deit_tiny_patch16_224.fb_in1k", None));
    assert_eq!(parse("hf_hub:timm/deit_tiny_patch16_224.fb_in1k"), plain);
    assert_eq!(parse("hf-hub:a/b@refs/pr/1").revision.as_deref(), Some("refs/pr/1"));
    assert_eq!(parse("hf-hub:a/b@v1.0+x").to_string(), "hf-hub:a/b@v1.0+x");
    assert_eq!(parse(&plain.to_string()), plain);
}

#[test]
fn only_the_prefix_makes_a_name() {
    assert!(is_name("hf-hub:timm/x") && is_name("hf_hub:timm/x") && is_name("hf-hub:"));
    for other in ["timm/x", "deit.safetensors", "HF-HUB:timm/x", " hf-hub:timm/x", "hf-hub", "hfhub:timm/x", ""] {
        assert!(!is_name(other), "{other}");
        assert!(other.parse::<Name>().is_err(), "{other}");
    }
}

#[test]
fn what_is_no_name_is_refused_with_its_reason() {
    let long = format!("a/{}", "b".repeat(97));
    let revision = format!("a/b@{}", "c".repeat(256));
    let cases = [
        ("", "not separated"),
        ("tiny", "not separated"),
        ("a/b/c", "more than one"),
        ("/b", "is empty"),
        ("a/", "is empty"),
        ("../b", "`..`"),
        ("a/b..c", "`..`"),
        ("a/b--c", "`--`"),
        ("a/.b", "begins or ends"),
        ("a-/b", "begins or ends"),
        ("a/b c", "other characters"),
        ("a/b?c=d", "other characters"),
        ("a/b%2e", "other characters"),
        ("a/b\u{e9}", "other characters"),
        ("a/b\n", "other characters"),
        ("a\\b/c", "other characters"),
        ("a/b@", "is empty"),
        ("a/b@c@d", "other characters"),
        ("a/b@../c", "begins with"),
        ("a/b@c..d", "`..`"),
        ("a/b@/c", "is empty"),
        ("a/b@c//d", "is empty"),
        ("a/b@c d", "other characters"),
        ("a/b@-c", "begins with"),
        (long.as_str(), "longer than 96"),
        (revision.as_str(), "longer than 255"),
    ];
    for (rest, reason) in cases {
        let error = format!("hf-hub:{rest}").parse::<Name>().unwrap_err().to_string();
        assert!(error.contains(reason), "{rest}: {error}");
        assert!(error.contains("hf-hub:owner/name"), "{error}");
    }
}

/// The fields are public, so values that were not parsed are checked before they become paths.
#[test]
fn a_name_made_by_hand_is_checked() {
    let world = crate::world::World::new(&[]);
    let name = Name { repo: "../..".into(), revision: None };
    assert!(
        heterodyne_hub::fetch_with(&world.settings, &name, |_| {})
            .unwrap_err()
            .to_string()
            .contains("does not name a repository")
    );
    assert!(world.hub.requests().is_empty());
}
