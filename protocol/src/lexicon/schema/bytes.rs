//! How many bytes a base64 text stands for, without decoding it.

/// Decoded length of standard base64, padded or not; none if it is not base64. Unused bits at the end may be set.
pub(super) fn decoded_len(text: &str) -> Option<usize> {
    let padded = text.as_bytes();
    let bytes = padded.strip_suffix(b"==").or_else(|| padded.strip_suffix(b"=")).unwrap_or(padded);
    let padding = padded.len() - bytes.len();
    let rest = match (bytes.len() % 4, padding) {
        (0, 0) => 0,
        (2, 0 | 2) => 1,
        (3, 0 | 1) => 2,
        _ => return None,
    };
    let valid = bytes.iter().all(|b| ALPHABET[usize::from(*b)]);
    valid.then_some(bytes.len() / 4 * 3 + rest)
}

const ALPHABET: [bool; 256] = {
    let mut table = [false; 256];
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut i = 0;
    while i < letters.len() {
        table[letters[i] as usize] = true;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::decoded_len;

    #[test]
    fn padded_and_unpadded_texts_have_the_length_of_their_bytes() {
        for (text, len) in [("", 0), ("AQ", 1), ("AQ==", 1), ("AQI", 2), ("AQI=", 2), ("AQID", 3), ("123", 2)] {
            assert_eq!(decoded_len(text), Some(len), "{text}");
        }
        for text in ["A", "AQ=", "AQI==", "AQID=", "AQID==", "A-", "A=Q=", "====", "AQ\n", "é"] {
            assert_eq!(decoded_len(text), None, "{text}");
        }
    }
}
