//! Frames for readers: an entry as an event, encoded once for every subscriber.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes as Shared;
use serde::{Deserialize, Serialize};

use super::NamedKind;
use super::chain::{Content, NotCanonical, decode, encode};
use crate::lexicon::event::defs;
use crate::telemetry::metric_name;
use crate::types::{Bytes, Cursor, Did, Epoch, Hash, Seq, StreamId, Term, UnixMillis};

/// An entry with its position: what the log tells a reader.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub cursor: Cursor,
    pub stream_id: i64,
    pub stream: StreamId,
    pub term: Term,
    pub seq: Seq,
    pub kind: NamedKind,
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
        let Self { cursor, stream_id, seq, kind, .. } = self;
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
        let (header, body) = (message_header(kind.name())?, encode(&wire, "frame body")?);
        let websocket = binary_message(&[&header, &body]);
        let bytes = websocket.slice(websocket.len() - header.len() - body.len()..);
        let body_at = header.len();
        Ok(Frame {
            cursor,
            stream_id,
            stream,
            seq,
            kind,
            websocket,
            bytes,
            body_at,
            text: OnceLock::new(),
            _weight: None,
        })
    }
}

impl Event {
    /// The event as a frame for subscribers; `None`, with a log line, for an event that cannot be encoded.
    pub(super) fn into_frame_or_skip(self) -> Option<Frame> {
        let (stream_id, seq) = (self.stream_id, self.seq.0);
        let encoded = self.into_frame().inspect_err(|error| {
            metrics::counter!(metric_name::LOG_UNDECODABLE).increment(1);
            tracing::error!(error = error as &dyn std::error::Error, stream_id, seq, "failed to encode stored entry");
        });
        encoded.ok()
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
#[derive(Serialize, Deserialize)]
struct WireEvent {
    cursor: String,
    stream: StreamId,
    term: Term,
    seq: Seq,
    hash: Bytes,
    time: String,
    header: Bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    author: Option<Did>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
}

/// A stored event, encoded once and shared by all its receivers.
#[derive(Debug)]
pub struct Frame {
    pub cursor: Cursor,
    pub stream_id: i64,
    pub stream: StreamId,
    pub seq: Seq,
    pub kind: NamedKind,
    /// The binary WebSocket message that a subscriber receives, its frame header included.
    pub websocket: Shared,
    /// The payload of that message: DAG-CBOR header and body (AT Protocol event streams).
    pub bytes: Shared,
    /// Where in `bytes` the body begins.
    body_at: usize,
    text: OnceLock<Option<Shared>>,
    _weight: Option<FrameWeight>,
}

/// Counts the bytes of one frame until the frame is dropped.
#[derive(Debug)]
pub(super) struct FrameWeight {
    held_bytes: Arc<AtomicUsize>,
    bytes: usize,
}

impl FrameWeight {
    pub(super) fn new(held_bytes: &Arc<AtomicUsize>, bytes: usize) -> Self {
        held_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { held_bytes: Arc::clone(held_bytes), bytes }
    }
}

impl Drop for FrameWeight {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Frame {
    pub(super) fn with_weight(self, weight: FrameWeight) -> Self {
        Self { _weight: Some(weight), ..self }
    }

    /// As a server-sent event: `id` is the cursor, `data` the event as listEvents shows it. Made by the first who asks,
    /// and shared by all.
    pub fn text(&self) -> Result<Shared, NotCanonical> {
        self.text.get_or_init(|| self.make_text().ok()).clone().ok_or(NotCanonical("frame text"))
    }

    fn make_text(&self) -> Result<Shared, NotCanonical> {
        let wire: WireEvent = decode(&self.bytes[self.body_at..], "frame body")?;
        let event = defs::Event {
            cursor: wire.cursor,
            stream: wire.stream.into(),
            term: wire.term.0,
            seq: wire.seq.0,
            kind: self.kind.name().to_owned(),
            hash: wire.hash,
            time: wire.time,
            header: wire.header,
            body: wire.body,
            salt: wire.salt,
            author: wire.author,
            device: wire.device,
            epoch: wire.epoch.map(|epoch| epoch.0),
        };
        server_sent(Some(self.cursor), self.kind.name(), &event)
    }
}

/// An event as text (WHATWG HTML, server-sent events). JSON has no line breaks of its own.
pub fn server_sent(id: Option<Cursor>, event: &str, data: &impl Serialize) -> Result<Shared, NotCanonical> {
    let data = serde_json::to_string(data).map_err(|_| NotCanonical("server-sent event"))?;
    let id = id.map(|cursor| format!("id: {cursor}\n")).unwrap_or_default();
    Ok(format!("{id}event: {event}\ndata: {data}\n\n").into())
}

/// An ephemeral event: never stored, without a cursor.
#[derive(Clone, Debug)]
pub struct Signal {
    pub kind: Cow<'static, str>,
    pub bytes: Shared,
    /// As a server-sent event. Signals are small: both forms are made at once.
    pub text: Shared,
}

impl Signal {
    /// `body` must be a map.
    pub fn new(kind: &'static str, body: &impl Serialize) -> Result<Self, NotCanonical> {
        let bytes = [message_header(kind)?, encode(body, "frame body")?].concat().into();
        Ok(Self { kind: kind.into(), bytes, text: server_sent(None, kind, body)? })
    }
}

/// A binary WebSocket message in one frame, as a server sends the message (RFC 6455 section 5.2): final, without a mask.
pub fn binary_message(parts: &[&[u8]]) -> Shared {
    const FINAL_BINARY: u8 = 0x82;
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(length + 10);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => bytes.extend([FINAL_BINARY, length]),
        (_, Ok(length)) => {
            bytes.extend([FINAL_BINARY, 126]);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.extend([FINAL_BINARY, 127]);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes.into()
}

#[derive(Serialize)]
struct MessageHeader<'a> {
    op: i8,
    t: &'a str,
}

fn message_header(kind: &str) -> Result<Vec<u8>, NotCanonical> {
    encode(&MessageHeader { op: 1, t: kind }, "frame header")
}

#[cfg(test)]
mod tests {
    use super::{Event, NamedKind, Signal, binary_message};
    use crate::log::EntryKind;
    use crate::types::{Cursor, Hash, Seq, StreamId, Term, UnixMillis};

    #[test]
    fn the_text_of_a_frame_is_what_list_events_shows_and_is_made_once() {
        let event = Event {
            cursor: Cursor(1048),
            stream_id: 1,
            stream: StreamId::of_genesis(b"genesis"),
            term: Term(1),
            seq: Seq(7),
            kind: NamedKind::Known(EntryKind::Message),
            hash: Hash::of(b"hash"),
            time: UnixMillis(1_795_000_000_000),
            header: vec![1, 2, 3],
            content: None,
            epoch: None,
        };
        let json = serde_json::to_string(&event.clone().into_event()).unwrap();
        let frame = event.into_frame().unwrap();
        assert_eq!(frame.websocket, binary_message(&[&frame.bytes]));
        let text = frame.text().unwrap();
        assert_eq!(text, format!("id: 1048\nevent: #message\ndata: {json}\n\n"));
        assert_eq!(frame.text().unwrap().as_ptr(), text.as_ptr());
    }

    #[test]
    fn the_length_of_a_message_has_three_forms() {
        for (length, head) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = vec![7; length];
            let message = binary_message(&[&payload[..length / 2], &payload[length / 2..]]);
            assert_eq!(message, [head, &payload].concat(), "{length} bytes");
        }
    }

    #[derive(serde::Serialize)]
    struct Info {
        name: &'static str,
    }

    #[test]
    fn a_frame_begins_with_the_header_that_the_protocol_measured() {
        let signal = Signal::new("#info", &Info { name: "OutdatedCursor" }).unwrap();
        assert_eq!(hex::encode(&signal.bytes), "a261746523696e666f626f7001a1646e616d656e4f75746461746564437572736f72");
        assert_eq!(signal.text, "event: #info\ndata: {\"name\":\"OutdatedCursor\"}\n\n");
    }
}
