//! The frames of a subscription, as AT Protocol's event streams have them.

use rookery_protocol::lexicon::event::defs::Event;
use rookery_protocol::lexicon::event::subscribe::Message as Fields;
use rookery_protocol::log::EntryKind;
use serde::Deserialize;

use super::{FeedError, Received};

/// One binary message.
#[derive(Debug)]
pub enum Frame {
    Event(Box<Event>),
    Other(Received),
    Error { error: String, message: String },
}

#[derive(Deserialize)]
struct FrameHeader {
    op: i8,
    #[serde(default)]
    t: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    #[serde(default)]
    message: String,
}

/// Two DAG-CBOR objects, one after the other, and nothing behind them.
pub fn read_frame(frame: &[u8]) -> Result<Frame, FeedError> {
    let malformed = |error: &dyn std::fmt::Display| FeedError::Malformed(error.to_string());
    let mut reader = std::io::Cursor::new(frame);
    let header: FrameHeader =
        serde_ipld_dagcbor::de::from_reader_once(&mut reader).map_err(|error| malformed(&error))?;
    let at = usize::try_from(reader.position()).unwrap_or(frame.len());
    let body = frame.get(at..).unwrap_or_default();
    match (header.op, header.t.as_deref()) {
        (-1, None) => {
            let ErrorBody { error, message } =
                serde_ipld_dagcbor::from_slice(body).map_err(|error| malformed(&error))?;
            Ok(Frame::Error { error, message })
        }
        (1, Some("#cursor")) => {
            let read = serde_ipld_dagcbor::from_slice(body).map_err(|error| malformed(&error))?;
            Ok(Frame::Other(Received::Read(read)))
        }
        (1, Some("#info")) => {
            let info = serde_ipld_dagcbor::from_slice(body).map_err(|error| malformed(&error))?;
            Ok(Frame::Other(Received::Info(info)))
        }
        (1, Some(kind)) => match serde_ipld_dagcbor::from_slice::<Fields>(body) {
            Ok(fields) => Ok(Frame::Event(Box::new(event(kind, fields)))),
            // Every stored kind has these fields, so it is not stored, and may be ignored.
            Err(_) if EntryKind::from_name(kind).is_none() => Ok(Frame::Other(Received::Unknown(kind.to_owned()))),
            Err(error) => Err(malformed(&error)),
        },
        (op, _) => Err(FeedError::Malformed(format!("op {op}"))),
    }
}

/// All stored events have the fields of `#message`; the kind stands in the frame's header.
fn event(kind: &str, fields: Fields) -> Event {
    let Fields { stream, term, seq, hash, time, header, body, salt, author, device, epoch, cursor } = fields;
    let kind = kind.to_owned();
    Event { stream, term, seq, kind, hash, time, header, body, salt, author, device, epoch, cursor }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn frame(header: &serde_json::Value, body: &serde_json::Value) -> Vec<u8> {
        [header, body].map(|part| serde_ipld_dagcbor::to_vec(part).unwrap()).concat()
    }

    #[test]
    fn an_error_and_an_info_are_read_as_what_they_are() {
        let refused = frame(&json!({ "op": -1 }), &json!({ "error": "FutureCursor", "message": "no" }));
        match read_frame(&refused).unwrap() {
            Frame::Error { error, message } => assert_eq!((error.as_str(), message.as_str()), ("FutureCursor", "no")),
            other => panic!("{other:?}"),
        }
        let info = json!({ "name": "OutdatedCursor", "message": "old" });
        match read_frame(&frame(&json!({ "op": 1, "t": "#info" }), &info)).unwrap() {
            Frame::Other(Received::Info(info)) => assert_eq!(info.name, "OutdatedCursor"),
            other => panic!("{other:?}"),
        }
        match read_frame(&frame(&json!({ "op": 1, "t": "#later" }), &json!({ "new": 1 }))).unwrap() {
            Frame::Other(Received::Unknown(kind)) => assert_eq!(kind, "#later"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_with_something_behind_it_or_of_another_form_is_refused() {
        let mut longer = frame(&json!({ "op": -1 }), &json!({ "error": "FutureCursor", "message": "no" }));
        longer.push(0);
        assert!(read_frame(&longer).is_err());
        assert!(read_frame(b"").is_err());
        assert!(read_frame(&frame(&json!({ "op": 5 }), &json!({}))).is_err());
        // A stored kind whose body lacks its fields.
        assert!(read_frame(&frame(&json!({ "op": 1, "t": "#message" }), &json!({}))).is_err());
    }
}
