//! Bytes as gzip (RFC 1952) that compresses nothing: each is readable as soon as it is there, and a stream costs 8 bytes
//! of memory.
//!
//! A PDS compresses what it passes on and is not compressed yet, and then holds back what fills no block: an event would
//! come minutes late. What says that it is gzip already is let through as it comes.

use bytes::Bytes;
use http::{HeaderMap, header};

/// Deflate, no name, no time, no particular system.
const HEADER: Bytes = Bytes::from_static(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
/// Bytes of a stored block (RFC 1951 section 3.2.4).
const BLOCK_BYTES: usize = 65_535;
/// The last block, which is empty.
const END: [u8; 5] = [1, 0, 0, 0xff, 0xff];

/// Whether a client takes gzip. That it would rather have something else does not matter here.
pub(super) fn accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let (coding, quality) = item.split_once(';').unwrap_or((item, "q=1"));
        let quality = quality.trim().strip_prefix("q=").and_then(|quality| quality.parse::<f32>().ok());
        coding.trim().eq_ignore_ascii_case("gzip") && quality.is_some_and(|quality| quality > 0.0)
    })
}

/// The checksum and the length of the bytes so far, for the trailer.
pub(super) struct Gzip {
    checksum: crc32fast::Hasher,
    bytes: u32,
}

impl Gzip {
    /// The stream's state, and its beginning.
    pub fn begin() -> (Self, Bytes) {
        (Self { checksum: crc32fast::Hasher::new(), bytes: 0 }, HEADER)
    }

    /// Shares `text`, which many streams send.
    pub fn write(&mut self, mut text: Bytes) -> Vec<Bytes> {
        self.checksum.update(&text);
        let mut blocks = Vec::with_capacity(2);
        while !text.is_empty() {
            let block = text.split_to(text.len().min(BLOCK_BYTES));
            // At most 65,535; and the sum of all counts modulo 2^32.
            let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
            self.bytes = self.bytes.wrapping_add(u32::from(length));
            let (length, complement) = (length.to_le_bytes(), (!length).to_le_bytes());
            blocks.push(Bytes::copy_from_slice(&[0, length[0], length[1], complement[0], complement[1]]));
            blocks.push(block);
        }
        blocks
    }

    pub fn end(self) -> Bytes {
        let checksum = self.checksum.finalize().to_le_bytes();
        Bytes::from([&END[..], &checksum, &self.bytes.to_le_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn whoever_takes_gzip_at_all_gets_it() {
        for (value, taken) in [
            ("gzip", true),
            ("br, GZIP;q=0.1", true),
            ("identity, gzip; q=0.5", true),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;level=9", false),
            ("identity", false),
            ("*", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            assert_eq!(accepted(&headers), taken, "{value}");
        }
        assert!(!accepted(&HeaderMap::new()));
    }

    /// As `printf hello | gzip -0n` frames it, but for the system in the header and the empty last block.
    #[test]
    fn what_is_written_stands_there_in_stored_blocks() {
        let (mut gzip, begin) = Gzip::begin();
        assert_eq!(&begin[..4], &[0x1f, 0x8b, 8, 0]);
        let blocks = gzip.write(Bytes::from_static(b"hello")).concat();
        assert_eq!(blocks, b"\x00\x05\x00\xfa\xffhello");
        assert!(gzip.write(Bytes::new()).is_empty());
        assert_eq!(&gzip.end()[..], b"\x01\x00\x00\xff\xff\x86\xa6\x10\x36\x05\x00\x00\x00");
    }

    #[test]
    fn what_is_longer_than_a_block_goes_in_several() {
        let (mut gzip, _) = Gzip::begin();
        let sizes: Vec<usize> = gzip.write(Bytes::from(vec![7; 70_000])).iter().map(Bytes::len).collect();
        assert_eq!(sizes, [5, 65_535, 5, 4_465]);
        assert_eq!(gzip.end()[9..], 70_000_u32.to_le_bytes());
    }
}
