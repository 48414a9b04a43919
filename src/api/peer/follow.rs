//! `blue.catbird.peer.follow`: a server asks for the entries of a stream of ours.
//!
//! Invariant: to a server without a seat there is no stream.

use crate::federation::own_support;
use crate::lexicon::peer::defs;
use crate::lexicon::peer::follow::{Error, Follow, Output};
use crate::log::lineage::LineageLink;
use crate::types::{Bytes, Seq};
use crate::xrpc::{Call, Failure, Peer, Services};

use super::wire;

pub async fn follow(cx: &Services, caller: Peer, call: Call<Follow>) -> Result<Output, Failure<Error>> {
    let input = call.input;
    let following =
        cx.replicas.begin_following(&caller.server, &input.stream, Seq(input.from), input.support.as_ref()).await?;
    let link = |link: LineageLink| defs::LineageLink {
        header: link.header,
        content: link.content,
        checkpoint: wire(link.checkpoint),
    };
    Ok(Output {
        home: cx.log.home().clone(),
        term: following.term.0,
        genesis: Bytes(following.genesis),
        lineage: following.lineage.into_iter().map(link).collect(),
        anchor: following.anchor.map(wire),
        head: wire(following.head),
        support: Some(own_support()),
    })
}
