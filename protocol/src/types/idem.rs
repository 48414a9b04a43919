use super::Malformed;

/// A client's name for one call, so that a repeat is known: 16 to 64 characters of `A–Z a–z 0–9 - _ . ~`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Idem(String);

impl Idem {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if !(16..=64).contains(&text.len()) {
            return Err(Malformed::new("idem", "expected 16 to 64 characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b)) {
            return Err(Malformed::new("idem", "expected letters, digits, '-', '_', '.' and '~' only"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}
