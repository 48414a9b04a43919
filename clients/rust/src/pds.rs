//! An account by a session at its PDS.
//!
//! Invariant: the password is used once and not kept; tokens are kept in memory alone and never shown.

use std::sync::{PoisonError, RwLock};

use reqwest::RequestBuilder;
use rookery_protocol::types::{Did, UnixMillis};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::account::Account;
use crate::service::{CallError, answer, http_client};

const CREATE_SESSION: &str = "com.atproto.server.createSession";
const REFRESH_SESSION: &str = "com.atproto.server.refreshSession";
const GET_SERVICE_AUTH: &str = "com.atproto.server.getServiceAuth";

/// A session at the account's PDS, which mints its service tokens.
pub struct Pds {
    http: reqwest::Client,
    url: String,
    did: Did,
    tokens: RwLock<Tokens>,
}

struct Tokens {
    access: SecretString,
    refresh: SecretString,
}

impl Tokens {
    fn read(nsid: &'static str, body: &Value) -> Result<Self, CallError> {
        let token = |name: &str| {
            let text = body.get(name).and_then(Value::as_str);
            text.map(SecretString::from).ok_or_else(|| CallError::Unreadable { nsid, why: format!("no {name}") })
        };
        Ok(Self { access: token("accessJwt")?, refresh: token("refreshJwt")? })
    }
}

impl Pds {
    /// `url` is the PDS's origin; `identifier` a handle or a DID; `password` an app password does.
    pub async fn log_in(url: &str, identifier: &str, password: &SecretString) -> Result<Self, CallError> {
        let (http, url) = (http_client()?, url.trim_end_matches('/').to_owned());
        let body = json!({ "identifier": identifier, "password": password.expose_secret() });
        let request = http.post(format!("{url}/xrpc/{CREATE_SESSION}")).json(&body);
        let session = answer(CREATE_SESSION, request).await?;
        let did = session.get("did").and_then(Value::as_str).and_then(|did| Did::parse(did).ok());
        let did =
            did.ok_or_else(|| CallError::Unreadable { nsid: CREATE_SESSION, why: "it names no DID".to_owned() })?;
        let tokens = RwLock::new(Tokens::read(CREATE_SESSION, &session)?);
        Ok(Self { http, url, did, tokens })
    }

    async fn service_auth(&self, audience: &Did, nsid: &str) -> Result<String, CallError> {
        let url = format!("{}/xrpc/{GET_SERVICE_AUTH}", self.url);
        let url = reqwest::Url::parse_with_params(&url, [("aud", audience.as_str()), ("lxm", nsid)]);
        let url = url.map_err(|error| CallError::Unanswered { nsid: GET_SERVICE_AUTH, why: error.to_string() })?;
        let request = self.with(self.http.get(url), |tokens| &tokens.access);
        let token = answer(GET_SERVICE_AUTH, request).await?;
        let token = token.get("token").and_then(Value::as_str).map(str::to_owned);
        token.ok_or_else(|| CallError::Unreadable { nsid: GET_SERVICE_AUTH, why: "no token".to_owned() })
    }

    async fn refresh(&self) -> Result<(), CallError> {
        let request = self.http.post(format!("{}/xrpc/{REFRESH_SESSION}", self.url));
        let session = answer(REFRESH_SESSION, self.with(request, |tokens| &tokens.refresh)).await?;
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Tokens::read(REFRESH_SESSION, &session)?;
        Ok(())
    }

    fn with(&self, request: RequestBuilder, which: impl Fn(&Tokens) -> &SecretString) -> RequestBuilder {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        request.bearer_auth(which(&tokens).expose_secret())
    }
}

impl Account for Pds {
    fn did(&self) -> &Did {
        &self.did
    }

    async fn service_token(&self, audience: &Did, nsid: &str, _now: UnixMillis) -> Result<String, CallError> {
        match self.service_auth(audience, nsid).await {
            Err(error) if error.is("ExpiredToken") => {
                self.refresh().await?;
                self.service_auth(audience, nsid).await
            }
            outcome => outcome,
        }
    }
}

impl std::fmt::Debug for Pds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pds({})", self.url)
    }
}
