//! `blue.catbird.peer.getKeys`: every key that this server ever signed with.
//!
//! Invariant: what it lists proves nothing by itself; a peer believes an endorsement, and the server's document.

use crate::lexicon::peer::get_keys::{Error, GetKeys, Key, Output};
use crate::types::Bytes;
use crate::xrpc::{Anyone, Call, Failure, Services};

pub async fn get_keys(cx: &Services, _: Anyone, _: Call<GetKeys>) -> Result<Output, Failure<Error>> {
    let keys = cx.federation.own_keys().await?;
    let millis = |at: crate::types::UnixMillis| u64::try_from(at.0).unwrap_or_default();
    let key = |key: crate::federation::OwnKey| Key {
        id: key.id,
        public_key_multibase: key.multikey,
        r#use: key.purpose.name().to_owned(),
        not_before: millis(key.not_before),
        not_after: key.not_after.map(millis),
        endorsed_by: key.endorsed_by,
        endorsement: key.endorsement.map(Bytes),
    };
    Ok(Output { keys: keys.into_iter().map(key).collect() })
}
