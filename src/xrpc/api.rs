//! The list of methods, each with its access rule, and the way of a request through them.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};

use super::limits::Class;
use super::{Call, Caller, Failure, Fault, Services, caller, forward, limits, method, room, upstream};
use crate::lexicon::{Kind, Method};
use crate::types::Hash;

/// A method as mounted: what the access matrix and the tests walk over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub nsid: &'static str,
    pub kind: Kind,
    /// The access rule.
    pub caller: &'static str,
    /// The class that the method counts in.
    pub class: Class,
}

/// Methods to be mounted. Each group of `api` gives one; the server merges them.
#[derive(Default)]
pub struct Api {
    routes: Vec<(Rule, MethodRouter<Services>)>,
}

/// An async function `(&Services, Caller, Call<Method>) -> Result<Output, Failure<Error>>`.
pub trait Handler<'a, M: Method, C>: Send + Sync {
    type Answer: Future<Output = Result<M::Output, Failure<M::Error>>> + Send + 'a;

    fn answer(&self, cx: &'a Services, caller: C, call: Call<M>) -> Self::Answer;
}

impl<'a, M, C, F, Fut> Handler<'a, M, C> for F
where
    M: Method,
    F: Fn(&'a Services, C, Call<M>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<M::Output, Failure<M::Error>>> + Send + 'a,
{
    type Answer = Fut;

    fn answer(&self, cx: &'a Services, caller: C, call: Call<M>) -> Fut {
        self(cx, caller, call)
    }
}

impl Api {
    pub fn new() -> Self {
        Self::default()
    }

    /// Mounts a query or a procedure.
    pub fn method<M, C, H>(self, handler: H) -> Self
    where
        M: Method,
        C: Caller + 'static,
        H: for<'a> Handler<'a, M, C> + Clone + 'static,
    {
        let route = move |State(cx): State<Services>, request: Request| {
            let handler = handler.clone();
            async move { answer::<M, C, H>(&cx, &handler, request).await }
        };
        let routes = match M::KIND {
            Kind::Procedure => post(route),
            // axum answers HEAD like GET, without the body.
            Kind::Query | Kind::Subscription => get(route),
        };
        self.route::<M>(C::RULE, routes)
    }

    pub(super) fn route<M: Method>(mut self, caller: &'static str, routes: MethodRouter<Services>) -> Self {
        let wrong_verb = match M::KIND {
            Kind::Procedure => "Incorrect HTTP method, expected POST",
            Kind::Query | Kind::Subscription => "Incorrect HTTP method, expected GET",
        };
        let routes = routes.fallback(move || async move { Fault::InvalidRequest(wrong_verb.to_owned()) });
        let class = Class::of(M::NSID, M::KIND, caller);
        self.routes.push((Rule { nsid: M::NSID, kind: M::KIND, caller, class }, routes));
        self
    }

    pub fn merge(mut self, other: Self) -> Self {
        self.routes.extend(other.routes);
        self
    }

    /// Every mounted method with its rule.
    pub fn rules(&self) -> Vec<Rule> {
        self.routes.iter().map(|(rule, _)| *rule).collect()
    }

    pub fn router(self) -> Router<Services> {
        self.routes
            .into_iter()
            .fold(Router::new(), |router, (rule, routes)| {
                // A slash at the end is tolerated, as the official servers do.
                let path = format!("/xrpc/{}", rule.nsid);
                router.route(&format!("{path}/"), routes.clone()).route(&path, routes)
            })
            .route("/xrpc/{*path}", any(unknown))
            .route("/xrpc/", any(unknown))
    }
}

/// An NSID that is not mounted: the upstream's answer, or 501. Anything else below `/xrpc/`: 400.
async fn unknown(State(cx): State<Services>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches("/xrpc/").trim_end_matches('/').to_owned();
    match atrium_api::types::string::Nsid::new(path.clone()) {
        Ok(_) => {
            upstream::forward(&cx, &path, request).await.unwrap_or_else(|| Fault::MethodNotImplemented.into_response())
        }
        Err(_) => Fault::InvalidRequest("invalid xrpc path".to_owned()).into_response(),
    }
}

/// Outside of `/xrpc/`.
pub async fn fallback() -> Response {
    let body = serde_json::json!({ "error": "NotFound", "message": "nothing is here; methods are below /xrpc/" });
    (http::StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}

/// Checks the parameters, then the caller, then takes a slot for the call, reads the body, and runs the method.
async fn answer<M, C, H>(cx: &Services, handler: &H, request: Request) -> Response
where
    M: Method,
    C: Caller,
    H: for<'a> Handler<'a, M, C>,
{
    let (parts, body) = request.into_parts();
    let proven = async {
        let params = method::params::<M>(parts.uri.query().unwrap_or_default())?;
        if M::KIND == Kind::Procedure {
            method::check_encoding::<M>(&parts.headers)?;
        } else {
            method::refuse_body(&parts.headers)?;
        }
        let caller = caller::prove::<M, C>(cx, &parts).await?;
        Ok::<_, Fault>((params, caller))
    };
    let (params, mut caller) = match proven.await {
        Ok(proven) => proven,
        Err(fault) => return fault.into_response(),
    };

    let visit: Option<&limits::Visit> = parts.extensions.get();
    let entered = match visit {
        Some(visit) => cx.limits.enter(visit, caller.call_owner(), M::KIND).await,
        None => Err(Fault::internal("a route stands outside of the limits")),
    };
    let slots = match entered {
        Ok(slots) => slots,
        Err(fault) => return fault.into_response(),
    };
    let outcome = async {
        let bytes = match M::KIND {
            Kind::Procedure => method::read_body(body, limits::body_bytes(M::NSID, &cx.config.http.bodies)).await?,
            Kind::Query | Kind::Subscription => bytes::Bytes::from_static(b"{}"),
        };
        let signed = if M::KIND == Kind::Procedure { &bytes[..] } else { b"" };
        caller.check_body(cx, signed).await?;
        if let (Kind::Procedure, Some(account_id)) = (M::KIND, caller.account_id())
            && let Some(exceeded) = cx.quotas.admit(account_id, M::NSID, bytes.len()).await?
        {
            return Err(Fault::QuotaExceeded(exceeded).into());
        }
        let input = match M::KIND {
            Kind::Procedure => method::input::<M>(&bytes)?,
            Kind::Query | Kind::Subscription => serde_json::from_slice(&bytes).map_err(Fault::internal)?,
        };
        if let Some(answer) = forward::elsewhere::<M>(cx, caller.behalf(), &parts, &bytes).await? {
            return Ok(answer);
        }
        room::admit::<M>(cx)?;
        let call = Call { params, input, request_hash: Hash::of(&bytes), body: bytes };
        let stream = forward::owes_a_receipt::<M>(caller.behalf(), &call.body);
        let output = handler.answer(cx, caller, call).await?;
        Ok(match stream {
            Some(stream) => axum::Json(forward::with_receipt(cx, &stream, &output)?).into_response(),
            None => axum::Json(output).into_response(),
        })
    };
    let outcome: Result<Response, Failure<M::Error>> = outcome.await;
    slots.until_taken(outcome.unwrap_or_else(IntoResponse::into_response))
}
