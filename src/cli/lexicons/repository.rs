//! A repository of lexicons, by the methods of its PDS.
//!
//! Invariants: the password goes to the PDS that the operator named, over https (http to this machine alone), and
//! nowhere else; neither it nor a token is ever part of an error. A write names the version that it replaces.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::{Host, Url};

use super::plan::Published;
use super::{COLLECTION, printable};
use crate::identity::http::{HttpError, PlainClient, plain_trusting, send_plain};
use crate::identity::{Authorities, Guarded};
use crate::types::Did;

/// Records in one answer, and bytes of it: the largest lexicon has some 30 KB.
const PAGE: u8 = 50;
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Answers that are read before a repository counts as endless.
const MAX_PAGES: usize = 100;

/// How a PDS is reached: as an operator named it, or as a stranger's DID document does.
enum Http {
    Plain(PlainClient),
    Guarded(Arc<Guarded>),
}

pub(super) struct Pds {
    http: Http,
    /// Without a path.
    origin: String,
}

/// Who writes.
pub(super) struct Session {
    pub did: Did,
    access: SecretString,
    refresh: SecretString,
}

/// The PDS's own no.
#[derive(Debug, thiserror::Error)]
#[error("{nsid} was refused by the PDS: {status} {error}: {message}")]
struct Refused {
    nsid: &'static str,
    status: u16,
    error: String,
    message: String,
}

impl Pds {
    pub fn named_by_the_operator(url: &Url, authorities: &Authorities) -> anyhow::Result<Self> {
        let local = match url.host() {
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
            None => false,
        };
        let secure = url.scheme() == "https" || url.scheme() == "http" && local;
        ensure!(secure, "--pds is not an https URL (http is for a PDS on this machine alone)");
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let open = url.username().is_empty() && url.password().is_none();
        ensure!(bare && open, "--pds is not the bare URL of a PDS, such as https://pds.example.com");
        Ok(Self { http: Http::Plain(plain_trusting(authorities)?), origin: url.origin().ascii_serialization() })
    }

    /// Only read, and only where strangers may send this server.
    pub fn named_by_a_document(origin: String, guarded: Arc<Guarded>) -> Self {
        Self { http: Http::Guarded(guarded), origin }
    }

