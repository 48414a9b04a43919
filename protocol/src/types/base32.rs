/// Lower-case base32 without padding (RFC 4648 section 6), the alphabet of stream ids, device ids and key tags.
pub fn base32_lower(bytes: &[u8]) -> String {
    multibase::Base::Base32Lower.encode(bytes)
}
