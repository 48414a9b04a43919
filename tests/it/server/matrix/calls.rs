//! One call of one method by one actor: as the lexicon's first example shows it, but in the conversation at hand, so that
//! what is answered is who may and not what is wrong.

use http::{HeaderName, header};
use rookery::identity::{Curve, DEVICE_HEADER, DEVICE_TOKEN_HEADER, PairingRequest, SigningKey, service_token};
use rookery::lexicon::event::get_ticket::{self, GetTicket};
use rookery::lexicon::event::subscribe::Subscribe;
use rookery::lexicon::{Kind, Method, schema};
use rookery::types::Bytes;
use rookery::xrpc::Rule;
use serde_json::{Value, json};

use super::actors::{Actor, By, World};
use crate::server::examples::{media_type, query};
use crate::support::{AccountToken, Said, Socket, TestServer, idem};

/// `200`, or status and error name; of a subscription, which has no status, `200` or the name.
pub async fn outcome(world: &World, rule: Rule, actor: &Actor) -> String {
    let query = query(params(world, rule).as_ref());
    let body = input(world, rule, actor).map(|input| serde_json::to_vec(&input).unwrap());
    let query = if actor.by == By::Ticket { with_ticket(rule, actor, &query).await } else { query };
    let headers = headers(world, rule, actor, &query, body.as_deref());
    if actor.by == By::Head {
        let mut request = world.server.at(http::Method::HEAD, &format!("/xrpc/{}{query}", rule.nsid));
        for (name, value) in &headers {
            request = request.header(name.clone(), value);
        }
        // Such an answer has no body, and so no error name.
        return request.send().await.unwrap().status().as_u16().to_string();
    }
    if rule.kind == Kind::Subscription {
        return match Socket::with(&world.server, rule.nsid, &query, &headers).await.next().await {
            Said::Event { .. } => "200".to_owned(),
            Said::Error(name) => name,
            Said::Gone => panic!("{} by {}: the connection ended", rule.nsid, actor.name),
            Said::Closed { code, reason } => panic!("{} by {}: closed by {code} {reason}", rule.nsid, actor.name),
        };
    }
    let mut request = world.server.raw(rule.nsid, &query);
    for (name, value) in &headers {
        request = request.header(name.clone(), value);
    }
    if let Some(body) = body {
        if actor.by != By::Peer {
            request = request.header(header::CONTENT_TYPE, media_type(rule.nsid));
        }
        request = request.body(body);
    }
    let answer = request.send().await;
    let (status, name) = answer.outcome();
    assert!(status < 500, "{} by {}: {}", rule.nsid, actor.name, answer.body);
    assert_ne!(name, "InvalidRequest", "{} by {}: {}", rule.nsid, actor.name, answer.body);
    format!("{status} {name}").trim().to_owned()
}

/// Calls with a ticket of the actor for this method, or for another method where this one takes none.
async fn with_ticket(rule: Rule, actor: &Actor, query: &str) -> String {
    let takes_tickets = rule.caller == "Device or Ticket";
    let lxm = if takes_tickets { rule.nsid } else { Subscribe::NSID }.to_owned();
    let ticket = actor.person.procedure::<GetTicket>(&get_ticket::Input { lxm }).await.unwrap().ticket;
    let joint = if query.is_empty() { '?' } else { '&' };
    format!("{query}{joint}ticket={ticket}")
}

/// The first example's parameters, from the beginning of the conversation at hand.
fn params(world: &World, rule: Rule) -> Option<Value> {
    let mut params = schema::examples(rule.nsid).remove(0).params?;
    let fields = params.as_object_mut().unwrap();
    for name in ["cursor", "streams", "kinds"] {
        fields.remove(name);
    }
    if rule.kind == Kind::Subscription {
        fields.insert("cursor".to_owned(), json!("0"));
    }
    here(world, fields);
    Some(params)
}

