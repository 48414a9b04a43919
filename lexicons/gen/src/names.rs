//! How a lexicon's names are spelled in Rust.

/// Names that a generated module uses for itself, or that Rust code would miss if they were hidden.
const TAKEN: &[&str] = &[
    "Bytes",
    "Deserialize",
    "Detail",
    "Did",
    "Error",
    "Input",
    "Kind",
    "Method",
    "Named",
    "Nothing",
    "Option",
    "Output",
    "Params",
    "Result",
    "Serialize",
    "String",
    "Vec",
];

/// `sendMessage` → `send_message`.
pub fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// `sendMessage` → `SendMessage`.
pub fn pascal(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// What serde's `rename_all = "camelCase"` makes of a field.
fn camel(field: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in field.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

/// A property as a Rust field, and whether serde must be told its name.
pub fn field(property: &str) -> (String, bool) {
    let snake = snake(property);
    let renamed = camel(&snake) != property;
    let keyword =
        ["ref", "type", "match", "move", "in", "box", "use", "where", "loop", "final"].contains(&snake.as_str());
    (if keyword { format!("r#{snake}") } else { snake }, renamed)
}

/// The struct of a definition `#def` in the document of `method`; `#result` of publishKeyPackages becomes
/// `PublishKeyPackagesResult`, because `Result` is taken.
pub fn object(method: &str, def: &str) -> String {
    let name = pascal(def);
    if TAKEN.contains(&name.as_str()) || name == pascal(method) { format!("{}{name}", pascal(method)) } else { name }
}
