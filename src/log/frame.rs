//! What readers receive: an entry as an event, encoded once for every subscriber.

use std::borrow::Cow;

use bytes::Bytes as Shared;
use serde::Serialize;

use super::EntryKind;
use super::chain::{Content, NotCanonical, encode};
use crate::lexicon::event::defs;
use crate::types::{Bytes, Cursor, Did, Epoch, Hash, Seq, StreamId, Term, UnixMillis};

/// An entry with its position: what the log tells a reader.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub cursor: Cursor,
    pub stream_id: i64,
    pub stream: StreamId,
    pub term: Term,
    pub seq: Seq,
    pub kind: EntryKind,
    pub hash: Hash,
    pub time: UnixMillis,
    pub header: Vec<u8>,
    /// Absent when withheld, aged out or erased.
    pub content: Option<Content>,
    pub epoch: Option<Epoch>,
}

impl Event {
    /// As getMessages shows it: without a cursor.
    pub fn into_entry(self) -> defs::Entry {
        let (body, salt, author, device) = parts(self.content);
        defs::Entry {
            stream: self.stream.into(),
            term: self.term.0,
            seq: self.seq.0,
            kind: self.kind.name().to_owned(),
            hash: Bytes(self.hash.to_vec()),
            time: self.time.to_rfc3339(),
            header: Bytes(self.header),
            body,
            salt,
            author,
            device,
            epoch: self.epoch.map(|epoch| epoch.0),
        }
    }

    /// As listEvents shows it.
    pub fn into_event(self) -> defs::Event {
        let cursor = self.cursor.to_string();
        let entry = self.into_entry();
        defs::Event {
            cursor,
            stream: entry.stream,
            term: entry.term,
            seq: entry.seq,
            kind: entry.kind,
            hash: entry.hash,
            time: entry.time,
            header: entry.header,
            body: entry.body,
            salt: entry.salt,
            author: entry.author,
            device: entry.device,
            epoch: entry.epoch,
        }
    }

    /// As a subscriber receives it.
    pub fn into_frame(self) -> Result<Frame, NotCanonical> {
        let (cursor, stream_id, seq, kind) = (self.cursor, self.stream_id, self.seq, self.kind);
        let stream = self.stream.clone();
        let (body, salt, author, device) = parts(self.content);
        let wire = WireEvent {
            cursor: cursor.to_string(),
            stream: self.stream,
            term: self.term,
            seq,
            hash: Bytes(self.hash.to_vec()),
            time: self.time.to_rfc3339(),
            header: Bytes(self.header),
            body,
            salt,
            author,
            device,
            epoch: self.epoch,
        };
        Ok(Frame { cursor, stream_id, stream, seq, kind, bytes: message(kind.name(), &wire)? })
    }
}

/// The members of a content, each for its own field on the wire.
type Parts = (Option<Bytes>, Option<Bytes>, Option<Did>, Option<String>);

fn parts(content: Option<Content>) -> Parts {
    match content {
        Some(content) => (
            Some(Bytes(content.body)),
            Some(Bytes(content.salt)),
            content.author,
            content.device.map(|device| device.to_string()),
        ),
        None => (None, None, None, None),
    }
}

/// The body of a stored event on the WebSocket; its kind is the `t` of the frame's header.
#[derive(Serialize)]
struct WireEvent {
    cursor: String,
    stream: StreamId,
    term: Term,
    seq: Seq,
    hash: Bytes,
    time: String,
    header: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    salt: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<Did>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
}

/// A stored event, encoded once and shared by everybody who receives it.
#[derive(Clone, Debug)]
pub struct Frame {
    pub cursor: Cursor,
    pub stream_id: i64,
    pub stream: StreamId,
    pub seq: Seq,
    pub kind: EntryKind,
    /// DAG-CBOR header and body: one binary WebSocket message (AT Protocol event streams).
    pub bytes: Shared,
}

/// An ephemeral event: never stored, without a cursor.
#[derive(Clone, Debug)]
pub struct Signal {
    pub kind: Cow<'static, str>,
    pub bytes: Shared,
}

impl Signal {
    /// `body` must be a map.
    pub fn new(kind: &'static str, body: &impl Serialize) -> Result<Self, NotCanonical> {
        Ok(Self { kind: kind.into(), bytes: message(kind, body)? })
    }
}

#[derive(Serialize)]
struct MessageHeader<'a> {
    op: i8,
    t: &'a str,
}

fn message(kind: &str, body: &impl Serialize) -> Result<Shared, NotCanonical> {
    let mut bytes = encode(&MessageHeader { op: 1, t: kind }, "frame header")?;
    bytes.extend(encode(body, "frame body")?);
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::Signal;

    #[derive(serde::Serialize)]
    struct Info {
        name: &'static str,
    }

    #[test]
    fn a_frame_begins_with_the_header_that_the_protocol_measured() {
        let signal = Signal::new("#info", &Info { name: "OutdatedCursor" }).unwrap();
        assert_eq!(hex::encode(&signal.bytes), "a261746523696e666f626f7001a1646e616d656e4f75746461746564437572736f72");
    }
}
