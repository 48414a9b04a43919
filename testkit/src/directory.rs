//! A DID directory for development: what `PLC_URL` names while nobody may be asked on the internet.
//!
//! Invariant: it knows the identities that were added, and no others. It also is the host of one did:web, its own
//! address. It listens on loopback and stops when dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use rookery_client::{Account, CallError};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use rookery::identity::{Curve, PublicKey, SigningKey, service_token};
use rookery::types::{Did, Malformed, UnixMillis, base32_lower};

/// How a document writes its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `Multikey`, with an absolute id.
    Multikey,
    /// `EcdsaSecp256{k1,r1}VerificationKey2019`: the bare point, uncompressed, with a relative id.
    Older,
}

/// An account as its PDS holds it: the DID, and the key that signs for it.
#[derive(Debug)]
pub struct Identity {
    pub did: Did,
    pub key: SigningKey,
    pub form: Form,
}

impl Identity {
    /// A random did:plc. `curve` is P-256 or K-256, as accounts have.
    pub fn plc(curve: Curve, form: Form) -> Result<Self, Malformed> {
        let did = Did::parse(&format!("did:plc:{}", base32_lower(&rand::random::<[u8; 15]>())))?;
        Ok(Self { did, key: SigningKey::generate(curve), form })
    }

    /// A service token as the account's PDS mints it for one call of `nsid` at `aud`.
    pub fn service_token(&self, aud: &str, nsid: &str, now: UnixMillis) -> String {
        service_token(&self.key, &self.did, aud, nsid, now)
    }

    /// The DID document of an account that lives on the server of that origin.
    pub fn document_at(&self, origin: &str) -> Value {
        let mut document = self.document();
        if let Some(services) = document["service"].as_array_mut() {
            services.push(json!({ "id": "#atproto_mls", "type": "AtprotoMlsService", "serviceEndpoint": origin }));
        }
        document
    }

    /// The DID document. It names no server for conversations.
    pub fn document(&self) -> Value {
        let did = self.did.as_str();
        let key = self.key.public();
        let method = match self.form {
            Form::Multikey => json!({
                "id": format!("{did}#atproto"), "type": "Multikey", "controller": did,
                "publicKeyMultibase": key.multikey(),
            }),
            Form::Older => json!({
                "id": "#atproto", "type": older_type(&key), "controller": did,
                "publicKeyMultibase": multibase::encode(multibase::Base::Base58Btc, uncompressed(&key)),
            }),
        };
        json!({
            "@context": ["https://www.w3.org/ns/did/v1"],
            "id": did,
            "verificationMethod": [method],
            "service": [{
                "id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://pds.invalid",
            }],
        })
    }
}

fn older_type(key: &PublicKey) -> &'static str {
    match key.curve() {
        Curve::P256 => "EcdsaSecp256r1VerificationKey2019",
        Curve::K256 => "EcdsaSecp256k1VerificationKey2019",
        Curve::Ed25519 => "Ed25519VerificationKey2018",
    }
}

fn uncompressed(key: &PublicKey) -> Vec<u8> {
    match key {
        PublicKey::P256(key) => key.to_encoded_point(false).as_bytes().to_vec(),
        PublicKey::K256(key) => key.to_encoded_point(false).as_bytes().to_vec(),
        PublicKey::Ed25519(key) => key.to_bytes().to_vec(),
    }
}

impl Account for Identity {
    fn did(&self) -> &Did {
        &self.did
    }

    async fn service_token(&self, audience: &Did, nsid: &str, now: UnixMillis) -> Result<String, CallError> {
        Ok(self.service_token(audience.as_str(), nsid, now))
    }
}

type Documents = Arc<Published>;

#[derive(Default)]
struct Published {
    documents: RwLock<HashMap<String, Value>>,
    /// How often each DID was asked for, found or not.
    asked: Mutex<HashMap<String, usize>>,
}