    pub async fn log_in(&self, identifier: &str, password: &SecretString) -> anyhow::Result<Session> {
        let body = json!({ "identifier": identifier, "password": password.expose_secret() });
        let answer = match self.procedure("com.atproto.server.createSession", None, Some(&body)).await {
            Ok(answer) => answer,
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(no) if no.error == "AuthFactorTokenRequired" => {
                    bail!("the PDS wants a second factor. Fix: make an app password for this, and use it instead")
                }
                Some(no) if no.status == 401 => bail!(
                    "wrong identifier or password: the PDS does not let {identifier} in ({}). Fix: set \
                     ROOKERY_PDS_PASSWORD to an app password of this account",
                    no.message
                ),
                _ => return Err(error),
            },
        };
        let text = |key: &str| answer[key].as_str().with_context(|| format!("the PDS's session has no {key}"));
        let token = |key| text(key).map(SecretString::from);
        Ok(Session { did: Did::parse(text("did")?)?, access: token("accessJwt")?, refresh: token("refreshJwt")? })
    }

    /// Best effort: what is not ended here ends by itself, in some weeks.
    pub async fn log_out(&self, session: &Session) {
        let _ = self.procedure("com.atproto.server.deleteSession", Some(&session.refresh), None).await;
    }

    pub async fn did_of(&self, identifier: &str) -> anyhow::Result<Did> {
        if let Ok(did) = Did::parse(identifier) {
            return Ok(did);
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("handle", identifier).finish();
        let answer = self.query("com.atproto.identity.resolveHandle", &query).await?;
        Ok(Did::parse(answer["did"].as_str().unwrap_or_default())?)
    }

    /// Every lexicon that the repository holds, by the key of its record.
    pub async fn lexicons(&self, did: &Did) -> anyhow::Result<BTreeMap<String, Published>> {
        let mut found = BTreeMap::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("repo", did.as_str()).append_pair("collection", COLLECTION);
            query.append_pair("limit", &PAGE.to_string());
            if let Some(cursor) = &cursor {
                query.append_pair("cursor", cursor);
            }
            let mut answer = self.query("com.atproto.repo.listRecords", &query.finish()).await?;
            let records = answer["records"].as_array_mut().map(std::mem::take).context("the PDS lists no records")?;
            if records.is_empty() {
                return Ok(found);
            }
            for mut record in records {
                let key = record["uri"].as_str().and_then(|uri| uri.rsplit('/').next());
                let (Some(key), Some(cid)) = (key, record["cid"].as_str()) else {
                    bail!("the PDS lists a record without its name or version")
                };
                let (key, cid) = (key.to_owned(), cid.to_owned());
                found.insert(key, Published { cid, record: record["value"].take() });
            }
            match answer["cursor"].as_str() {
                Some(next) if cursor.as_deref() != Some(next) => cursor = Some(next.to_owned()),
                _ => return Ok(found),
            }
        }
        bail!("the repository has more than {} lexicons", MAX_PAGES * usize::from(PAGE))
    }

    /// Writes one lexicon in the place of the version that is `there`, or where there is none.
    pub async fn put(&self, session: &Session, nsid: &str, record: &Value, there: Option<&str>) -> anyhow::Result<()> {
        let body = json!({
            "repo": session.did, "collection": COLLECTION, "rkey": nsid, "record": record, "swapRecord": there,
        });
        match self.procedure("com.atproto.repo.putRecord", Some(&session.access), Some(&body)).await {
            Ok(_) => Ok(()),
            Err(error) if error.downcast_ref::<Refused>().is_some_and(|no| no.error == "InvalidSwap") => bail!(
                "conflict: {nsid} was changed by somebody else since it was read, and stays as they left it. Fix: run \
                 the command again, which compares anew"
            ),
            Err(error) => Err(error.context(format!("cannot write {nsid}"))),
        }
    }

    async fn query(&self, nsid: &'static str, query: &str) -> anyhow::Result<Value> {
        let request = http::Request::get(format!("{}/xrpc/{nsid}?{query}", self.origin));
        self.call(nsid, request.body(Bytes::new())?).await
    }

    async fn procedure(
        &self,
        nsid: &'static str,
        token: Option<&SecretString>,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let mut request = http::Request::post(format!("{}/xrpc/{nsid}", self.origin));
        if let Some(token) = token {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()));
        }
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        self.call(nsid, request.body(body.into())?).await
    }

    async fn call(&self, nsid: &'static str, mut request: http::Request<Bytes>) -> anyhow::Result<Value> {
        request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static("application/json"));
        let answer = match &self.http {
            Http::Plain(client) => send_plain(client, request, MAX_BODY_BYTES).await,
            Http::Guarded(guarded) => guarded.send(request, MAX_BODY_BYTES).await,
        };
        let answer = answer.map_err(|error: HttpError| anyhow::anyhow!("{nsid}: the PDS does not answer: {error}"))?;
        let status = answer.status();
        if status.is_success() && answer.body().is_empty() {
            return Ok(Value::Null);
        }
        let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        if status.is_success() {
            ensure!(body.is_object(), "{nsid}: the answer is not JSON; is --pds a PDS?");
            return Ok(body);
        }
        let text = |key: &str| printable(body[key].as_str().unwrap_or("?"));
        Err(Refused { nsid, status: status.as_u16(), error: text("error"), message: text("message") }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::Pds;
    use crate::identity::Authorities;

    #[test]
    fn a_password_goes_over_https_or_stays_on_this_machine() {
        let origin = |url: &str| {
            Pds::named_by_the_operator(&url.parse().unwrap(), &Authorities::default()).map(|pds| pds.origin)
        };
        for url in ["https://pds.example.com", "http://localhost:2583", "http://127.0.0.1:2583", "http://[::1]:2583"] {
            assert_eq!(origin(&format!("{url}/")).unwrap(), url);
        }
        for url in [
            "http://pds.example.com",
            "http://10.0.0.1",
            "ftp://localhost",
            "https://pds.example.com/xrpc",
            "https://pds.example.com/?x",
            "https://me:secret@pds.example.com",
        ] {
            let refusal = origin(url).unwrap_err().to_string();
            assert!(refusal.starts_with("--pds is not") && !refusal.contains("secret"), "{url}: {refusal}");
        }
    }
}
