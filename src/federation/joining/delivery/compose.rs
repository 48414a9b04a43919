//! The request to another server, composed from its delivery row.
//!
//! Invariant: composed twice, it says the same: what the receiver compares does not change.

use serde::Deserialize;

use super::store::{self, Due};
use crate::federation::joining::Joining;
use crate::federation::joining::leaving::Leave;
use crate::identity::Signed;
use crate::lexicon::peer::{defs, deliver, move_seats};
use crate::limit::CpuBusy;
use crate::log::chain::{CHECKPOINT_LABEL, Checkpoint};
use crate::log::lineage::LineageLink;
use crate::log::{self, Head};
use crate::mls;
use crate::types::{Bytes, Did, Seq};

pub(super) enum Composed {
    Deliver(Box<deliver::Input>),
    /// Tells a home that an account lives here now.
    MoveSeats(move_seats::Input),
    /// Tells a home that an account left one of its streams.
    Leave(Leave),
    /// The subject of the delivery no longer exists.
    Nothing,
}

/// The fields of all kinds, as they were queued.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    from: Option<Did>,
    note: Option<Bytes>,
    change: Option<String>,
    stream: Option<String>,
    role: Option<String>,
    from_seq: Option<u64>,
    epoch: Option<u64>,
    streams: Option<Vec<String>>,
    device: Option<String>,
    call: Option<String>,
}

pub(super) async fn compose(joining: &Joining, to: &Did, delivery: Due) -> Result<Composed, log::Error> {
    let Ok(said) = serde_json::from_value::<Said>(delivery.body) else { return Ok(Composed::Nothing) };
    if delivery.kind == super::MOVE_SEATS {
        return Ok(Composed::MoveSeats(move_seats::Input { streams: said.streams, cursor: None }));
    }
    if delivery.kind == super::LEAVE {
        let (Some(stream), Some(device), Some(call)) = (said.stream, said.device, said.call) else {
            return Ok(Composed::Nothing);
        };
        return Ok(Composed::Leave(Leave { stream, device, call }));
    }
    let mut input = deliver::Input {
        delivery_id: delivery.public_id,
        to: to.clone(),
        kind: delivery.kind,
        from: said.from,
        note: said.note,
        change: said.change,
        stream: said.stream,
        genesis: None,
        lineage: None,
        anchor: None,
        role: said.role,
        from_seq: said.from_seq,
        epoch: said.epoch,
        view: None,
        refs: None,
        welcome: None,
    };
    let Some(stream_id) = delivery.stream_id else { return Ok(Composed::Deliver(Box::new(input))) };
    let (Some(welcome_id), Some(from)) = (delivery.welcome_id, said.from_seq) else { return Ok(Composed::Nothing) };
    let Some(welcome) = store::find_welcome(joining.log().storage().pool(), welcome_id).await? else {
        return Ok(Composed::Nothing);
    };
    let references = delivery.refs.clone();
    let cut = joining.inner.federation.cpu().run(move || mls::welcome::cut(&welcome, &references)).await;
    let welcome = match cut {
        Ok(Ok(welcome)) => welcome,
        // The worker tries the delivery again.
        Err(CpuBusy::Busy) => return Err(log::Error::Busy),
        Ok(Err(_)) | Err(CpuBusy::Broken(_)) => return Ok(Composed::Nothing),
    };

    // As it was when the seat began, in our term: a follower that continues from there learns where the stream is now.
    let (genesis, lineage) = joining.inner.replicas.lineage_before(stream_id, Seq(from)).await?;
    let link = |link: LineageLink| {
        let Signed { statement, key, sig } = link.checkpoint;
        let checkpoint = defs::Signed { statement, key, sig };
        defs::LineageLink { header: link.header, content: link.content, checkpoint }
    };
    input.genesis = Some(Bytes(genesis));
    input.lineage = Some(lineage.into_iter().map(link).collect());
    input.view = Some(joining.inner.replicas.view_before(stream_id, Seq(from)).await?.into());
    input.anchor = sign(joining, stream_id, Seq(from.saturating_sub(1))).await?;
    input.refs = Some(delivery.refs.into_iter().map(Bytes).collect());
    input.welcome = Some(Bytes(welcome));
    Ok(Composed::Deliver(Box::new(input)))
}

/// This server's checkpoint for one of its entries; `None` for an entry that it does not hold.
async fn sign(joining: &Joining, stream_id: i64, seq: Seq) -> Result<Option<defs::Signed>, log::Error> {
    if seq == Seq(0) {
        return Ok(None);
    }
    let Some(head) = joining.log().head_at(stream_id, seq).await? else { return Ok(None) };
    let head = Head { time: joining.log().clock().now(), ..head };
    let statement = Checkpoint::new(joining.log().home().as_str(), &head).statement()?;
    let Signed { statement, key, sig } = joining.inner.federation.sign_statement(CHECKPOINT_LABEL, statement);
    Ok(Some(defs::Signed { statement, key, sig }))
}
