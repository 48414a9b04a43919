//! Every error that a method declares comes out of some test, or stands here with the reason why it cannot.

use std::path::Path;

use rookery::lexicon::schema;

/// Method, error, reason.
const CANNOT_BE_YET: &[(&str, &str, &str)] = &[(
    "blue.catbird.mls.sendMessage",
    "DeviceUncertified",
    "only a certified device can get a leaf, and without a leaf it is DeviceNotInGroup",
)];

/// The tests of a method: the file that is called after it, and those of its group, or between servers, that say
/// `group.method`.
fn tests(group: &str, method: &str) -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    // What servers ask each other is tried between servers, too.
    let folders = [tests.join(group), tests.join("federation")];
    let snake: String = method.chars().fold(String::new(), |mut snake, c| {
        if c.is_uppercase() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
        snake
    });
    let mut texts = String::new();
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        if path.file_stem().unwrap() == snake.as_str() || text.contains(&format!("{group}.{method}`")) {
            texts.push_str(&text);
        }
    }
    texts
}

#[test]
fn every_declared_error_is_expected_by_a_test_of_its_method_or_excused_here() {
    let mut missing = Vec::new();
    for (nsid, _, errors) in schema::methods() {
        let mut ends = nsid.rsplit('.');
        let (method, group) = (ends.next().unwrap(), ends.next().unwrap());
        let tests = tests(group, method);
        assert!(tests.contains("::test"), "{nsid} has no test");
        for error in errors {
            let excused = CANNOT_BE_YET.iter().any(|(method, name, _)| *method == nsid && name == error);
            if tests.contains(&format!("\"{error}\"")) == excused {
                missing.push(format!("{nsid}: {error}"));
            }
        }
    }
    assert!(missing.is_empty(), "neither tested nor excused, or both:\n{}", missing.join("\n"));
}
