//! The layer around all routes: it counts requests, refuses those beyond a limit, and reports the budget on each
//! answer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header;
use http_body_util::Limited;

use super::address::FORWARDED_FOR;
use super::receive::{HeldBody, measured};
use super::{Address, Class, ClientConnection, Limits, Visit, body, guarded};
use crate::limit::SlotHolder;
use crate::telemetry::metric_name;
use crate::xrpc::observe::Known;
use crate::xrpc::{Fault, Rule, Services};

/// The rules of all paths, and the class that each counts in.
#[derive(Clone)]
pub struct Doors {
    cx: Services,
    classes: Arc<HashMap<String, Class>>,
}

impl Doors {
    /// `probes`: the paths that report health. A path that no rule names is open to all callers, within the limits of
    /// addresses.
    pub fn new(cx: &Services, methods: &[Rule], probes: &[&str]) -> Self {
        let methods = methods.iter().map(|rule| (format!("/xrpc/{}", rule.nsid), rule.class));
        let probes = probes.iter().map(|path| ((*path).to_owned(), Class::Probe));
        Self { cx: cx.clone(), classes: Arc::new(methods.chain(probes).collect()) }
    }

    fn class(&self, request: &Request) -> Class {
        let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
        self.classes.get(path.trim_end_matches('/')).copied().unwrap_or(Class::Open)
    }
}

/// Counts an open request before it begins, and a malformed one when it ends. A request that needs authentication
/// counts when its proof is checked.
pub async fn around(State(doors): State<Doors>, mut request: Request, next: Next) -> Response {
    let limits = &doors.cx.limits;
    // Without a connection all requests count as one address.
    let peer = request.extensions().get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    if limits.trusted.is_empty() && request.headers().contains_key(FORWARDED_FOR) {
        limits.tell_of_a_proxy();
    }
    let address = Address::of_client(peer, request.headers(), &limits.trusted);
    let connection: Option<ClientConnection> = request.extensions_mut().remove();
    let visit = Visit::new(address, connection);
    request.extensions_mut().insert(visit.clone());

    let class = doors.class(&request);
    let is_open = matches!(class, Class::Open | Class::Probe);
    let entered = if is_open { limits.open(&visit, class) } else { Ok(()) };
    let entered = match entered {
        Ok(()) => proxied(limits, peer, address, class).await.and_then(|slot| {
            // A socket keeps the extensions of its request, and so its slot.
            request.extensions_mut().insert(slot.clone());
            Ok((slot, bounded(&doors.cx, &visit, request)?))
        }),
        Err(fault) => Err(fault),
    };
    let mut response = match entered {
        Ok((slot, (request, held))) => {
            let response = next.run(request).await;
            drop(held);
            match slot {
                Some(slot) => response.map(|body| guarded(body, slot)),
                None => response,
            }
        }
        Err(fault) => fault.into_response(),
    };
    // Malformed, so that no proof was checked: any account may send that through a PDS, and it must not cost its
    // accounts the look at their tokens.
    if !visit.is_counted()
        && response.status().is_client_error()
        && let Err(fault) = limits.open(&visit, Class::Open)
    {
        response = fault.into_response();
    }
    visit.tell(response.headers_mut(), &doors.cx.clock);
    // A probe counts against no budget, but its log line names its address.
    let from = visit.from().cloned().or_else(|| (class == Class::Probe).then(|| limits.from(&visit)));
    if let Some(from) = from {
        response.extensions_mut().insert(Known(from));
    }
    response
}

type ProxiedSlot = Option<Arc<SlotHolder<Address>>>;

/// The slot of a client behind a trusted proxy, where the connection does not identify the client.
async fn proxied(limits: &Limits, peer: IpAddr, client: Address, class: Class) -> Result<ProxiedSlot, Fault> {
    if class == Class::Probe || !limits.is_proxy(peer) {
        return Ok(None);
    }
    let slot = limits.proxied.take(client, Duration::ZERO).await;
    slot.map(|slot| Some(Arc::new(slot))).ok_or_else(|| {
        metrics::counter!(metric_name::RATE_REFUSALS, "limit" => "connections").increment(1);
        Fault::TooManyInFlight
    })
}

/// Bounds the request's body by the greatest body of any method, and measures it as it is read.
fn bounded(cx: &Services, visit: &Visit, request: Request) -> Result<(Request, HeldBody), Fault> {
    let limit_bytes = body::greatest_bytes(&cx.config.http.bodies);
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse::<u64>().ok()).is_some_and(|bytes| bytes > limit_bytes as u64) {
        return Err(Fault::PayloadTooLarge { limit_bytes });
    }
    let (parts, body) = request.into_parts();
    let limited = Body::new(Limited::new(body, limit_bytes));
    let (body, held) = measured(limited, Arc::clone(&cx.limits.bodies), visit.clone());
    Ok((Request::from_parts(parts, body), held))
}
