//! AT Protocol's public vectors of handles, judged by the server's own reading. `make vectors` runs this target alone and
//! says where the vectors are.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a vector that cannot be read fails the test")]

use rookery::identity::Handle;

fn lines(name: &str) -> Vec<String> {
    let folder = std::env::var("VECTORS_DIR").expect("VECTORS_DIR names the folder of the public vectors");
    let path = std::path::Path::new(&folder).join("atproto/syntax").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn handles_are_judged_as_the_public_vectors_say() {
    for line in lines("handle_syntax_valid.txt") {
        assert!(Handle::parse(&line).is_ok(), "{line}");
    }
    for line in lines("handle_syntax_invalid.txt") {
        assert!(Handle::parse(&line).is_err(), "{line}");
    }
}
