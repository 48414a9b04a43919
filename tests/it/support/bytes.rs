//! MLS messages changed by hand (RFC 9420 section 6). The server cannot tell: what it reads is in clear.

/// Behind the header of an MLSMessage stands the group id with its length, here below 64, then the epoch.
pub fn with_epoch(message: &[u8], epoch: u64) -> Vec<u8> {
    let mut message = message.to_vec();
    let at = 5 + usize::from(message[4]);
    message[at..at + 8].copy_from_slice(&epoch.to_be_bytes());
    message
}

/// The last bit is the other way round: some signature does not hold any more.
pub fn flipped(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    *message.last_mut().unwrap() ^= 1;
    message
}

/// One byte too many.
pub fn longer(message: &[u8]) -> Vec<u8> {
    [message, &[0]].concat()
}

/// An empty commit as a PublicMessage of member 0, with nonsense for signature and tags.
pub fn public_commit(group_id: &[u8], epoch: u64) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 1, u8::try_from(group_id.len()).unwrap()];
    message.extend(group_id);
    message.extend(epoch.to_be_bytes());
    // Sender: member 0. No authenticated data. Content: a commit without proposals and path.
    message.extend([1, 0, 0, 0, 0, 0, 3, 0, 0]);
    for (length, bytes) in [(&[0x40, 64][..], 64), (&[32], 32), (&[32], 32)] {
        message.extend(length);
        message.extend(vec![7; bytes]);
    }
    message
}
