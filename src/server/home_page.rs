//! `/`: what this server is, for a person who came by.

use axum::extract::State;
use axum::response::Html;

use crate::xrpc::Services;

pub(super) async fn home_page(State(cx): State<Services>) -> Html<String> {
    let did = cx.log.home();
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Rookery</title>\
         <h1>Rookery</h1>\
         <p>This is <code>{did}</code>, a delivery and sync server for end-to-end encrypted conversations of AT Protocol \
         accounts. It knows who speaks, in what order, and who may read; it cannot read what is said.</p>\
         <p>Methods are below <code>/xrpc/blue.catbird.*</code>; <a href=\"/health\">/health</a> and \
         <a href=\"/.well-known/did.json\">/.well-known/did.json</a> say more.</p></html>\n"
    ))
}
