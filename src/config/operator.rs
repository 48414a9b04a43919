use url::Url;

use super::ConfigError;
use super::values::Values;

/// The operator's contact, terms and privacy policy, which `server.describe` shows.
#[derive(Clone, Debug)]
pub struct OperatorInfo {
    pub contact: Option<Url>,
    pub terms: Option<Url>,
    pub privacy_policy: Option<Url>,
}

/// The longest URL that `server.describe` shows.
const URL_BYTES: usize = 512;

impl OperatorInfo {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            contact: shown_url(values, "OPERATOR_CONTACT", &["mailto", "https"], "mailto:operator@example.com")?,
            terms: shown_url(values, "TERMS_URL", &["https"], "https://example.com/terms")?,
            privacy_policy: shown_url(values, "PRIVACY_URL", &["https"], "https://example.com/privacy")?,
        })
    }
}

fn shown_url(values: &Values, name: &'static str, schemes: &[&str], example: &str) -> Result<Option<Url>, ConfigError> {
    let Some(text) = values.text(name) else { return Ok(None) };
    let fix = format!("set {name} to a URL of at most {URL_BYTES} bytes such as {example}");
    let url = Url::parse(text).map_err(|error| values.invalid(name, error.to_string(), &fix))?;
    if !schemes.contains(&url.scheme()) || url.as_str().len() > URL_BYTES {
        return Err(values.invalid(name, format!("not a URL of {}", schemes.join(" or ")), &fix));
    }
    Ok(Some(url))
}