impl Published {
    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Value>> {
        self.documents.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running directory.
pub struct Directory {
    port: u16,
    documents: Documents,
    _listener: AbortOnDropHandle<()>,
}

impl Directory {
    /// Listens on a free port of loopback.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let documents = Documents::default();
        let host = web_name(port);
        let router =
            Router::new()
                .route(
                    "/.well-known/did.json",
                    get(move |State(documents): State<Documents>| async move { answer(&documents, &host) }),
                )
                // The path is percent-decoded by then, so both spellings of a DID arrive as one.
                .route(
                    "/{did}",
                    get(|State(documents): State<Documents>, Path(did): Path<String>| async move {
                        answer(&documents, &did)
                    }),
                )
                .with_state(Arc::clone(&documents));
        let served = tokio::spawn(async move {
            // It ends by being aborted; before that, accepting never fails for good.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { port, documents, _listener: AbortOnDropHandle::new(served) })
    }

    /// For `PLC_URL`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The one did:web whose host this is: `did:web:localhost%3A<port>`. Add it to have it answered.
    pub fn web_identity(&self, curve: Curve, form: Form) -> Result<Identity, Malformed> {
        Ok(Identity { did: Did::parse(&web_name(self.port))?, key: SigningKey::generate(curve), form })
    }

    /// From now on the identity's document is found. Adding it again with another key is a rotation.
    pub fn add(&self, identity: &Identity) {
        self.publish(&identity.did, identity.document());
    }

    /// The same, with the server of that origin as where the account lives. Adding it again with another is a move.
    pub fn add_at(&self, identity: &Identity, origin: &str) {
        self.publish(&identity.did, identity.document_at(origin));
    }

    /// From now on the identity's document has so many bytes more, in names and services that nobody needs.
    pub fn add_padded(&self, identity: &Identity, bytes: usize) {
        let mut document = identity.document();
        document[PADDING] = bytes.into();
        self.publish(&identity.did, document);
    }

    /// From now on the DID has no document.
    pub fn withdraw(&self, did: &Did) {
        self.documents.write().remove(did.as_str());
    }

    /// How often this DID was asked for.
    pub fn asked(&self, did: &Did) -> usize {
        self.documents.asked().get(did.as_str()).copied().unwrap_or_default()
    }

    /// How many DIDs were asked for.
    pub fn asked_in_all(&self) -> usize {
        self.documents.asked().len()
    }

    /// From now on this is the document of that DID.
    pub fn publish(&self, did: &Did, document: Value) {
        self.documents.write().insert(did.to_string(), document);
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Directory({})", self.url())
    }
}

fn web_name(port: u16) -> String {
    format!("did:web:localhost%3A{port}")
}

/// The member of a kept document that says how many bytes are added when the document is given out.
const PADDING: &str = "padding";

/// Adds the bytes that [`Directory::add_padded`] asked for, in equal parts.
fn padded(mut document: Value) -> Value {
    const PARTS: usize = 60;
    let Some(bytes) = document.as_object_mut().and_then(|members| members.remove(PADDING)) else { return document };
    let part = "x".repeat(usize::try_from(bytes.as_u64().unwrap_or_default()).unwrap_or_default() / (2 * PARTS));
    document["alsoKnownAs"] = (0..PARTS).map(|number| format!("at://{number}-{part}.example")).collect();
    if let Some(services) = document["service"].as_array_mut() {
        services.extend((0..PARTS).map(|number| {
            json!({ "id": format!("#s{number}"), "type": "Padding", "serviceEndpoint": format!("https://{part}.example") })
        }));
    }
    document
}

fn answer(documents: &Documents, did: &str) -> Response {
    *documents.asked().entry(did.to_owned()).or_default() += 1;
    let document = documents.documents.read().unwrap_or_else(PoisonError::into_inner).get(did).cloned();
    match document.map(padded) {
        Some(document) => Json(document).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({ "message": "DID not registered" }))).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery::identity::DidDocument;
    use rookery::identity::http::{get_plain, plain};

    #[test]
    fn a_document_of_either_form_and_curve_is_read_back_with_its_key() {
        for curve in [Curve::P256, Curve::K256] {
            for form in [Form::Multikey, Form::Older] {
                let identity = Identity::plc(curve, form).unwrap();
                let json = identity.document().to_string();
                let document = DidDocument::parse(&identity.did, json.as_bytes()).unwrap();
                assert!(document.atproto_key == Some(identity.key.public()), "{curve:?} {form:?}");
            }
        }
    }

    #[test]
    fn a_document_names_the_server_that_the_account_lives_on_or_none() {
        let identity = Identity::plc(Curve::P256, Form::Multikey).unwrap();
        let server = |document: Value| {
            DidDocument::parse(&identity.did, document.to_string().as_bytes()).unwrap().mls_server(true)
        };
        let there = Did::parse("did:web:localhost%3A3000").unwrap();
        assert_eq!(server(identity.document_at("http://localhost:3000")), Some(there));
        assert_eq!(server(identity.document()), None);
    }

    #[tokio::test]
    async fn it_knows_who_was_added_in_either_spelling_and_its_own_did_web() {
        let directory = Directory::start().await.unwrap();
        let known = Identity::plc(Curve::K256, Form::Older).unwrap();
        let unknown = Identity::plc(Curve::K256, Form::Older).unwrap();
        let web = directory.web_identity(Curve::P256, Form::Multikey).unwrap();
        directory.add(&known);
        directory.add(&web);
        let client = plain().unwrap();
        for (path, expected) in [
            (known.did.to_string(), Some(&known)),
            (known.did.to_string().replace(':', "%3A"), Some(&known)),
            (".well-known/did.json".to_owned(), Some(&web)),
            (unknown.did.to_string(), None),
        ] {
            let url = format!("{}/{path}", directory.url());
            let answer = get_plain(&client, &url, "application/json", 10_000).await.unwrap();
            assert_eq!(answer.status().as_u16(), if expected.is_some() { 200 } else { 404 }, "{path}");
            if let Some(expected) = expected {
                assert!(DidDocument::parse(&expected.did, answer.body()).is_ok());
            }
        }
    }
}
