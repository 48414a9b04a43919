//! Frames that hold no event: errors, and information about the stream itself.

use bytes::Bytes;
use serde::Serialize;

use crate::log::Signal;
use crate::log::chain::NotCanonical;

#[derive(Serialize)]
struct ErrorHeader {
    op: i8,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct Info<'a> {
    name: &'a str,
    message: &'a str,
}

/// `{op: -1}` and `{error, message}`: the last frame before the socket closes.
pub fn error_frame(error: &str, message: &str) -> Bytes {
    let mut bytes = serde_ipld_dagcbor::to_vec(&ErrorHeader { op: -1 }).unwrap_or_default();
    bytes.extend(serde_ipld_dagcbor::to_vec(&ErrorBody { error, message }).unwrap_or_default());
    bytes.into()
}

/// `#info`: something that the client should know, and the stream goes on.
pub fn info(name: &str, message: &str) -> Result<Signal, NotCanonical> {
    Signal::new("#info", &Info { name, message })
}

#[cfg(test)]
mod tests {
    use super::error_frame;

    #[test]
    fn an_error_frame_has_the_bytes_of_the_official_server() {
        let bytes = hex::encode(error_frame("FutureCursor", "Cursor in the future."));
        assert!(bytes.starts_with("a1626f7020a2656572726f726c467574757265437572736f72676d65737361676575"), "{bytes}");
    }
}