/// The first example's input, as this actor would send it.
fn input(world: &World, rule: Rule, actor: &Actor) -> Option<Value> {
    let mut input = schema::examples(rule.nsid).remove(0).input?;
    let fields = input.as_object_mut().unwrap();
    here(world, fields);
    let member = &world.member;
    let method = rule.nsid.trim_start_matches("blue.catbird.");
    let own: &[(&str, Value)] = &match method {
        "account.registerDevice" => {
            vec![("publicKey", json!(Bytes(world.public_keys[actor.person.device().as_str()].clone())))]
        }
        "account.createPairing" => {
            let (kind, now) = ("app", actor.person.service().clock().now_seconds());
            let (key, audience) = (SigningKey::generate(Curve::Ed25519), TestServer::did());
            let proof = PairingRequest::new(&audience, now, kind, None, None).sign(&key).unwrap();
            vec![
                ("publicKey", json!(Bytes(key.public().raw()))),
                ("kind", json!(kind)),
                ("name", Value::Null),
                ("platform", Value::Null),
                ("issuedAt", json!(now)),
                ("proof", json!(Bytes(proof.to_vec()))),
            ]
        }
        "admin.suspendAccount" => vec![("account", json!(member.did())), ("suspended", json!(false))],
        "mls.ackWelcome" => vec![("id", json!(world.welcome))],
        "mls.claimKeyPackages" => vec![("targets", json!([member.did()])), ("home", Value::Null)],
        "mls.leaveConvo" => vec![("newAdmin", Value::Null)],
        "mls.removeMembers" => {
            let removal = json!({ "account": member.did(), "device": member.device().as_str() });
            vec![("removes", json!([removal])), ("adds", Value::Null), ("welcome", Value::Null)]
        }
        "mls.sendMessage" => vec![("ciphertext", json!(Bytes(world.ciphertext.clone())))],
        _ => vec![],
    };
    for (name, value) in own {
        fields.insert((*name).to_owned(), value.clone());
    }
    fields.retain(|_, value| !value.is_null());
    Some(input)
}

/// Whatever names a stream names the one at hand; a call has a name of its own.
fn here(world: &World, fields: &mut serde_json::Map<String, Value>) {
    for (name, value) in fields.iter_mut() {
        match name.as_str() {
            "stream" => *value = json!(world.stream),
            "idem" | "claimId" => *value = json!(idem()),
            "accounts" => *value = json!([world.member.did()]),
            _ => {}
        }
    }
}

fn headers(world: &World, rule: Rule, actor: &Actor, query: &str, body: Option<&[u8]>) -> Vec<(HeaderName, String)> {
    let (nsid, person) = (rule.nsid, &actor.person);
    let bearer = |token: String| (header::AUTHORIZATION, format!("Bearer {token}"));
    match actor.by {
        By::Nothing | By::Ticket => vec![],
        By::Forgery => {
            let (key, now) = (SigningKey::generate(Curve::K256), person.service().clock().now());
            vec![bearer(service_token(&key, person.did(), TestServer::did().as_str(), nsid, now))]
        }
        By::Session => {
            vec![bearer(person.service_token(nsid)), (DEVICE_HEADER, person.device().to_string())]
        }
        By::Proof => {
            let proof = body.map_or_else(|| person.token(nsid), |body| person.proof(nsid, body));
            vec![bearer(person.service_token(nsid)), (DEVICE_TOKEN_HEADER, proof)]
        }
        By::Device | By::Head if rule.caller == "Account" => {
            let proof = body.map(|body| (DEVICE_TOKEN_HEADER, person.proof(nsid, body)));
            [bearer(person.service_token(nsid))].into_iter().chain(proof).collect()
        }
        By::Device | By::Head => vec![bearer(body.map_or_else(|| person.token(nsid), |body| person.proof(nsid, body)))],
        By::Peer => signature(world, rule, actor, query, body),
    }
}

/// As another server signs, on behalf of an account where the method is not for servers themselves.
fn signature(world: &World, rule: Rule, actor: &Actor, query: &str, body: Option<&[u8]>) -> Vec<(HeaderName, String)> {
    let peer = &world.peers[actor.name];
    let (account, device) = (peer.account.as_ref().unwrap_or(actor.person.did()), actor.person.device().to_string());
    let on_behalf = (rule.caller != "Peer").then_some((account, device.as_str()));
    let mut call = peer.stranger.call(rule.nsid, on_behalf);
    query.clone_into(&mut call.query);
    call.body = body.map(|body| serde_json::from_slice(body).unwrap());
    call.content_type = media_type(rule.nsid);
    if let Some(key) = &peer.forged {
        call.key = key;
    }
    let (_, headers) = call.signed(&world.server);
    headers.iter().map(|(name, value)| (name.clone(), value.to_str().unwrap().to_owned())).collect()
}
